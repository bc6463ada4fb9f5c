-- What becomes of a call: results, failures and long outputs, the same through both marks.
local t = require "t"
local fake = require "fake"
local engine = require "lash.core.engine"
local lash = require "lash"
local outcome = require "lash.outcome"

-- The outcome of a function as an async and as a sync tool, which must agree.
local function both(fn, spec)
    spec = spec or {}
    local got = {}
    for i, mark in ipairs { "async", "sync" } do
        local tool = lash.tool { name = "it", [mark] = fn, max_output = spec.max_output, timeout = spec.timeout }
        local outcomes = fake.batch({ tool }, { { "it" } })
        got[i] = { status = outcomes[1].status, output = outcomes[1].output }
        t.ok(utf8.len(got[i].output), "an output that is not UTF-8")
    end
    if not spec.differ then
        t.equal(got[2], got[1], "sync against async")
    end
    return got[1], got[2]
end

local function gives(want, fn, ...)
    local list = table.pack(...)
    t.equal(both(fn or function() return table.unpack(list, 1, list.n) end), want)
end

local function ok(output)
    return { status = "ok", output = output }
end

local function fails(part, fn, spec)
    for _, got in ipairs { both(fn, spec) } do
        t.equal(got.status, "error", got.output)
        t.has(got.output, part)
        t.ok(#got.output < 2000, "a long story")
    end
end

t.case("D16 nil, booleans and numbers", function()
    gives(ok "null", function() end)
    gives(ok "null", nil, nil)
    gives(ok "true", nil, true)
    gives(ok "false", nil, false)
    gives(ok "0", nil, 0)
    gives(ok "1", nil, 1)
    gives(ok "1.0", nil, 1.0)
    gives(ok "-0.0", nil, -0.0)
    gives(ok "9223372036854775807", nil, math.maxinteger)
    gives(ok "-9223372036854775808", nil, math.mininteger)
    gives(ok "0.1", nil, 0.1)
    gives(ok "inf", nil, math.huge)
    gives(ok "-inf", nil, -math.huge)
    gives(ok "nan", nil, 0 / 0)
end)

t.case("D16 strings: as they are, NUL too; invalid UTF-8 is replaced, and said so", function()
    gives(ok "", nil, "")
    gives(ok "plain", nil, "plain")
    gives(ok "a\0b", nil, "a\0b")
    gives(ok "grün 🙂 \u{10FFFF}", nil, "grün 🙂 \u{10FFFF}")
    gives(ok "a\u{FFFD}b\n[invalid UTF-8 was replaced by U+FFFD]", nil, "a\xffb")
    local got = both(function() return "\xed\xa0\x80" end) -- a surrogate
    t.has(got.output, "invalid UTF-8 was replaced")
    got = both(function() return "cut \xe2\x82" end)
    t.has(got.output, "cut \u{FFFD}")
    got = both(function() return "\xc0\xaf" end) -- overlong
    t.has(got.output, "invalid UTF-8 was replaced")
end)

t.case("D16 tables: JSON with sorted keys, arrays and objects told apart", function()
    gives(ok "{}", nil, {})
    gives(ok "[]", function() return require("lash").json.array {} end)
    gives(ok "[1,2,3]", nil, { 1, 2, 3 })
    gives(ok '{"a":1,"b":[true,false],"c":{"d":"x"}}', nil, { c = { d = "x" }, a = 1, b = { true, false } })
    gives(ok '[9223372036854775807,1.0]', nil, { math.maxinteger, 1.0 })
    gives(ok "null", function() return require("lash").null end)
    gives(ok '{"x":null}', function() return { x = require("lash").null } end)
    gives(ok '{"s":"\\u0000"}', nil, { s = "\0" })
    local got = both(function() return { s = "\xff" } end)
    t.equal(got.status, "ok")
    t.has(got.output, "\u{FFFD}")
    gives(ok "I am text", function() return setmetatable({}, { __tostring = function() return "I am text" end }) end)
end)

t.case("D16 what has no JSON form is an error that names the place", function()
    fails("contains itself", function() local a = {} a.self = { a } return a end)
    fails("holes", function() return { [1] = 1, [1000] = 2 } end)
    fails("function", function() return print end)
    fails("function", function() return { deep = { fn = print } } end)
    fails("deep", function() return { deep = { fn = print } } end)
    fails("userdata", function() return io.stdout end)
    fails("thread", function() return coroutine.create(print) end)
    fails("x", function() return { x = math.huge } end)
    fails("x", function() return { x = 0 / 0 } end)
    fails("key", function() return { [true] = 1 } end)
    fails("", function() return { [1] = 1, a = 2 } end)
    fails("", function() local a = {} for _ = 1, 100000 do a = { a } end return a end)
end)

t.case("D16 several returns are an array, nil and an error an error", function()
    gives(ok '[1,"two",true]', nil, 1, "two", true)
    gives(ok '[1,null]', nil, 1, nil)
    gives(ok '[1,"inf","nan"]', nil, 1, math.huge, 0 / 0)
    gives(ok '[false,"message"]', nil, false, "message")
    gives({ status = "error", output = "message" }, nil, nil, "message")
    gives({ status = "error", output = "told" }, function() return nil, { code = "x", message = "told" } end)
    gives({ status = "error", output = "false" }, nil, nil, false)
    gives(ok "[null,null]", nil, nil, nil)
    gives({ status = "error", output = "message" }, nil, nil, "message", "more")
    fails("result 2", function() return 1, print end)
end)

t.case("D15 every kind of error becomes an outcome", function()
    fails("nil", function() error(nil) end)
    fails("{", function() error({}) end)
    fails("plain", function() error("plain", 0) end)
    fails("outcome.lua", function() error("with position") end)
    fails("42", function() error(42, 0) end)
    fails("true", function() error(true) end)
    fails("function", function() error(print) end)
    fails("a message", function() error({ code = "E", message = "a message" }) end)
    fails("told", function() error(setmetatable({}, { __tostring = function() return "told" end })) end)
    fails("error", function() error(setmetatable({}, { __tostring = function() error("worse") end })) end)
    fails("", function() error(setmetatable({}, { __tostring = function() return 5 end })) end)
    fails("error", function() error(setmetatable({}, { __tostring = function(self) return tostring(self) end })) end)
    fails("error", function() error(setmetatable({}, { __index = function() error("worse") end })) end)
    fails("error", function() error(setmetatable({}, { __metatable = "hidden" })) end)
    fails("error", function() error(setmetatable({}, { __pairs = function() error("worse") end })) end)
    fails("error", function() local e = {} e.e = e error(e) end)
    fails("undefined_thing", function() return undefined_thing.x end, { differ = true })
    fails("attempt to call a nil value", function() local x x() end)
    fails("attempt to perform arithmetic", function() return {} + 1 end)
    fails("thread", function() error(coroutine.create(print)) end)
    fails("userdata", function() error(io.stdout) end, { differ = true })
end)

t.case("D15 errors in closers and handlers, wrong yields, killed coroutines", function()
    fails("in close", function()
        local x <close> = setmetatable({}, { __close = function() error("in close", 0) end })
        return "fine"
    end)
    fails("in close", function()
        local x <close> = setmetatable({}, { __close = function() error("in close", 0) end })
        error("first", 0)
    end)
    fails("yield", function() coroutine.yield(1) end)
    fails("yield", function() local y = coroutine.yield y() end)
    fails("cannot resume dead coroutine", function()
        local co = coroutine.wrap(function() end)
        co()
        co()
    end)
    fails("dead", function()
        local co = coroutine.create(function() coroutine.yield() end)
        coroutine.resume(co)
        coroutine.close(co)
        assert(coroutine.resume(co))
    end)
    fails("non-suspended", function() assert(coroutine.resume(coroutine.running())) end)
    fails("running", function() coroutine.close(coroutine.running()) end)
    fails("variable 'x' got a non-closable value", function() local x <close> = 5 end)
    fails("inner", function()
        xpcall(error, function() error("handler") end, "x")
        error("inner", 0)
    end)
end)

t.case("D15 a coroutine that waits cannot be killed or resumed by others", function()
    fails("waits", function()
        local l = require "lash"
        local co = coroutine.create(function() l.sleep(5) end)
        l.spawn(coroutine.resume, co)
        l.sleep(0)
        coroutine.close(co)
    end)
end)

t.case("D15 stack overflow, in Lua, in C and in a handler", function()
    local function deep() return 1 + deep() end
    fails("overflow", deep, { differ = true })
    fails("overflow", function() local s = setmetatable({}, {}) getmetatable(s).__index = function(t, k) return t[k] end return s.x end,
        { differ = true })
    fails("overflow", function() local function again() return (("x"):gsub("x", again)) end again() end, { differ = true })
    fails("", function() local function again(e) error(e) end xpcall(error, again) error("after", 0) end)
    fails("too many", function() return string.rep("x", 10):byte(1, -1), table.unpack({}, 1, 1e8) end)
end)

t.case("D15 too much memory at once is an outcome", function()
    fails("", function() return ("x"):rep(1 << 50) end)
    fails("", function() return table.concat({ ("x"):rep(1 << 40) }) end)
end)

t.case("D15 os.exit in a worker ends nothing", function()
    local tool = lash.tool { name = "leave", sync = function() os.exit(3) end }
    local hard = lash.tool { name = "hard", sync = function() os.exit(true, true) end }
    local outcomes = fake.batch({ tool, hard }, { { "leave" }, { "hard" }, { "leave" } })
    for _, item in ipairs(outcomes) do
        t.equal(item.status, "error")
        t.has(item.output, "os.exit")
    end
end)

t.case("D15 os.exit in a tool of either mark is an error of that call", function()
    for _, args in ipairs { {}, { 3 }, { true }, { false, true } } do
        local calls = {}
        for i, mark in ipairs { "async", "sync" } do
            local tool = lash.tool { name = mark, [mark] = function() os.exit(table.unpack(args)) end }
            calls[i] = fake.batch({ tool }, { { mark }, { mark } })
        end
        for _, outcomes in ipairs(calls) do
            t.equal({ outcomes[1].status, outcomes[2].status }, { "error", "error" })
            t.has(outcomes[1].output, "os.exit is not for tools")
        end
    end
end)

t.case("D15 a failure names no file of lash, and has no traceback", function()
    for _, got in ipairs { both(function() error("plain") end) } do
        t.ok(not got.output:find("traceback"), got.output)
        t.ok(not (" " .. got.output):find("%slash/"), got.output) -- a checkout may lie in a folder named lash
    end
end)

local function failures()
    local count = 0
    local fns = {
        function() error(nil) end,
        function() error({}) end,
        function() error("text") end,
        function() error(setmetatable({}, { __tostring = function() error("x") end })) end,
        function() return nil, "failed" end,
        function() local x <close> = setmetatable({}, { __close = function() error("x") end }) error("y") end,
        function() coroutine.yield() end,
        function() return { [1] = 1, [50] = print } end,
        function() coroutine.wrap(function() require("lash").sleep(0) error("deep") end)() end,
        function()
            local child = require("lash").spawn(error, "child")
            child:wait()
            error((select(2, child:result())))
        end,
        function() return ("x"):rep(1 << 60) end,
        function() leaked = 1 return leaked + {} end,
    }
    local tools, calls = {}, {}
    for i, fn in ipairs(fns) do
        for _, mark in ipairs { "async", "sync" } do
            tools[#tools + 1] = lash.tool { name = mark .. i, [mark] = fn }
        end
    end
    local agent = fake.agent({ tools = tools, model = "fake/failures" })
    fake.models["fake/failures"] = function(conv)
        if #conv.entries > 1 then
            return "done"
        end
        calls = {}
        for i = 1, 250 do
            calls[i] = { tools[(i * 7 + count) % #tools + 1].name, i % 25 == 0 and "{" or "{}" }
        end
        count = count + 1
        return fake.calls(calls)
    end
    return function()
        local result = agent:run("go")
        for _, item in ipairs(fake.outcomes(result.conversation)) do
            t.equal(item.status, "error", item.name)
        end
        return #calls
    end
end

t.case("D15 thousands of mixed failures leave no memory and no state behind", function()
    engine.jobs(2)
    local run = failures()
    local function level()
        leaked = nil -- luacheck: ignore
        fake.requests = {}
        collectgarbage()
        collectgarbage()
        return engine.memory()
    end
    local done = 0
    for _ = 1, 8 do
        done = done + run()
    end
    local before = level()
    while done < t.times(10000, 3000) do
        done = done + run()
    end
    local after = level()
    t.ok(after <= before * 1.01, ("memory grew from %d to %d bytes"):format(before, after))
    t.equal(engine.live(), 1)
end)

t.case("D15 failures leave no memory behind in the workers", function()
    engine.jobs(1)
    local memory = engine.ship("memory", function()
        collectgarbage()
        collectgarbage()
        return require("lash.core.engine").memory()
    end)
    local code = engine.ship("failing", function(i)
        leaked = i
        string.extra = { i }
        if i % 3 == 0 then
            error({ i })
        elseif i % 3 == 1 then
            coroutine.wrap(function() local x <close> = setmetatable({}, { __close = print }) error("x") end)()
        end
        return ("x"):rep(1000 + i), coroutine.create(print)
    end)
    local function some(n)
        for i = 1, n do
            t.equal((engine.offload(code, i)), false)
        end
        local _, bytes = engine.offload(memory)
        return bytes
    end
    local before = some(500)
    local after = some(3000)
    t.ok(after <= before * 1.01, ("memory grew from %d to %d bytes"):format(before, after))
end)

-- ---- long outputs ----

t.case("D17 long output keeps head and tail, with the original size between", function()
    local text = ("h"):rep(100000) .. ("t"):rep(100000)
    for _, got in ipairs { both(function() return ("h"):rep(100000) .. ("t"):rep(100000) end) } do
        t.equal(got.status, "ok")
        t.ok(#got.output <= outcome.CAP, "longer than the cap: " .. #got.output)
        t.ok(#got.output > outcome.CAP - 10, "much shorter than the cap: " .. #got.output)
        t.has(got.output, tostring(#text))
        t.ok(got.output:find("^h+\n%[.-%]\nt+$"), "head, marker, tail")
    end
    local exact = ("x"):rep(outcome.CAP)
    t.equal(outcome.cap(exact), exact)
    t.ok(#outcome.cap(exact .. "x") <= outcome.CAP)
end)

t.case("D17 a cut never falls inside a character, whatever the cap", function()
    for _, char in ipairs { "x", "ü", "€", "🙂", "aü€🙂" } do
        local text = char:rep(4000 // #char)
        for cap = 256, 330 do
            local cut = outcome.cap(text, cap)
            t.ok(#cut <= cap, ("%d bytes for a cap of %d"):format(#cut, cap))
            t.ok(#cut > cap - 10, ("only %d bytes for a cap of %d"):format(#cut, cap))
            t.ok(utf8.len(cut), "a character was cut")
            local head, size, tail = cut:match("^(.-)\n%[%D*(%d+)[^\n]*%]\n(.*)$")
            t.equal(tonumber(size), #text)
            t.equal(text:sub(1, #head), head)
            t.equal(text:sub(-#tail), tail)
        end
    end
end)

t.case("D17 what is not UTF-8 is cut too; a marker of an earlier cut is kept", function()
    for _, text in ipairs { ("\x80"):rep(5000), ("\xff"):rep(5000), ("\xe2\x82"):rep(2500) } do
        for cap = 256, 262 do
            local n = #outcome.cap(text, cap)
            t.ok(n <= cap and n > cap - 8, n)
        end
    end
    local once = outcome.cap(("x"):rep(1000000), 10000)
    local twice = outcome.cap(once, 1000)
    t.equal(#twice, 1000)
    t.has(twice, "x\n[... 10000 bytes in all, the middle is left out ...]\n[... 1000000 bytes in all, the middle is " ..
        "left out ...]\nx")
    t.has(outcome.cap(("[... "):rep(5000), 1000), "\n[... 25000 bytes in all")
end)

t.case("D17 the cap of a tool, for results and errors, through both marks", function()
    for _, got in ipairs { both(function() return ("€"):rep(1000) end, { max_output = 300 }) } do
        t.ok(#got.output <= 300)
        t.has(got.output, "3000")
    end
    for _, got in ipairs { both(function() error(("€"):rep(1000), 0) end, { max_output = 300 }) } do
        t.equal(got.status, "error")
        t.ok(#got.output <= 300)
        t.has(got.output, "3000")
    end
    local tool = lash.tool { name = "typed", max_output = 300, params = { n = "integer" }, async = print }
    local outcomes = fake.batch({ tool }, { { "typed", '{"' .. ("k"):rep(5000) .. '":1}' } })
    t.ok(#outcomes[1].output < 2000, "a fault of arguments at full length: " .. #outcomes[1].output)
end)

t.case("D15 async and sync time out alike", function()
    t.patience()
    local slow = function() require("lash").sleep(5) end
    for _, got in ipairs { both(slow, { timeout = 0.02 }) } do
        t.equal(got, { status = "timeout", output = "timed out after 0.02 s" })
    end
end)

return t.main(...)
