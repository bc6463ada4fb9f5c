-- The body of a request to Anthropic: settings, system prompt, tools, and the history in the middle.
--
-- Marks for the cache of prompts: one at the end of the system prompt (or of the tools, where there is none),
-- so that all conversations of an agent share it; and one at the top of the body, which stands for the last
-- block, so that a conversation pays only for what is new. The text of the history has none, it never changes.
-- Servers of others get the first mark only, as not all know the second: quirks.cache = true says that this one
-- does (a gateway to Anthropic), false that it wants none.
local answer = require "lash.provider.anthropic.answer"
local history = require "lash.provider.history"
local json = require "lash.json"
local messages = require "lash.provider.anthropic.messages"
local own_fields = require "lash.provider.own"
local schema = require "lash.provider.anthropic.schema"

local M = {}

local NAME = "anthropic"

-- ---- models ----

-- Models from before 4.6 think only when they get a budget for it, and know no effort.
local function needs_budget(model)
    return model:find("claude%-[1-3]%f[%D]") ~= nil -- claude-3-5-haiku
        or model:find("claude%-%a+%-3") ~= nil
        or model:find("claude%-%a+%-4$") ~= nil or model:find("claude%-%a+%-4@") ~= nil
        or model:find("claude%-%a+%-4[-.][0-5]%f[%D]") ~= nil -- claude-sonnet-4-5-20250929
        or model:find("claude%-%a+%-4%-20%d%d%d%d%d%d") ~= nil
end

-- Those from before 4.5 know no structured answers.
local function knows_output(model)
    return not needs_budget(model) or model:find("%-4[-.]5%f[%D]") ~= nil
end

-- ---- settings -> fields ----

-- The limit of an answer has to be told, and thinking counts. 20000 is enough to think and to write long files,
-- known to all models of today, and the most that a server gives within ten minutes, stream or not (the official
-- client refuses from 21333 on). Without thinking, as on servers of others, where the context may be small, 8192.
local THINKING_TOKENS, PLAIN_TOKENS = 20000, 8192

local BUDGETS = { minimal = 1024, low = 2048, medium = 8192, high = 16384, xhigh = 22000, max = 22000 }

