--- Lua tests. A file declares its cases and ends with `return t.main(...)`:
--
--     local t = require "t"
--     t.case("D10 the same call twice runs twice", function()
--         t.equal(1 + 1, 2)
--     end)
--     return t.main(...)
--
-- `lash FILE --list` prints the cases, `lash FILE N` runs one in its own process (tests/run does both).
-- After a case no task and no handle may be left.
local engine = require "lash.core.engine"
local timer = require "lash.core.timer"

local M = {}

local cases = {}

--- Declares a case; its name begins with the ids of semantics that it proves.
function M.case(name, fn)
    cases[#cases + 1] = { name = name, fn = fn }
end

--- Says why this case cannot be judged here, and ends it.
function M.skip(why)
    error({ skip = why }, 0)
end

--- How many times slower than usual this run may find things: 1, or more under valgrind and the like.
M.slower = tonumber(os.getenv "TEST_SLOWER") or 1

--- How often a case does what costs time, such as trying what chance gives: `full` in `make check-all`, `few` else.
function M.times(full, few)
    return os.getenv "LASH_THOROUGH" and full or few
end

--- In `make check-all` the whole list, else one of `share` of its elements: others each `turn`.
function M.part(list, turn, share)
    share = M.times(1, share)
    local part = {}
    for i = 1 + turn % share, #list, share do
        part[#part + 1] = list[i]
    end
    return part
end

--- Skips a case that needs signals to come at once: the thread sanitizer keeps them back while code
-- that it does not know runs, valgrind until its turn comes.
function M.needs_prompt_signals()
    if M.slower >= 20 then
        M.skip("signals come too late here")
    end
end

--- What was told to end has so many times longer for it than usual (closers, workers, children): for cases of what
-- is done in that time. On a busy machine nothing is sure to run within 100 ms.
function M.patience(times)
    engine.patience(times or 20 * M.slower)
end

--- Fails unless try(n), which returns seconds, takes less than `limit` at least once in ten tries: on a busy machine
-- each of them may take long.
function M.soon(limit, try)
    local least = math.huge
    for n = 1, 10 do
        least = math.min(least, try(n))
        if least < limit * M.slower then
            return
        end
    end
    error(("it took %g s at best, not less than %g"):format(least, limit * M.slower), 2)
end

--- Waits until fn() is true, for a minute; returns what it gave.
function M.wait_until(fn, what)
    for _ = 1, 60000 do
        local value = fn()
        if value then
            return value
        end
        timer.sleep(0.001)
    end
    error((what or "what is waited for") .. " did not come about", 2)
end

--- A readable form of any value, bounded.
function M.show(value, depth)
    depth = depth or 0
    if type(value) == "string" then
        return ("%q"):format(#value > 400 and value:sub(1, 400) .. "..." or value)
    elseif type(value) ~= "table" or depth > 4 then
        return tostring(value)
    end
    local keys = {}
    for key in next, value do
        keys[#keys + 1] = key
    end
    table.sort(keys, function(a, b)
        return tostring(a) < tostring(b)
    end)
    local parts = {}
    for i, key in ipairs(keys) do
        if i > 30 then
            parts[#parts + 1] = "..."
            break
        end
        parts[#parts + 1] = ("[%s]=%s"):format(M.show(key, depth + 1), M.show(rawget(value, key), depth + 1))
    end
    return "{" .. table.concat(parts, ", ") .. "}"
end

local function same(a, b)
    if a == b then
        return math.type(a) == math.type(b)
    elseif type(a) ~= "table" or type(b) ~= "table" then
        return false
    end
    for key, value in next, a do
        if not same(value, rawget(b, key)) then
            return false
        end
    end
    for key in next, b do
        if rawget(a, key) == nil then
            return false
        end
    end
    return true
end

--- Fails unless both are equal: tables by their contents, numbers with their type.
function M.equal(got, want, what)
    if not same(got, want) then
        error(("%sexpected %s\n  got %s"):format(what and what .. ": " or "", M.show(want), M.show(got)), 2)
    end
end

--- Fails unless the value is true; returns it.
function M.ok(value, what)
    if not value then
        error(("%s: got %s"):format(what or "expected a true value", M.show(value)), 2)
    end
    return value
end

--- Fails unless the text contains `part` (plain text).
function M.has(text, part, what)
    if type(text) ~= "string" or not text:find(part, 1, true) then
        error(("%sexpected a text with %q\n  got %s"):format(what and what .. ": " or "", part, M.show(text)), 2)
    end
end

--- Fails unless fn(...) raises; returns the error value. With `part` its text must contain that.
function M.raises(part, fn, ...)
    local results = table.pack(pcall(fn, ...))
    if results[1] then
        error(("expected an error with %q, but it returned %s"):format(part or "", M.show(results[2])), 2)
    end
    if part then
        M.has(tostring(results[2]), part)
    end
    return results[2]
end

--- Fails unless what follows `part` is nil and an error of that code, whose text contains `part`.
function M.fails(code, part, result, err)
    if result ~= nil or type(err) ~= "table" or err.code ~= code then
        error(("expected nil and the error %q\n  got %s, %s"):format(code, M.show(result), M.show(err)), 2)
    end
    M.equal(tostring(err), err.message)
    M.has(err.message, part)
end

--- Fails when the memory of Lua grows while work() is done again and again.
function M.keeps_memory(work)
    local function once()
        work()
        collectgarbage()
        collectgarbage()
    end
    once()
    local before = engine.memory()
    for _ = 1, 5 do
        once()
    end
    M.ok(engine.memory() < before * 1.01, ("%d bytes grew to %d"):format(before, engine.memory()))
end

local to_remove = {}

--- Removes the file when the case has ended.
function M.remove_later(path)
    to_remove[#to_remove + 1] = path
end

local files = 0

--- A path of its own, of a file that does not exist and is removed when the case has ended.
function M.path(ending)
    files = files + 1
    local path = ("%s/case-%d%s"):format(os.getenv("TMPDIR") or "/tmp", files, ending or "")
    M.remove_later(path)
    return path
end

--- A file of its own; its text is `content`.
function M.file(content, ending)
    local path = M.path(ending)
    local f = assert(io.open(path, "wb"))
    f:write(content)
    f:close()
    return path
end

local function run_case(case)
    local ok, err = xpcall(case.fn, function(e)
        return type(e) == "table" and e or debug.traceback(tostring(e), 2)
    end)
    for _, path in ipairs(to_remove) do
        os.remove(path)
    end
    if not ok then
        if type(err) == "table" and err.skip then
            print("skipped: " .. err.skip)
            return 77
        end
        print(type(err) == "table" and tostring(err.message or M.show(err)) or err)
        return 1
    end
    collectgarbage()
    collectgarbage()
    local tasks = engine.live()
    if tasks > 1 then -- the one that runs this
        print(("%d tasks are left"):format(tasks - 1))
        return 1
    end
    return 0
end

--- Ends a test file: lists or runs its cases, and leaves with the status.
function M.main(which)
    if which == "--list" then
        for _, case in ipairs(cases) do
            print(case.name)
        end
        return
    end
    local case = cases[tonumber(which or "") or 0]
    if not case then
        io.stderr:write("usage: --list | NUMBER of a case\n")
        os.exit(2)
    end
    local status = run_case(case)
    if status ~= 0 then
        os.exit(status)
    end
end

return M
