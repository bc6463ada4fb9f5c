--- Checks of declarations: tools, prompts and agents refuse what they do not understand, naming it.
local near = require "lash.near"

local M = {}

local function matches(value, kinds)
    for kind in kinds:gmatch("[^|]+") do
        if type(value) == kind or (kind == "integer" and math.type(value) == "integer") then
            return true
        end
    end
    return false
end

--- Checks the fields of a declaration.
-- @param what how messages begin, such as "lash.tool"
-- @param spec the table that the user wrote
-- @param fields name -> Lua types ("string|table"), a "!" in front: the field must be there
-- @return nil, or the sentence that says what is wrong
function M.fault(what, spec, fields)
    if type(spec) ~= "table" then
        return ("%s: expected a table of fields, got %s"):format(what, type(spec))
    end
    if type(spec.name) == "string" then
        what = ("%s '%s'"):format(what, spec.name)
    end
    for name, value in pairs(spec) do
        local kinds = fields[name]
        if kinds == nil then
            local hint = type(name) == "string" and near.hint(name, near.names(fields)) or ""
            local shown = type(name) == "string" and ("'%s'"):format(name) or ("[%s]"):format(tostring(name))
            return ("%s: unknown field %s%s; the fields are %s"):format(what, shown, hint,
                table.concat(near.names(fields), ", "))
        end
        kinds = kinds:gsub("^!", "")
        if not matches(value, kinds) then
            return ("%s: field '%s' must be %s, got %s"):format(what, name, kinds:gsub("|", " or "), type(value))
        end
    end
    for _, name in ipairs(near.names(fields)) do
        if fields[name]:sub(1, 1) == "!" and spec[name] == nil then
            return ("%s: field '%s' is missing"):format(what, name)
        end
    end
    return nil
end

--- A name as all providers take it: letters, digits, _ and -, not beginning with a digit or -.
-- @return nil, or the sentence that says what is wrong
function M.name_fault(what, name)
    if not name:find("^[%a_][%w_-]*$") or #name > 63 then
        return ("%s '%s': a name has 1 to 63 letters, digits, _ or -, and begins with a letter or _ "
            .. "(model providers take no others)"):format(what, name)
    end
    return nil
end

--- The function of a declaration and its mark: exactly one of `sync` and `async`.
-- @return "sync" or "async", function | nil, message
function M.mark(what, spec)
    if spec.sync and spec.async then
        return nil, ("%s '%s': it has both marks; keep `async` (a task that waits) or `sync` (a worker that "
            .. "blocks or computes)"):format(what, spec.name)
    elseif spec.sync then
        return "sync", spec.sync
    elseif spec.async then
        return "async", spec.async
    end
    return nil, ("%s '%s': it has no function; write `async = function(...)` (a task that waits) or "
        .. "`sync = function(...)` (a worker that blocks or computes)"):format(what, spec.name)
end

return M