-- The user's own say about thinking goes before; `reasoning` then only asks for it in readable form. Who must
-- call a tool cannot think.
local function thinking(settings, own, target, forced)
    local quirk = (target.quirks or {}).think
    if own ~= nil then
        local kind = type(own) == "table" and own.type
        return settings.reasoning and (kind == "adaptive" or kind == "between_tools") and { display = "summarized" }
            or nil
    elseif quirk == false then
        return nil
    elseif settings.effort == "none" then
        return { type = "disabled" }
    elseif forced or not settings.effort and not settings.reasoning then
        return nil
    elseif quirk == "adaptive" or quirk ~= "budget" and not needs_budget(target.model) then
        return { type = "adaptive", display = settings.reasoning and "summarized" or nil }
    end
    local budget = BUDGETS[settings.effort] or BUDGETS.medium
    if settings.max_tokens then
        budget = math.min(budget, settings.max_tokens // 2)
    end
    return budget >= 1024 and { type = "enabled", budget_tokens = math.tointeger(budget) or budget } or nil
end

local function effort(settings, target)
    local word, quirk = settings.effort, (target.quirks or {}).effort
    if not word or word == "none" or quirk == false or not quirk and needs_budget(target.model) then
        return nil
    end
    return { effort = word == "minimal" and "low" or word }
end

local function max_tokens(fields, target)
    local thinks = type(fields.thinking) == "table" and fields.thinking or {}
    if type(thinks.budget_tokens) == "number" then
        return (math.tointeger(thinks.budget_tokens) or math.ceil(thinks.budget_tokens)) + PLAIN_TOKENS
    elseif thinks.type == "disabled" or thinks.type == nil and not answer.is_own(target) then
        return PLAIN_TOKENS
    end
    return THINKING_TOKENS
end

local function whole(number)
    return number and math.tointeger(number) or number
end

local NOTHING = {}
local OURS = { messages = true, stream = true, model = true, system = true }

--- own_settings(settings, target) -> the provider's own settings, a copy; JSON texts of its own tools | nil, what
-- cannot be set
function M.own_settings(settings, target)
    local fields, tools = own_fields.fields(settings, NAME, target, OURS)
    local betas = fields and fields.betas
    for _, beta in ipairs(type(betas) == "table" and betas or { betas }) do
        if type(beta) ~= "string" or beta:find("[^%w._,-]") then
            return nil, "settings.anthropic.betas must be a text or a list of texts, names of letters, digits and '-'"
        end
    end
    return fields, tools
end

local function tool_choice(choice, alone)
    local field = { type = "auto" }
    if type(choice) == "table" then
        field = { type = "tool", name = choice.name }
    elseif choice == "none" then
        return { type = "none" }
    elseif choice == "required" then
        field = { type = "any" }
    end
    field.disable_parallel_tool_use = alone or nil
    return field
end

local FORCED = { any = true, tool = true }
local THINKS = { enabled = true, adaptive = true }

--- is_forced(view) -> whether its model must call a tool
function M.is_forced(view)
    return view.tool_choice == "required" or type(view.tool_choice) == "table"
end

-- target -> where conv.scratch says that its model cannot be told to call a tool
local free_names = setmetatable({}, { __mode = "k" })

local function free_name(target)
    free_names[target] = free_names[target] or ("anthropic_free\n%s\n%s"):format(target.origin or "", target.model)
    return free_names[target]
end

--- unforce(conv, target) -> whether it was not known yet that this model cannot be told to call a tool
function M.unforce(conv, target)
    local name = free_name(target)
    local known = conv.scratch[name]
    conv.scratch[name] = true
    return not known
end

-- A model that was told to think must not be forced to call.
local function unforce(fields)
    local choice, thinks = fields.tool_choice, fields.thinking
    if type(choice) == "table" and FORCED[choice.type] and type(thinks) == "table" and THINKS[thinks.type] then
        choice.type, choice.name = "auto", nil
    end
end

-- ---- the body but its history ----

local tools_json = history.encoder(function(tool)
    return {
        name = tool.name,
        description = tool.description ~= "" and tool.description or nil,
        input_schema = tool.strict and schema.output(tool.schema) or schema.tool(tool.schema),
        strict = tool.strict or nil,
    }
end)

-- Calls in the history need tools that are declared: those that were called, when the agent has none.
local function called_tools(names)
    local tools = {}
    for i, name in ipairs(names) do
        tools[i] = { name = name, description = "Not available any more." }
    end
    return tools
end

-- -> JSON of the tools, "" without; whether there are none but those of the past
local function tools_text(view, more, names)
    if view.tools and #view.tools > 0 then
        table.insert(more, 1, tools_json(view.tools))
    end
    if not more[1] and names[1] then
        return tools_json(called_tools(names)), true
    end
    return table.concat(more, ","), false
end

-- The schema of a structured answer goes into its field, or in words into the prompt; for servers that may not
-- know the field, both.
local function structured(fields, view, target)
    local quirk = (target.quirks or {}).output
    local native = quirk ~= false and knows_output(target.model) and schema.output(view.output.schema)
    if native then
        fields.output_config = fields.output_config or {}
        fields.output_config.format = { type = "json_schema", schema = native }
    end
    return not (native and (quirk or answer.is_own(target))) and history.output_hint(view.output) or nil
end

-- Where marks for the cache go: nowhere, on what all conversations share, at the end too.
local function cache_marks(fields, target)
    local quirk = (target.quirks or {}).cache
    if fields.cache_control == false then
        fields.cache_control = nil
        return nil
    elseif quirk == false then
        return nil
    elseif fields.cache_control == nil and (quirk or answer.is_own(target)) then
        fields.cache_control = { type = "ephemeral" }
    end
    return type(fields.cache_control) == "table" and assert(json.encode(fields.cache_control, { lossy = true }))
        or fields.cache_control == nil and '{"type":"ephemeral"}' or nil
end

local function system_text(view, hint)
    local text = view.system or ""
    if hint then
        text = text:find("%S") and text .. "\n\n" .. hint or hint
    end
    return text:find("%S") and text or nil
end

local function settings_fields(view, own, target, forced)
    local settings = view.settings or {}
    local stop = settings.stop
    return {
        model = target.model,
        max_tokens = whole(settings.max_tokens),
        temperature = settings.temperature,
        top_p = settings.top_p,
        top_k = whole(settings.top_k),
        stop_sequences = type(stop) == "string" and json.array { stop } or stop,
        thinking = thinking(settings, own.thinking, target, forced),
        output_config = effort(settings, target),
    }
end

-- All of the body but the history, in two halves around it.
-- @param about what it depends on besides the view: { stream =, bare = without thinking, free = no tool must be
-- called, names = }
local function frame(view, target, about)
    local own, more = M.own_settings(view.settings or {}, target)
    if not own then
        return nil, more
    end
    local forced = M.is_forced(view) and not about.free
    local fields, raw = settings_fields(view, own, target, forced), { messages = "[\0]" } -- no JSON text has a NUL
    local hint = view.output and structured(fields, view, target)
    local tools, gone = tools_text(view, more, about.names)
    if tools ~= "" then
        fields.tool_choice = tool_choice(gone and "none" or (forced or view.tool_choice == "none") and view.tool_choice,
            view.parallel == false and (target.quirks or {}).parallel ~= false)
    end
    own.betas = nil
    history.merge(fields, own)
    if about.bare then
        fields.thinking = nil
    end
    unforce(fields)
    fields.max_tokens = fields.max_tokens or max_tokens(fields, target)
    fields.stream = about.stream or nil
    local system, mark = system_text(view, hint), cache_marks(fields, target)
    if system then
        raw.system = mark and ('[{"cache_control":%s,"text":%s,"type":"text"}]'):format(mark, history.quote(system))
            or history.quote(system)
    elseif mark and tools ~= "" then
        tools = tools:sub(1, -2) .. ',"cache_control":' .. mark .. "}"
    end
    raw.tools = tools ~= "" and "[" .. tools .. "]" or nil
    local text, err = history.object(fields, raw)
    if not text then
        return nil, err
    end
    local before, after = text:match("^(.-)%z(.*)$")
    return { target = target, before = before, after = after,
        budget = type(fields.thinking) == "table" and fields.thinking.type == "enabled" }
end

-- view -> kind -> its frame: the same for all requests that are made of it
local frames = setmetatable({}, { __mode = "k" })

-- @return what `about` says, in one word
local function kind_of(about)
    local kind = (about.stream and "s" or "w") .. (about.bare and "b" or "t") .. (about.free and "f" or "c")
    return about.names[1] and kind .. " " .. table.concat(about.names, ",") or kind
end

local function kept_frame(view, target, about)
    local kind = kind_of(about)
    local kept = frames[view] or {}
    frames[view] = kept
    if not kept[kind] or kept[kind].target ~= target then
        local made, err = frame(view, target, about)
        if not made then
            return nil, err
        end
        kept[kind] = made
    end
    return kept[kind]
end

--- text(conv, view, target, stream) -> the body | nil, what cannot be sent
function M.text(conv, view, target, streamed)
    local list, state = messages.messages(conv, target)
    if not list then
        return nil, state
    end
    local none = not (view.tools and view.tools[1])
    local about = { stream = streamed or false, bare = false, free = conv.scratch[free_name(target)] or false,
        names = none and state.names or NOTHING }
    local made, err = kept_frame(view, target, about)
    if made and made.budget and state.looped and not state.thinks then
        about.bare = true -- a turn that began without thinking has to end without
        made, err = kept_frame(view, target, about)
    end
    if not made then
        return nil, err
    end
    return history.body(made.before, list, made.after)
end

return M
