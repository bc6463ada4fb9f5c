-- Google's generateContent (the Gemini API with a key): POST {base}/v1beta/models/NAME:generateContent, or
-- :streamGenerateContent?alt=sse. A pure translator: request() makes bytes, read() and reader() understand
-- answers; nothing here waits.
--
-- Here is the request but for the history, which gemini/contents.lua makes; answers are in
-- gemini/answer.lua, errors in gemini/errors.lua.
--
-- Of target.quirks: version of the API; output = false where schemas of answers are not known, true where they
-- are known beside tools, too; think = "level" or "budget", how effort is said; think = false or
-- effort = false: it is not said at all.
local answers = require "lash.provider.gemini.answer"
local contents = require "lash.provider.gemini.contents"
local dialect = require "lash.provider.dialect"
local fault = require "lash.provider.fault"
local history = require "lash.provider.history"
local json = require "lash.json"
local own = require "lash.provider.own"

local M = { name = "gemini" }

--- See lash.provider.registry.
M.defaults = {
    keys = { "GOOGLE_API_KEY", "GEMINI_API_KEY" },
    base_var = "GOOGLE_GEMINI_BASE_URL",
    base = "https://generativelanguage.googleapis.com",
    example = "http://localhost:8080",
    sample = "gemini-2.5-flash",
    more = { api_version = "GOOGLE_GENAI_API_VERSION" },
}

-- Settings that this protocol has no field for.
M.ignores = { verbosity = true }

M.read, M.reader, M.picker = answers.read, answers.reader, answers.picker

--- forget(conv): from now on the answers so far are sent as if another provider had given them, as
-- their signatures were refused (another key or model).
-- @return whether there was anything to forget
function M.forget(conv)
    return history.forget(conv, M.name)
end

-- ---- body ----

local declarations = history.encoder(function(tool)
    return {
        name = tool.name,
        description = tool.description or "",
        parametersJsonSchema = dialect.gemini(tool.schema),
    }
end)

local function tools_json(tools)
    return '{"functionDeclarations":[' .. declarations(tools) .. "]}"
end

local function calling(choice)
    if choice == "none" then
        return { mode = "NONE" }
    elseif choice == "required" then
        return { mode = "ANY" }
    elseif type(choice) == "table" then
        return { mode = "ANY", allowedFunctionNames = json.array { choice.name } }
    end
    return { mode = "AUTO" }
end

local LEVELS = { none = "MINIMAL", minimal = "MINIMAL", low = "LOW", medium = "MEDIUM", high = "HIGH",
    xhigh = "HIGH", max = "HIGH" }
local BUDGETS = { none = 0, minimal = 512, low = 1024, medium = 8192, high = 24576, xhigh = 24576, max = 24576 }

-- The generation of a model's family, nil when its name does not tell.
local function generation_of(model)
    return tonumber(model:match("gemini%-(%d+%.?%d*)"))
end

-- The 2.5 family counts the tokens of thinking, later ones have levels. 2.5 pro cannot do without.
local function effort_fields(effort, model, say)
    if say == "level" or say ~= "budget" and not model:find("gemini%-2") then
        return { thinkingLevel = LEVELS[effort] or effort:upper() }
    end
    local budget = BUDGETS[effort] or BUDGETS.medium
    return { thinkingBudget = model:find("pro") and math.max(budget, 128) or budget }
end

-- Summaries are asked for where there is thinking at all: elsewhere the wish would be an error. So would be
-- two measures of thinking: the one among the provider's own fields counts.
local function thinking(settings, extra, model, quirks)
    if quirks.think == false then
        return nil
    end
    local said = extra.generationConfig
    said = said and type(said.thinkingConfig) == "table" and said.thinkingConfig or {}
    local config = {}
    if settings.effort and quirks.effort ~= false and said.thinkingLevel == nil and said.thinkingBudget == nil then
        config = effort_fields(settings.effort, model, quirks.think)
    end
    local thinks = (generation_of(model) or 3) >= 2.5 and not model:find("gemma") and config.thinkingBudget ~= 0
    if settings.reasoning and thinks then
        config.includeThoughts = true
    end
    return next(config) and config or nil
end

local function generation(settings, extra, target)
    return {
        maxOutputTokens = settings.max_tokens,
        temperature = settings.temperature,
        topP = settings.top_p,
        topK = settings.top_k,
        seed = settings.seed,
        stopSequences = type(settings.stop) == "string" and json.array { settings.stop } or settings.stop,
        thinkingConfig = thinking(settings, extra, target.model, target.quirks or {}),
    }
end

-- Whether the model takes a schema for its answer: beside tools only from the third generation on.
local function takes_schema(target, with_tools)
    local quirk, model = (target.quirks or {}).output, target.model
    local from = generation_of(model)
    if type(quirk) == "boolean" then
        return quirk
    elseif with_tools then
        return from ~= nil and from >= 3
    end
    return not model:find("gemma")
end

-- What the system prompt is, and the fields of the structured answer that is asked for.
local function structured(fields, view, target, with_tools)
    local system = view.system or ""
    if view.output and takes_schema(target, with_tools) then
        fields.generationConfig.responseMimeType = "application/json"
        fields.generationConfig.responseJsonSchema = dialect.gemini(view.output.schema, true)
    elseif view.output then
        local hint = history.output_hint(view.output)
        system = system ~= "" and system .. "\n\n" .. hint or hint
    end
    if system ~= "" then
        fields.systemInstruction = { parts = json.array { { text = system } }, role = "user" }
    end
end

local OURS = { contents = true, model = true, continuationToken = true }

