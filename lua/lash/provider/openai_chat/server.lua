--- What is known of a server of the Chat Completions protocol: from its address, and from what the
-- configuration says about it (target.quirks, which always wins). Targets do not change.
local M = {}

local function host(target)
    local name = (target.base_url or ""):lower():match("^%a+://([^/?#]*)") or ""
    return (name:gsub("^.*@", ""):gsub(":%d*$", ""))
end

local function is_azure(name)
    return name:find("%.azure%.com$") ~= nil or name:find("%.azure%.us$") ~= nil
        or name:find("%.azure%.cn$") ~= nil
end

local known = setmetatable({}, { __mode = "k" }) -- target -> its traits

--- is_azure(target) -> whether its address is one of Azure, where keys have a header of their own.
function M.is_azure(target)
    return M.traits(target).azure
end

local function choose(value, default)
    if value == nil then
        return default
    end
    return value
end

local function find(target)
    local quirks, name = target.quirks or {}, host(target)
    local openai, azure = name == "api.openai.com", is_azure(name)
    return {
        openai = openai,
        azure = azure,
        google = name == "generativelanguage.googleapis.com",
        max_tokens = quirks.max_tokens or (openai or azure) and "max_completion_tokens" or "max_tokens",
        role = quirks.role or "system",
        stream_usage = quirks.stream_usage ~= false,
        content_null = (quirks.content_null == "" or quirks.content_null == false) and '""' or "null",
        ids = quirks.ids,
        api_key_header = quirks.api_key_header or azure and "api-key" or nil,
        output = choose(quirks.output, true),
        parallel = quirks.parallel ~= false,
        think = choose(quirks.think, not openai),
        effort = quirks.effort ~= false and quirks.reasoning ~= false,
        strict = quirks.strict ~= false,
        anonymous = not (target.base_url or ""):find("^%a+://[^/?#]*@"),
    }
end

--- traits(target) -> { openai, azure, google = whether the server is theirs; and, as quirks or by the address:
--   max_tokens      name of the field with the limit of tokens
--   role            of the system prompt: "system" or "developer"
--   stream_usage    whether stream_options are sent
--   content_null    content of an assistant message that has calls only, as JSON text
--   ids             length of ids of calls that the server insists on, or nil
--   api_key_header  name of the header with the bare key, nil for `authorization: Bearer`
--   output          how a schema for the answer is sent: true, "json_object", false
--   parallel        whether parallel_tool_calls is sent
--   think           whether a leading <think>...</think> of the content is reasoning
--   effort          whether reasoning_effort is sent
--   strict          whether a schema may be strict
--   anonymous       whether a request without a key says so: not where the address has a user }
function M.traits(target)
    local traits = known[target]
    if not traits then
        traits = find(target)
        known[target] = traits
    end
    return traits
end

return M
