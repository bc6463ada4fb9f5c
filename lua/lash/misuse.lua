--- What the library says when it is used wrongly, raised where the user called it.
--
-- Each of these is called by the public function itself, never by a helper of it and not as a tail
-- call, so that the line in the message is the user's. `who` is its name, as "lash.url.parse".
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

--- @param known list of names
-- @return the options, {} for nil
function M.options(who, options, known)
    if options == nil then
        return {}
    end
    if type(options) ~= "table" then
        error(("%s: options must be a table, not a %s"):format(who, type(options)), 3)
    end
    for name in next, options do
        local found = false
        for _, one in ipairs(known) do
            found = found or one == name
        end
        if not found then
            error(("%s: unknown option '%s'%s"):format(who, tostring(name),
                type(name) == "string" and near.hint(name, known) or ""), 3)
        end
    end
    return options
end

return M
