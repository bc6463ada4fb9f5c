--- What the library says when it is used wrongly, raised where the user called it.
--
-- The functions that take `who`, the name of a public function as "lash.url.parse", are called by that
-- function itself, never by a helper of it and not as a tail call, so that the line in the message is
-- the user's. The others only tell what is wrong, for modules that raise it in their own way.
local near = require "lash.near"

local M = {}

--- raise(who, text, ...): text is a format
function M.raise(who, text, ...)
    error(("%s: %s"):format(who, text:format(...)), 3)
end

--- Lets strings pass, and nothing else: a number would be written in one form of several.
function M.string(who, what, value)
    if type(value) ~= "string" then
        error(("%s: %s must be a string, not a %s"):format(who, what, type(value)), 3)
    end
end

--- Lets tables pass.
function M.table(who, what, value)
    if type(value) ~= "table" then
        error(("%s: %s must be a table, not a %s"):format(who, what, type(value)), 3)
    end
end

--- "unknown option 'x' (did you mean 'y'?)"
-- @param known list of names
function M.stranger(name, known)
    return ("unknown option '%s'%s"):format(tostring(name), type(name) == "string" and near.hint(name, known) or "")
end

-- list of names -> the set of them: such lists are constants, and looked into with each call
local sets = setmetatable({}, { __mode = "k" })

local function set_of(list)
    local set = {}
    for _, name in ipairs(list) do
        set[name] = true
    end
    sets[list] = set
    return set
end

--- Looks for an option that is none of the list `known`, a constant, nor the key `extra`.
-- @return nil, or what M.stranger says of it
function M.unknown(options, known, extra)
    local set = sets[known] or set_of(known)
    for name in next, options do
        if not set[name] and name ~= extra then
            return M.stranger(name, known)
        end
    end
    return nil
end

--- The name of something that all tasks and workers share.
-- @return nil, or what is wrong with it
function M.name_fault(name)
    if type(name) == "string" and name ~= "" and #name <= 255 and not name:find("\0", 1, true) then
        return nil
    end
    return ("a name is a text of 1 to 255 bytes without zero bytes, not %s"):format(
        type(name) == "string" and ("%q"):format(name:sub(1, 40)) or "a " .. type(name))
end

--- @param known list of names
-- @return the options, {} for nil
function M.options(who, options, known)
    if options == nil then
        return {}
    end
    if type(options) ~= "table" then
        error(("%s: options must be a table, not a %s"):format(who, type(options)), 3)
    end
    local fault = M.unknown(options, known)
    if fault then
        error(("%s: %s"):format(who, fault), 3)
    end
    return options
end

return M