-- The provider's own fields, and the JSON of all tools: the declared ones, then those that the settings name.
local function own_fields(view, target)
    local extra, tools = own.fields(view.settings or {}, M.name, target, OURS)
    if not extra then
        return nil, tools
    elseif extra.generationConfig ~= nil and not history.is_object(extra.generationConfig) then
        return nil, "settings.gemini.generationConfig must be a table of fields"
    elseif view.tools and #view.tools > 0 then
        table.insert(tools, 1, tools_json(view.tools))
    end
    return extra, tools
end

-- All of the body but the history, in two halves around it.
-- @param token of an answer that was begun
local function frame(view, target, token)
    local settings = view.settings or {}
    local extra, tools = own_fields(view, target)
    if not extra then
        return nil, tools
    end
    local raw = { contents = "[\0]", -- no JSON text has a NUL
        tools = tools[1] and "[" .. table.concat(tools, ",") .. "]" or nil }
    local fields = { generationConfig = generation(settings, extra, target), continuationToken = token }
    if view.tools and #view.tools > 0 then
        fields.toolConfig = { functionCallingConfig = calling(view.tool_choice) }
    end
    structured(fields, view, target, tools[1] ~= nil)
    history.merge(fields, extra)
    if next(fields.generationConfig) == nil then
        fields.generationConfig = nil
    end
    local text, err = history.object(fields, raw)
    if not text then
        return nil, err
    end
    local before, after = text:match("^(.-)%z(.*)$")
    return { target = target, before = before, after = after }
end

-- view -> its frame: the same for all requests that are made of it, but where an answer is continued
local frames = setmetatable({}, { __mode = "k" })

local function frame_of(view, target, token)
    local kept = frames[view]
    if token then
        return frame(view, target, token)
    elseif kept and kept.target == target then
        return kept
    end
    local made, why = frame(view, target)
    if made then
        frames[view] = made
    end
    return made, why
end

-- ---- addresses ----

-- {base}/{version}{path}, the base's own query kept
local function url(target, path, query)
    local base, own = target.base_url:match("^([^?#]*)%??([^#]*)")
    base = base:gsub("/+$", "")
    if not base:find("/v%d+%a*%d*$") then
        base = base .. "/" .. (target.api_version or (target.quirks or {}).version or "v1beta")
    end
    query = query ~= "" and own ~= "" and query .. "&" .. own or query .. own
    return base .. path .. (query ~= "" and "?" .. query or "")
end

local function escaped(text, kept)
    return (text:gsub("[^%w%-._~" .. kept .. "]", function(c)
        return ("%%%02X"):format(c:byte())
    end))
end

local function model_path(model)
    if not model:find("^models/") and not model:find("^tunedModels/") then
        model = "models/" .. model
    end
    return "/" .. escaped(model, "/")
end

local function headers_of(target, accept)
    local headers = { accept = accept, ["x-goog-api-key"] = target.key }
    for name, value in pairs(target.headers or {}) do
        headers[name:lower()] = value
    end
    return headers
end

-- target -> whether it is a stream -> url and headers of its requests, which are always the same
local heads = setmetatable({}, { __mode = "k" })

local function head(target, stream)
    local of, kind = heads[target], stream and "stream" or "whole"
    if not of then
        of = {}
        heads[target] = of
    end
    if not of[kind] then
        local path = model_path(target.model) .. (stream and ":streamGenerateContent" or ":generateContent")
        local headers = headers_of(target, stream and "text/event-stream" or "application/json")
        headers["content-type"] = "application/json"
        of[kind] = { url = url(target, path, stream and "alt=sse" or ""), headers = headers }
    end
    return of[kind]
end

--- request(conv, view, target, stream, begun) -> { url =, headers =, body = } | nil, err
-- `begun` is what read() gave of an answer that the server gives in several requests.
function M.request(conv, view, target, stream, begun)
    conv.scratch = conv.scratch or {}
    local made, why = frame_of(view, target, begun and begun.token)
    local texts
    if made then
        texts, why = contents.texts(conv, target)
    end
    if not texts then
        return nil, fault.new { code = "bad_request", exit = 64, message = target.provider_name .. ": " .. why }
    end
    local kept = head(target, stream)
    return { url = kept.url, headers = kept.headers, body = history.body(made.before, texts, made.after) }
end

-- ---- the list of models ----

--- models_request(target, page) -> { url =, headers = }; `page` as read_models() gave it
function M.models_request(target, page)
    local query = "pageSize=1000" .. (page and "&pageToken=" .. escaped(page, "") or "")
    return { url = url(target, "/models", query), headers = headers_of(target, "application/json") }
end

local function generates(model)
    local methods = model.supportedGenerationMethods
    if type(methods) ~= "table" then
        return true
    end
    for _, method in ipairs(methods) do
        if method == "generateContent" then
            return true
        end
    end
    return false
end

local function tokens(value)
    local n = history.count(value)
    return n > 0 and n or nil
end

--- read_models(value, target) -> list of { id =, name =, context =, output = }, next page | nil; or nil, err
-- Those that answer to generateContent.
function M.read_models(value, target)
    if not history.is_object(value) or type(value.models or {}) ~= "table" then
        return nil, fault.nonsense(target, {}, "is no list of models")
    end
    local list = {}
    for _, model in ipairs(value.models or {}) do
        if history.is_object(model) and type(model.name) == "string" and model.name ~= "" and generates(model) then
            list[#list + 1] = {
                id = (model.name:gsub("^models/", "")),
                name = type(model.displayName) == "string" and model.displayName or nil,
                context = tokens(model.inputTokenLimit),
                output = tokens(model.outputTokenLimit),
            }
        end
    end
    local page = value.nextPageToken
    return list, type(page) == "string" and page ~= "" and page or nil
end

return M
