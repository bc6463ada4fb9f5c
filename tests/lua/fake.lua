--- A scripted model inside the test: stands in for lash.model, so that runs need no network. Require it
-- before anything of lash that runs agents. It also works on a worker.
--
--     local agent = fake.agent({ tools = { echo } }, { fake.calls { { "echo", { text = "hi" } } }, "done" })
--
-- An answer may have `deltas`: { kind, what } that are told before it, each followed by a wait; `false` in
-- their place waits for ever. Without, text and calls are told at once.
--
-- Before every answer it checks D1: each call in history has exactly one output, right behind it.
local agent_module = require "lash.agent"
local json = require "lash.json"
local timer = require "lash.core.timer"

local M = {
    models = {},   -- name -> fn(conversation, view, n) -> answer
    requests = {}, -- one { model =, view = } per request, in order
}

local checked = setmetatable({}, { __mode = "k" }) -- conversation -> entries that were checked

local function check_pairing(conv)
    local open
    for i = (checked[conv] or 0) + 1, #conv.entries do
        local entry = conv.entries[i]
        if entry.type == "outcomes" then
            assert(open, "D1: outcomes without calls at entry " .. i)
            assert(#open == #entry.items, "D1: not one outcome per call at entry " .. i)
            for n, item in ipairs(entry.items) do
                assert(item.type == "outcome" and item.id == open[n].id and item.name == open[n].name,
                    "D1: outcome " .. n .. " is not that of call " .. n)
                assert(type(item.output) == "string" and type(item.status) == "string", "D1: an empty outcome")
            end
            open = nil
        else
            assert(not open, "D1: calls without outcomes before entry " .. i)
            if entry.type == "answer" then
                local calls = {}
                for _, item in ipairs(entry.items) do
                    calls[#calls + 1] = item.type == "call" and item or nil
                end
                open = #calls > 0 and calls or nil
            end
        end
    end
    assert(not open, "D1: the last calls have no outcomes")
    checked[conv] = #conv.entries
end

--- An answer of text.
function M.text(text, stop)
    return { type = "answer", items = { { type = "text", text = text } }, stop = stop or "end" }
end

--- An answer of calls: { { "tool", {arguments} or "JSON text", id }, ... }; strings among them are text.
function M.calls(list, stop)
    local items = {}
    for i, call in ipairs(list) do
        if type(call) == "string" then
            items[i] = { type = "text", text = call }
        else
            local args = call[2] or {}
            items[i] = {
                type = "call", name = call[1], id = call[3] or ("call_%d"):format(i),
                args = type(args) == "string" and args or next(args) == nil and "{}" or json.encode(args),
            }
        end
    end
    return { type = "answer", items = items, stop = stop or "calls" }
end

--- n calls of one tool, with { i = 1 } to { i = n }.
function M.many(n, tool)
    local list = {}
    for i = 1, n do
        list[i] = { tool, ('{"i":%d}'):format(i) }
    end
    return M.calls(list)
end

local count = 0

--- Declares a model that gives the answers of `steps` one after the other: an answer, a text, or a
-- function(conversation, view, n) that returns one. It fails when more are asked for.
-- @return its name
function M.model(steps)
    count = count + 1
    local name, at = "fake/" .. count, 0
    M.models[name] = function(conv, view)
        at = at + 1
        local step = steps[at]
        assert(step ~= nil, "the model is asked more often than the test says")
        if type(step) == "function" then
            return step(conv, view, at)
        end
        return step
    end
    return name
end

--- An agent on a model of its own.
function M.agent(spec, steps)
    spec.name = spec.name or "tester"
    spec.model = spec.model or M.model(steps)
    return agent_module.new(spec)
end

--- The outcomes of the n-th batch (the first) of a result's or error's conversation.
function M.outcomes(conv, n)
    n = n or 1
    for _, entry in ipairs(conv.entries) do
        if entry.type == "outcomes" then
            n = n - 1
            if n == 0 then
                return entry.items
            end
        end
    end
    error("there is no such batch of outcomes")
end

--- Runs one batch of calls with these tools.
-- @return its outcomes, the result, the events
function M.batch(tools, calls, spec)
    spec = spec or {}
    spec.tools = tools
    local events = {}
    local agent = M.agent(spec, { M.calls(calls), "done" })
    local result = agent:run("go", { on_event = function(event)
        events[#events + 1] = event
    end })
    return M.outcomes(result.conversation), result, events
end

package.loaded["lash.model"] = {
    resolve = function(name)
        if not M.models[name or false] then
            return nil, { code = "model", exit = 78, message = "there is no model '" .. tostring(name) .. "'" }
        end
        return { label = name, provider_name = "fake", model = name }
    end,
    ask = function(target, conv, view, listener)
        check_pairing(conv)
        listener:attempt(1, false)
        M.requests[#M.requests + 1] = { model = target.model, view = view }
        timer.sleep(0) -- a request is a wait
        local answer, err = M.models[target.model](conv, view)
        if type(answer) == "string" then
            answer = M.text(answer)
        elseif not answer then
            return nil, err
        end
        for _, delta in ipairs(answer.deltas or {}) do
            if delta then
                listener(delta[1], delta[2])
            end
            timer.sleep(delta and 0 or 3600)
        end
        if answer.fails then
            return nil, answer.fails
        elseif not answer.deltas then
            require("lash.provider.stream").tell(answer, listener)
        end
        answer.provider, answer.model = "fake", target.model
        answer.usage = answer.usage or { input = 1, output = 1, total = 2 }
        return answer
    end,
}

return M
