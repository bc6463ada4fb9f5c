--- A provider's own fields, as users write them: settings[PROTOCOL] and, over them, settings[NAME] of the provider's
-- name here. They are copied, as other requests are made of the same settings; and they may be any table at all.
local history = require "lash.provider.history"
local json = require "lash.json"

local M = {}

-- Deeper ones contain themselves: nobody writes them by hand.
local LEVELS = 100

local function copied(value, level)
    if type(value) ~= "table" or getmetatable(value) == json.verbatim_mt then
        return value
    elseif level > LEVELS then
        return nil
    end
    local copy = setmetatable({}, getmetatable(value))
    for name, part in pairs(value) do
        local new = copied(part, level + 1)
        if new == nil then
            return nil
        end
        copy[name] = new
    end
    return copy
end

local function part_of(settings, name, ours)
    local part = copied(settings[name] or {}, 1)
    if not part then
        return nil, ("settings.%s is too deep, or contains itself"):format(name)
    end
    for field in pairs(part) do
        if type(field) ~= "string" then
            return nil, ("settings.%s: the name of a field must be a string, found a %s"):format(name, type(field))
        elseif ours[field] then
            return nil, ("settings.%s.%s is lash's own to send"):format(name, field)
        end
    end
    local tools = part.tools
    if tools ~= nil and (type(tools) ~= "table" or next(tools) ~= nil and tools[1] == nil) then
        return nil, ("settings.%s.tools must be a list"):format(name)
    end
    part.tools = nil
    return part, tools or {}
end

--- fields(settings, protocol, target, ours) -> all fields but tools; list of JSON texts, one for each tool | nil, why
-- @param ours set of the names that are lash's own to send
function M.fields(settings, protocol, target, ours)
    local all, texts = {}, {}
    for _, name in ipairs { protocol, target.provider_name ~= protocol and target.provider_name or nil } do
        local part, tools = part_of(settings, name, ours)
        if not part then
            return nil, tools
        end
        history.merge(all, part)
        for _, tool in ipairs(tools) do
            local text, err = json.encode(tool, { name = ("settings.%s.tools"):format(name), lossy = true })
            if not text then
                return nil, err.message
            end
            texts[#texts + 1] = text
        end
    end
    return all, texts
end

return M
