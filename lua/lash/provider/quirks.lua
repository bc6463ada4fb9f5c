--- Quirks: in what a server differs from the protocol that it speaks. A provider's file reads them from
-- target.quirks; they come from lash.provider.aliases, and from `quirks` in config.lua.
local near = require "lash.near"

local M = {}

-- name -> what it may be: a Lua type, or one of several values
M.KNOWN = {
    -- openai-chat
    max_tokens = { "max_tokens", "max_completion_tokens" }, -- the field for the limit of an answer
    role = { "system", "developer" },  -- of the system prompt
    stream_usage = "boolean",          -- false: the server refuses stream_options
    content_null = { "null", "" },     -- the content beside calls: null, or an empty text
    ids = "number",                    -- ids of calls have exactly so many letters and digits
    api_key_header = "string",         -- the key goes into this header, not into authorization; openai, too
    -- openai and openai-chat
    parallel = "boolean",              -- false: the server refuses parallel_tool_calls
    strict = "boolean",                -- false: no schema is strict
    reasoning = "boolean",             -- false: neither reasoning nor its sealed content is asked for
    -- several
    output = { true, false, "json_object" },  -- structured answers: true = by schema, false = in words only
    think = { true, false, "adaptive", "budget", "level" }, -- reasoning: how it is asked for, or stands in the answer
    effort = "boolean",                -- false: the server refuses the effort of reasoning
    version = "string",                -- of the protocol
    cache = "boolean",                 -- false: no marks for the cache of prompts
}

local function allows(kinds, value)
    if type(kinds) == "table" then
        for _, word in ipairs(kinds) do
            if value == word then
                return true
            end
        end
        return false
    end
    return ("|" .. kinds .. "|"):find("|" .. type(value) .. "|", 1, true) ~= nil
end

local function wanted(kinds)
    if type(kinds) == "table" then
        local words = {}
        for i, word in ipairs(kinds) do
            words[i] = type(word) == "string" and '"' .. word .. '"' or tostring(word)
        end
        return table.concat(words, " or ")
    end
    return (kinds:gsub("boolean", "true or false"):gsub("string", "a text"):gsub("number", "a number"):gsub("|", ", "))
end

--- fault(path, quirks) -> nil, or the sentence that says what is wrong. `path` is where they were written.
function M.fault(path, quirks)
    for _, name in ipairs(near.names(M.KNOWN)) do
        local value, kinds = quirks[name], M.KNOWN[name]
        if value ~= nil and not allows(kinds, value) then
            return ("%s.%s must be %s, got %s"):format(path, name, wanted(kinds),
                type(value) == "string" and ("'%s'"):format(value) or type(value))
        end
    end
    for name in pairs(quirks) do
        if M.KNOWN[name] == nil then
            return ("%s.%s is no quirk lash knows%s; there are %s"):format(path, tostring(name),
                near.hint(tostring(name), near.names(M.KNOWN)), table.concat(near.names(M.KNOWN), ", "))
        end
    end
    return nil
end

return M
