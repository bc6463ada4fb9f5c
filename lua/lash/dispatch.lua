--- The dispatcher: a batch of calls in, exactly one outcome per call out, in the same order. Never
-- raises, but when the task that runs it is cancelled.
--
-- classify (known tool? arguments parse? schema holds?) -> wait for a permit -> start -> deadline ->
-- outcome. Bookkeeping is by position, never by call id.
local engine = require "lash.core.engine"
local json = require "lash.json"
local near = require "lash.near"
local outcome = require "lash.outcome"
local tool = require "lash.tool"

local M = {}

--- Calls of one batch that run at once, unless limits.concurrency says otherwise.
M.CONCURRENCY = 16

local SHOWN = 80 -- bytes of an unknown tool's name that are told

local function unknown(name, tools)
    local names = near.names(tools)
    name = tostring(name)
    if #name > SHOWN then
        name = name:sub(1, (utf8.offset(name, 0, SHOWN + 1) or SHOWN + 1) - 1) .. "..."
    end
    if #names == 0 then
        return ("there is no tool '%s': there are no tools"):format(name)
    end
    local close = near.list(name, names)
    local list = table.concat(#close > 0 and close or { table.unpack(names, 1, 20) }, ", ")
    return ("there is no tool '%s'; %s: %s"):format(name, #close > 0 and "near names" or "the tools are", list)
end

local function parse(text)
    if text == nil or text == "" then
        return {}
    end
    local args, err = json.decode(text)
    if err then
        return nil, ("the arguments are not valid JSON: %s"):format(err.message or tostring(err))
    elseif type(args) ~= "table" or getmetatable(args) == json.array_mt then
        return nil, ("the arguments must be a JSON object such as {\"name\": value}, got %s"):format(
            type(args) == "table" and "an array" or args == json.null and "null" or type(args))
    end
    return args
end

--- Which tool a call means and with what arguments.
-- @param tools name -> tool
-- @return tool, arguments | nil, the sentence for the model
function M.classify(call, tools)
    local found = tools[call.name]
    if not found then
        return nil, unknown(call.name, tools)
    end
    local args, err = parse(call.args)
    if not args then
        return nil, err
    end
    local ok, fault = tool.check_arguments(found, args)
    if not ok then
        return nil, ("the arguments of '%s' do not fit its schema: %s"):format(call.name, tostring(fault))
    end
    return found, args
end

--- An outcome item for a call.
function M.outcome(call, status, text)
    return { type = "outcome", id = call.id, name = call.name, status = status, output = text }
end

local function elapsed(since)
    return (engine.hrtime() - since) // 1000000
end

local function note_end(batch, i, status, text, ms)
    local call = batch.calls[i]
    batch.outcomes[i] = M.outcome(call, status, text)
    batch.outcomes[i].ms = ms
    if batch.emit then
        batch.emit("call.end", { call = batch.label(i), name = call.name, status = status, ms = ms, output = text })
    end
end

local function note_start(batch, i, found)
    if batch.emit then
        local call = batch.calls[i]
        batch.emit("call.start", {
            call = batch.label(i),
            name = call.name,
            mark = found and found.mark,
            args = call.args == "" and "{}" or call.args,
        })
    end
end

local CANCEL_TEXTS = {
    deadline = function(found)
        return "timeout", ("timed out after %g s"):format(found.timeout)
    end,
    sibling = function()
        return "cancelled", "cancelled because another call failed"
    end,
}

-- What to tell of a call that was cancelled for `reason`.
local function cancelled(reason, found)
    local text_of = CANCEL_TEXTS[reason]
    if text_of then
        return text_of(found)
    end
    return "cancelled", "cancelled"
end

local function run_found(batch, i)
    local found, args = batch.found[i], batch.args[i]
    local task = engine.current()
    task:mark_call()
    local started = engine.hrtime()
    note_start(batch, i, found)
    if found.timeout then
        task:deadline(found.timeout)
    end
    local label = batch.label(i)
    local ctx = { call = label, agent = batch.agent, key = batch.key .. label, attempt = 1 }
    local done, status, text, traceback = pcall(tool.run, found, args, ctx)
    if not done then
        local reason = engine.cancel_reason(status)
        if reason then
            status, text = cancelled(reason, found)
            if task:lost() then
                status, text = "lost", text .. "; it could not be stopped and may still be running"
            end
        else -- tool.run itself failed: a message that is too large to travel, no memory
            status, text = "error", outcome.error_text(status)
        end
    end
    if traceback and batch.on_traceback then
        batch.on_traceback(batch.calls[i].name, text, traceback)
    end
    note_end(batch, i, status, text, elapsed(started))
end

-- The body of the task of one call. Its permit is given back whatever happens.
local function run_call(batch, i, permits, number)
    local ok, err = pcall(run_found, batch, i)
    if not ok and not batch.outcomes[i] then
        batch.outcomes[i] = M.outcome(batch.calls[i], "error", outcome.error_text(err))
    end
    permits:settle(number)
end

local function add_slot(permits, found)
    local number = permits:add(found.parallel == false)
    if type(found.parallel) == "string" then
        permits:limit(number, "=", found.parallel, 1)
    end
    if found.limit then
        permits:limit(number, "#", found.name, found.limit)
    end
    -- A sync call starts when a worker is free for it, so its deadline counts from there. On a worker it
    -- never waits: the worker itself is such a call, and does the work when nobody else is free.
    if found.mark == "sync" and not engine.in_worker() then
        permits:limit(number, "s", "sync", engine.jobs())
    end
    return number
end

local function classify_all(batch, tools, skip)
    local any = false
    for i, call in ipairs(batch.calls) do
        if not skip[i] then
            local found, args = M.classify(call, tools)
            if found then
                batch.found[i], batch.args[i] = found, args
                any = true
            else
                note_start(batch, i, tools[call.name])
                note_end(batch, i, "error", args, 0)
            end
        end
    end
    return any
end

local function run_all(batch, cap)
    local permits <close> = engine.batch(cap)
    local group <close> = engine.group()
    local at = {} -- slot number -> position in the batch
    for i = 1, #batch.calls do
        if batch.found[i] then
            at[add_slot(permits, batch.found[i])] = i
        end
    end
    permits:start()
    local number = permits:next()
    while number do
        group:spawn(run_call, batch, at[number], permits, number)
        number = permits:next()
    end
    group:wait()
end

local function fill(batch, skip)
    for i, call in ipairs(batch.calls) do
        if not batch.outcomes[i] and not skip[i] then
            if batch.found[i] then
                note_start(batch, i, batch.found[i])
            end
            note_end(batch, i, "not_run", "not run: the run was cancelled before this call started", 0)
        end
    end
end

--- Runs a batch.
-- @param calls items of type "call", in the model's order
-- @param spec { tools = name -> tool, agent = name, cap = calls at once, emit = fn(type, fields) or nil,
--   label = fn(i) -> "turn.index", key = prefix of ctx.key, skip = { [i] = true } for calls that somebody
--   else answers, on_traceback = fn(name, text, traceback) or nil }
-- @return list of outcome items, holes where skipped; true | nil, the cancel error when the run was cancelled
function M.run(calls, spec)
    local batch = {
        calls = calls, outcomes = {}, found = {}, args = {},
        emit = spec.emit, label = spec.label, agent = spec.agent, key = spec.key,
        on_traceback = spec.on_traceback,
    }
    local skip = spec.skip or {}
    if not classify_all(batch, spec.tools, skip) then
        return batch.outcomes, true
    end
    local ok, err = pcall(run_all, batch, spec.cap or M.CONCURRENCY)
    if not ok then
        if not engine.cancel_reason(err) then
            error(err, 0)
        end
        fill(batch, skip) -- settled outcomes stay; history stays complete
        return batch.outcomes, nil, err
    end
    return batch.outcomes, true
end

return M
