--- What a tool's function gave back, as the text that a model gets. One mapping for tools on the main
-- runtime and on workers:
--
--   string                 as it is; invalid UTF-8 is replaced by U+FFFD, and a last line says so
--   nil, nothing           "null"
--   boolean, number        their JSON form; 64-bit integers exactly; inf and nan as "inf", "-inf", "nan"
--   table                  JSON with sorted keys; an empty table is {}, an empty JSON array []
--   table with __tostring  that text
--   several values         a JSON array of them
--   nil, err               an error, as error(err)
--   functions, userdata, cyclic or sparse tables, inf in a table: an error that names the place
--
-- Text over the cap keeps its head and tail, with a marker between that tells the original size.
local context = require "lash.context"
local engine = require "lash.core.engine"
local json = require "lash.json"

local M = {}

--- Bytes of an output that a model gets, unless the tool says otherwise (`max_output`).
M.CAP = 64 * 1024

local DEEP = 1000 -- levels of calls of which no traceback is made

local function clean(text)
    if utf8.len(text) then
        return text
    end
    local quoted, replaced = json.encode(text, { lossy = true })
    text = json.decode(quoted)
    if replaced then
        text = text .. "\n[invalid UTF-8 was replaced by U+FFFD]"
    end
    return text
end

-- Moves a cut by up to three bytes, so that it does not fall into the middle of a multi-byte character:
-- `step` is -1 or 1. What is not UTF-8 is cut where it is.
local function boundary(text, at, step)
    for moved = at, at + 3 * step, step do
        local byte = text:byte(moved)
        if not byte or byte & 0xC0 ~= 0x80 then
            return moved
        end
    end
    return at
end

local MARKER = "\n[... %d bytes in all, the middle is left out ...]\n"
local MARKER_PATTERN = "^%[%.%.%. %d+ bytes in all, the middle is left out %.%.%.%]\n"

-- A marker that stands in text[from..to]: of an output that was cut before it got here.
local function inner_marker(text, from, to)
    local at = text:find("[... ", from, true)
    while at and at <= to do
        local line = text:match(MARKER_PATTERN, at)
        if line then
            return line
        end
        at = text:find("[... ", at + 1, true)
    end
    return ""
end

--- Cuts text to `cap` bytes: head and tail stay, a marker with the original size stands between, and
-- below it one that it takes out: of what was cut before.
-- @param total the original size, where the text itself is only its first two and last third of `cap`
function M.cap(text, cap, total)
    cap = cap or M.CAP
    total = total or #text
    if total <= cap then
        return text
    end
    local marker = MARKER:format(total)
    local function cut()
        local room = math.max(cap - #marker, 0)
        local left = room * 2 // 3
        return boundary(text, left + 1, -1) - 1, boundary(text, #text - (room - left) + 1, 1)
    end
    local head, tail = cut()
    marker = marker .. inner_marker(text, head + 1, tail - 1)
    head, tail = cut()
    return text:sub(1, head) .. marker .. text:sub(tail)
end

local function by_tostring(value)
    local mt = getmetatable(value)
    if type(mt) ~= "table" or rawget(mt, "__tostring") == nil then
        return nil
    end
    local ok, text = pcall(tostring, value)
    return ok and type(text) == "string" and text or nil
end

local function number_text(n)
    if n ~= n then
        return "nan"
    elseif n == math.huge or n == -math.huge then
        return n > 0 and "inf" or "-inf"
    end
    return json.encode(n)
end

local NO_MEMORY = "not enough memory" -- as Lua and its libraries have it

-- The text of an error in a job that met its memory limit tells of the limit.
local function with_limit(text)
    local from, to = text:find(NO_MEMORY, 1, true)
    local fault = from and engine.memory_fault()
    return fault and text:sub(1, from - 1) .. fault .. text:sub(to + 1) or text
end

--- The text of an error value, whatever it is. Never raises.
function M.error_text(err)
    local kind = type(err)
    if kind == "string" then
        return with_limit(clean(err))
    elseif kind == "table" then
        local text = by_tostring(err)
        if text then
            return clean(text)
        end
        local message = rawget(err, "message")
        if type(message) == "string" then
            return clean(message)
        end
        local encoded = json.encode(err)
        return encoded and ("error: " .. encoded) or "error: a table without a message"
    elseif kind == "nil" then
        return "error without a message (nil)"
    elseif kind == "number" or kind == "boolean" then
        return tostring(err)
    end
    return ("error: a %s instead of a message"):format(kind)
end

local function value_text(value)
    local kind = type(value)
    if kind == "string" then
        return clean(value)
    elseif kind == "number" then
        return number_text(value)
    elseif kind == "table" then
        local text = by_tostring(value)
        if text then
            return clean(text)
        end
    end
    local text, err = json.encode(value, { lossy = true })
    if not text then
        return nil, "the tool's result cannot be sent to a model: " .. tostring(err)
    end
    return text
end

local function several(n, values)
    local parts = {}
    for i = 1, n do
        local value = values[i]
        local text, err
        if type(value) == "number" then
            text, err = number_text(value)
            text = text and (text:find("^%-?[in]") and '"' .. text .. '"' or text)
        else
            text, err = json.encode(value, { lossy = true })
        end
        if not text then
            return nil, ("result %d cannot be sent to a model: %s"):format(i, tostring(err))
        end
        parts[i] = text
    end
    return "[" .. table.concat(parts, ",") .. "]"
end

-- An error table that says `retry = false`: another attempt would fail as well.
local function is_final(err)
    return type(err) == "table" and rawget(err, "retry") == false or nil
end

-- @param value the result; when there are several, a list of them
local function map_results(n, value)
    if n >= 2 and value[1] == nil and value[2] ~= nil then
        return "error", M.error_text(value[2]), nil, is_final(value[2])
    end
    local text, err
    if n > 1 then
        text, err = several(n, value)
    else
        text, err = value_text(value)
    end
    if text then
        return "ok", text
    end
    return "error", err
end

-- A message handler: keeps the error, and where it happened if somebody wants to know.
local function with_traceback(err)
    local deep = debug.getinfo(DEEP, "l") -- after a stack overflow a traceback alone takes a second
    return { err = err, traceback = deep and ("\nmore than %d levels of calls"):format(DEEP) or debug.traceback("", 2) }
end

local call = engine.caller(with_traceback)

--- attempt(job, seconds | false, fn, args, ctx) -> text | nil | false, ms, reason, held, n, value: calls fn(args, ctx)
-- in the running task as one call of a tool. The text, with n and value where there is none, is for mapped(); ms,
-- reason and held are as of engine.end_call().
M.attempt = engine.attempt(with_traceback)

local function map_failure(failure)
    if type(failure) ~= "table" or failure.traceback == nil then
        return "error", M.error_text(failure) -- the handler itself failed: stack or memory
    end
    return "error", M.error_text(failure.err), failure.traceback, is_final(failure.err)
end

--- Maps what a tool's function gave.
-- @param cap bytes of output kept
-- @param text of its result, or nil: it gave n values, which need some thought, or false: it failed
-- @param value the result, a list of several, or what with_traceback() made of the error
-- @return status ("ok" or "error"), text, for an error the traceback or nil, whether it forbids another attempt;
--   of a task that was cancelled they mean nothing
function M.mapped(cap, text, n, value)
    if text then
        return "ok", #text <= cap and text or M.cap(text, cap)
    end
    local status, traceback, final
    if text == nil then
        status, text, traceback, final = map_results(n, value)
    else
        status, text, traceback, final = map_failure(value)
    end
    return status, M.cap(text, cap), traceback, final
end

--- Runs fn(args, ctx) and maps what it gives, see mapped(). Never raises.
function M.of(fn, cap, args, ctx)
    return M.mapped(cap, call(fn, args, ctx))
end

--- The same on a worker, where a cancelled task raises.
-- @param ctx the context without its functions, which are made here; or nil
function M.run(fn, cap, args, ctx)
    if ctx then
        context.attach(ctx, engine.report)
    end
    local status, text, traceback, final = M.of(fn, cap, args, ctx)
    engine.check()
    return status, text, traceback, final
end

return M
