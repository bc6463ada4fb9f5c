-- The dispatcher: order, caps, barriers, what a call may be.
local t = require "t"
local fake = require "fake"
local engine = require "lash.core.engine"
local lash = require "lash"
local support = require "support.calls"

local outputs, statuses, door, meter = support.outputs, support.statuses, support.door, support.meter

local function numbers(n)
    local list = {}
    for i = 1, n do
        list[i] = i
    end
    return list
end

local function permutations(n, visit, list, used)
    list, used = list or {}, used or {}
    if #list == n then
        visit(list)
        return
    end
    for i = 1, n do
        if not used[i] then
            used[i] = true
            list[#list + 1] = i
            permutations(n, visit, list, used)
            list[#list] = nil
            used[i] = nil
        end
    end
end

local echo = lash.tool {
    name = "echo", params = { text = "string" },
    async = function(args)
        return args.text
    end,
}

t.case("D1 D2 outputs are in call order for all 720 orders of completion", function()
    local order, doors, running
    local tool = lash.tool {
        name = "part", params = { i = "integer" },
        async = function(args)
            running = running + 1
            if running == 6 then
                doors[order[1]].open()
            end
            doors[args.i].pass()
            for k = 1, 5 do
                if order[k] == args.i then
                    doors[order[k + 1]].open()
                end
            end
            return "part " .. args.i
        end,
    }
    local count = 0
    permutations(6, function(list)
        order, doors, running = list, {}, 0
        for i = 1, 6 do
            doors[i] = door()
        end
        local ended = {}
        local agent = fake.agent({ tools = { tool } }, { fake.many(6, "part"), "done" })
        local result = agent:run("go", { on_event = function(event)
            if event.type == "call.end" then
                ended[#ended + 1] = math.tointeger(event.call:match("^1%.(%d)$"))
            end
        end })
        t.equal(ended, order, "D18 ends are told in the order of completion")
        t.equal(outputs(fake.outcomes(result.conversation)),
            { "part 1", "part 2", "part 3", "part 4", "part 5", "part 6" })
        count = count + 1
    end)
    t.equal(count, 720)
end)

t.case("D2 outputs of both marks are in call order", function()
    local async = lash.tool {
        name = "a", params = { i = "integer" },
        async = function(args)
            lash.sleep((7 * args.i % 5) / 1000)
            return args.i
        end,
    }
    local sync = lash.tool {
        name = "s", params = { i = "integer" },
        sync = function(args)
            lash.sleep((7 * args.i % 5) / 1000)
            return args.i
        end,
    }
    local calls, want = {}, {}
    for i = 1, 40 do
        calls[i] = { i % 3 == 0 and "s" or "a", { i = i } }
        want[i] = tostring(i)
    end
    t.equal(outputs(fake.batch({ async, sync }, calls)), want)
end)

t.case("D3 all of n <= cap calls have started before the first one ends", function()
    local started, doors = 0, {}
    for i = 1, 16 do
        doors[i] = door()
    end
    local tool = lash.tool {
        name = "meet", params = { i = "integer" },
        async = function(args)
            started = started + 1
            if started == 16 then
                for i = 1, 16 do
                    doors[i].open()
                end
            end
            doors[args.i].pass() -- for ever, unless all of them run
            return started
        end,
    }
    local agent = fake.agent({ tools = { tool } }, { fake.many(16, "meet"), "done" })
    for _, item in ipairs(fake.outcomes(agent:run("go").conversation)) do
        t.equal(item.output, "16")
    end
end)

t.case("D3 with cap k the calls run in ceil(n/k) waves", function()
    local n, k = 23, 5
    local left, waves, here, doors = n, 0, {}, {}
    local m = meter()
    for i = 1, n do
        doors[i] = door()
    end
    local tool = lash.tool {
        name = "wave", params = { i = "integer" },
        async = function(args)
            m.enter(args.i)
            here[#here + 1] = args.i
            left = left - 1
            if #here == k or left == 0 then
                waves = waves + 1
                for _, i in ipairs(here) do
                    doors[i].open()
                end
                here = {}
            end
            doors[args.i].pass()
            m.leave()
        end,
    }
    local agent = fake.agent({ tools = { tool }, limits = { concurrency = k } }, { fake.many(n, "wave"), "done" })
    agent:run("go")
    t.equal(waves, math.ceil(n / k))
    t.equal(m.most, k)
end)

t.case("D3 sync calls run at the same time on workers of their own", function()
    local mark = t.path()
    os.remove(mark)
    local tool = lash.tool {
        name = "meet", params = { i = "integer" },
        sync = function(args)
            assert(io.open(mark .. args.i, "w")):close()
            for _ = 1, 10000 do -- until the others are there as well
                local all = true
                for i = 1, 4 do
                    local f = io.open(mark .. i)
                    all = all and f ~= nil
                    if f then
                        f:close()
                    end
                end
                if all then
                    return "met"
                end
                lash.sleep(0.002)
            end
            return "alone"
        end,
    }
    local agent = fake.agent({ tools = { tool } }, { fake.many(4, "meet"), "done" })
    local outcomes = fake.outcomes(agent:run("go").conversation)
    for i = 1, 4 do
        os.remove(mark .. i)
    end
    t.equal(outputs(outcomes), { "met", "met", "met", "met" })
end)

t.case("D6 a thousand calls: never more than 16 at once, first in first out", function()
    local m = meter()
    local tool = lash.tool {
        name = "count", params = { i = "integer" },
        async = function(args)
            m.enter(args.i)
            lash.sleep(args.i % 3 == 0 and 0.001 or 0)
            m.leave()
            return args.i
        end,
    }
    local agent = fake.agent({ tools = { tool } }, { fake.many(1000, "count"), "done" })
    local outcomes = fake.outcomes(agent:run("go").conversation)
    t.equal(m.most, 16)
    t.equal(m.started, numbers(1000))
    for i, item in ipairs(outcomes) do
        t.equal(item.output, tostring(i))
    end
end)

t.case("D6 never more than 256 calls run in the process", function()
    local m = meter()
    local tool = lash.tool {
        name = "count", params = { i = "integer" },
        async = function()
            m.enter()
            lash.sleep(0)
            lash.sleep(0.001)
            m.leave()
        end,
    }
    local function run()
        local agent = fake.agent({ tools = { tool }, limits = { concurrency = 200 } },
            { fake.many(400, "count"), "done" })
        return agent:run("go")
    end
    local results = lash.gather({ run, run, run }, { raise = true })
    t.equal(#results, 3)
    t.equal(m.most, 256)
end)

t.case("D6 a tool's own limit holds over all conversations", function()
    local m = meter()
    local tool = lash.tool {
        name = "scarce", limit = 3, params = { i = "integer" },
        async = function(args)
            m.enter(args.i)
            lash.sleep(0)
            m.leave()
        end,
    }
    local function run()
        return fake.agent({ tools = { tool } }, { fake.many(30, "scarce"), "done" }):run("go")
    end
    lash.gather({ run, run, run, run }, { raise = true })
    t.equal(m.most, 3)
    t.equal(#m.started, 120)
end)

t.case("D6 conversations take turns, none starves", function()
    local order = {}
    local tool = lash.tool {
        name = "turn", limit = 1, params = { i = "integer", who = "string" },
        async = function(args)
            order[#order + 1] = args.who
            lash.sleep(0)
        end,
    }
    local function runner(who, n)
        local calls = {}
        for i = 1, n do
            calls[i] = { "turn", { i = i, who = who } }
        end
        return function()
            return fake.agent({ tools = { tool } }, { fake.calls(calls), "done" }):run("go")
        end
    end
    lash.gather({ runner("a", 30), runner("b", 30), runner("c", 3) }, { raise = true })
    local text = table.concat(order)
    t.equal(#text, 63)
    local last = text:find("c[^c]*$") -- the short one is served in turn, not after the long ones
    t.ok(last <= 12, "the last call of c came as number " .. last .. " of " .. text)
    local both = text:sub(last + 1, last + 40)
    t.ok(both:find("^a?[ba]") and not both:find("aaa") and not both:find("bbb"), "not in turns: " .. text)
end)

t.case("D6 calls that delegate do not wait for their own permits", function()
    -- 256 running calls fill the process; each needs one more call below it
    local inner = fake.agent({
        name = "inner", tools = { echo },
        model = "fake/inner",
    })
    fake.models["fake/inner"] = function(conv)
        return #conv.entries == 1 and fake.calls { { "echo", { text = "deep" } } } or fake.text("inner done")
    end
    local calls = {}
    for i = 1, 300 do
        calls[i] = { "inner", { input = "x" } }
    end
    local outcomes = fake.batch({ inner:as_tool() }, calls, { limits = { concurrency = 300 } })
    t.equal(#outcomes, 300)
    for _, item in ipairs(outcomes) do
        t.equal(item.output, "inner done")
    end
end)

t.case("D6 calls that share a lash.limit do not wait for their own permits", function()
    local two = lash.limit(2)
    local m = meter()
    local tool = lash.tool {
        name = "limited", params = { i = "integer" },
        async = function()
            return two:run(function()
                m.enter()
                lash.sleep(0)
                m.leave()
                return "through"
            end)
        end,
    }
    local agent = fake.agent({ tools = { tool }, limits = { concurrency = 300 } }, { fake.many(300, "limited"), "done" })
    for _, item in ipairs(fake.outcomes(agent:run("go").conversation)) do
        t.equal(item.output, "through")
    end
    t.equal(m.most, 2)
end)

t.case("D7 calls wait for a worker, the queue of the pool stays short", function()
    engine.jobs(2)
    local tool = lash.tool {
        name = "job", params = { i = "integer" },
        sync = function(args)
            return args.i
        end,
    }
    local agent = fake.agent({ tools = { tool }, limits = { concurrency = 1000 } }, { fake.many(1000, "job"), "done" })
    for i, item in ipairs(fake.outcomes(agent:run("go").conversation)) do
        t.equal(item.output, tostring(i))
    end
    t.ok(engine.workers() <= 2, "more workers than allowed")
end)

t.case("D7 callers wait when the queue of the pool is full", function()
    engine.jobs(2)
    local prompt = require "lash.prompt"
    local site = lash.prompt {
        name = "site",
        sync = function(ctx)
            return "for " .. ctx.agent
        end,
    }
    local list = numbers(4500)
    local results = lash.map(list, function(i)
        return assert(prompt.text(site, { agent = tostring(i) }))
    end, { raise = true })
    for i, text in ipairs(results) do
        t.equal(text, "for " .. i)
    end
end)

t.case("D8 a barrier runs alone in its batch", function()
    local log = {}
    local function tool(name, parallel)
        return lash.tool {
            name = name, parallel = parallel, params = { i = "integer" },
            async = function(args)
                log[#log + 1] = "+" .. args.i
                lash.sleep(args.i % 2 == 0 and 0.002 or 0)
                lash.sleep(0)
                log[#log + 1] = "-" .. args.i
                return args.i
            end,
        }
    end
    local free, wall = tool("free"), tool("wall", false)
    local outcomes = fake.batch({ free, wall }, {
        { "free", { i = 1 } }, { "free", { i = 2 } }, { "wall", { i = 3 } }, { "free", { i = 4 } },
        { "free", { i = 5 } }, { "wall", { i = 6 } }, { "wall", { i = 7 } }, { "free", { i = 8 } },
    })
    t.equal(outputs(outcomes), { "1", "2", "3", "4", "5", "6", "7", "8" })
    local text = table.concat(log, " ")
    t.has(text, "+1 +2 -1 -2 +3 -3 +4 +5 -5 -4 +6 -6 +7 -7 +8 -8")
end)

t.case("D8 a barrier that comes first or fails, and one of a bad call", function()
    local log = {}
    local wall = lash.tool {
        name = "wall", parallel = false, params = { i = "integer" },
        async = function(args)
            log[#log + 1] = "w" .. args.i
            lash.sleep(0)
            log[#log + 1] = "/w" .. args.i
            error("fell")
        end,
    }
    local free = lash.tool {
        name = "free", params = { i = "integer" },
        async = function(args)
            log[#log + 1] = "f" .. args.i
        end,
    }
    local outcomes = fake.batch({ wall, free }, {
        { "wall", { i = 1 } }, { "free", { i = 2 } }, { "wall", "nonsense" }, { "free", { i = 4 } },
    })
    t.equal(statuses(outcomes), "error ok error ok")
    t.equal(table.concat(log, " "), "w1 /w1 f2 f4")
end)

t.case("D8 tools of one name never overlap, also over conversations; others do", function()
    local named, free = meter(), meter()
    local overlap = 0
    local function tool(name, parallel, m)
        return lash.tool {
            name = name, parallel = parallel, params = { i = "integer" },
            async = function(args)
                m.enter(args.i)
                if named.running > 0 and free.running > 0 then
                    overlap = overlap + 1
                end
                lash.sleep(0)
                lash.sleep(0)
                m.leave()
            end,
        }
    end
    local read, write, other = tool("read", "db", named), tool("write", "db", named), tool("other", nil, free)
    local function run()
        local calls = {}
        for i = 1, 20 do
            calls[i] = { ({ "read", "write", "other" })[i % 3 + 1], { i = i } }
        end
        fake.batch({ read, write, other }, calls)
    end
    lash.gather({ run, run, run }, { raise = true })
    t.equal(named.most, 1)
    t.ok(free.most > 1, "calls without a name did not run at once")
    t.ok(overlap > 0, "unrelated calls did not overlap")
end)

t.case("D8 a call that waits for a name lets later ones pass", function()
    local log, first = {}, door()
    local held = lash.tool {
        name = "held", parallel = "x", params = { i = "integer" },
        async = function(args)
            log[#log + 1] = "h" .. args.i
            if args.i == 1 then
                first.pass()
            end
        end,
    }
    local free = lash.tool {
        name = "free", params = { i = "integer" },
        async = function(args)
            log[#log + 1] = "f" .. args.i
            if args.i == 4 then
                first.open()
            end
        end,
    }
    fake.batch({ held, free }, {
        { "held", { i = 1 } }, { "held", { i = 2 } }, { "free", { i = 3 } }, { "free", { i = 4 } },
    })
    t.equal(table.concat(log, " "), "h1 f3 f4 h2")
end)

t.case("D9 duplicate and empty ids: every call runs, slots are positional", function()
    local ran = {}
    local tool = lash.tool {
        name = "mark", params = { i = "integer" },
        async = function(args)
            ran[#ran + 1] = args.i
            lash.sleep((5 - args.i) / 1000)
            return "out " .. args.i
        end,
    }
    local outcomes = fake.batch({ tool }, {
        { "mark", { i = 1 }, "same" }, { "mark", { i = 2 }, "same" }, { "mark", { i = 3 }, "" },
        { "mark", { i = 4 }, "" },
    })
    t.equal(outputs(outcomes), { "out 1", "out 2", "out 3", "out 4" })
    t.equal(ran, { 1, 2, 3, 4 })
end)

t.case("D10 the same call three times runs three times", function()
    local ran = 0
    local tool = lash.tool {
        name = "again",
        async = function()
            ran = ran + 1
            return ran
        end,
    }
    local outcomes = fake.batch({ tool }, { { "again" }, { "again" }, { "again" } })
    t.equal(outputs(outcomes), { "1", "2", "3" })
end)

t.case("D11 bad arguments: the tool does not run, the output says where and what", function()
    local ran = 0
    local tool = lash.tool {
        name = "typed", params = { n = "integer", list = "string[]?", deep = { x = "number?" } },
        async = function()
            ran = ran + 1
        end,
    }
    local good = '{"n":1,"deep":{}}'
    local bad = {
        { "{", "not valid JSON" }, { "nonsense", "not valid JSON" }, { '{"n":1', "not valid JSON" },
        { good .. "}", "not valid JSON" }, { good .. " x", "not valid JSON" }, { good .. good, "not valid JSON" },
        { '{"n":1,"deep":{},}', "not valid JSON" }, { "{'n':1}", "not valid JSON" }, { '{"n":01}', "not valid JSON" },
        { '{"n":NaN,"deep":{}}', "not valid JSON" }, { "\0", "not valid JSON" },
        { '{"n":"\xff","deep":{}}', "not valid JSON" },
        { "[]", "must be a JSON object" }, { "[1]", "must be a JSON object" }, { "null", "must be a JSON object" },
        { "1", "must be a JSON object" }, { '"{}"', "must be a JSON object" }, { "true", "must be a JSON object" },
        { "{}", "n" }, { '{"n":"1","deep":{}}', "/n" }, { '{"n":1.5,"deep":{}}', "/n" }, { '{"n":null,"deep":{}}', "/n" },
        { '{"n":[1],"deep":{}}', "/n" }, { '{"n":{"n":1},"deep":{}}', "/n" }, { '{"n":1,"deep":[]}', "/deep" },
        { '{"n":1,"deep":{"x":"y"}}', "/deep/x" }, { '{"n":1,"deep":{},"list":["a",2]}', "/list/1" },
        { '{"n":1,"deep":{},"list":"a"}', "/list" }, { '{"n":1,"deep":{},"extra":1}', "extra" },
    }
    local calls = {}
    for i, case in ipairs(bad) do
        calls[i] = { "typed", case[1] }
    end
    local outcomes = fake.batch({ tool }, calls, { limits = { turns = 3 } })
    for i, case in ipairs(bad) do
        t.equal(outcomes[i].status, "error", case[1])
        t.has(outcomes[i].output, case[2], case[1])
        t.has(outcomes[i].output, "arguments", case[1])
    end
    t.equal(ran, 0)
end)

t.case("D11 the position of a fault in the text and in the value is told", function()
    local tool = lash.tool { name = "typed", params = { n = "integer" }, async = print }
    local outcomes = fake.batch({ tool }, { { "typed", '{"n": 1, oops}' }, { "typed", '{"n":"one"}' } })
    t.ok(outcomes[1].output:find("%d"), "no position: " .. outcomes[1].output)
    t.has(outcomes[2].output, "/n")
    t.has(outcomes[2].output, "integer")
end)

t.case("D11 an empty text means no arguments, an integral float is an integer", function()
    local seen = {}
    local tool = lash.tool {
        name = "loose", params = { n = "integer?" },
        async = function(args)
            seen[#seen + 1] = args.n or "none"
        end,
    }
    local outcomes = fake.batch({ tool }, { { "loose", "" }, { "loose", "{}" }, { "loose", ' {"n":7} ' } })
    t.equal(statuses(outcomes), "ok ok ok")
    t.equal(seen, { "none", "none", 7 })
end)

t.case("D11 one bad call among good ones", function()
    local outcomes = fake.batch({ echo },
        { { "echo", { text = "one" } }, { "echo", "{" }, { "echo", { text = "three" } } })
    t.equal(statuses(outcomes), "ok error ok")
    t.equal(outcomes[3].output, "three")
end)

t.case("D12 an unknown tool: near names, siblings run, the run goes on", function()
    local tools = { echo }
    for _, name in ipairs { "search", "fetch", "forecast" } do
        tools[#tools + 1] = lash.tool { name = name, async = function() return name end }
    end
    local outcomes, result = fake.batch(tools, { { "serach" }, { "echo", { text = "x" } }, { "zzzzzzzzzz" } })
    t.equal(statuses(outcomes), "error ok error")
    t.has(outcomes[1].output, "'serach'")
    t.has(outcomes[1].output, "search")
    t.ok(not outcomes[1].output:find("fetch", 1, true), "names that are not near: " .. outcomes[1].output)
    t.has(outcomes[3].output, "echo, fetch, forecast, search")
    t.equal(result.text, "done")
end)

t.case("D12 names that are no names", function()
    local long = ("x"):rep(100000)
    local outcomes = fake.batch({ echo }, { { "" }, { long }, { "__index" }, { "\27[2J" } })
    t.equal(statuses(outcomes), "error error error error")
    t.ok(#outcomes[2].output < 2000, "the name comes back at full length")
    local none = fake.batch({}, { { "anything" } })
    t.has(none[1].output, "no tools")
end)

t.case("D13 a turn that was cut off runs none of its calls", function()
    local ran = 0
    local tool = lash.tool {
        name = "never",
        async = function()
            ran = ran + 1
        end,
    }
    local reasons = { length = "length", filter = "filter", refusal = "refused", error = "error" }
    for stop, reason in pairs(reasons) do
        local agent = fake.agent({ tools = { tool } }, {
            fake.calls({ { "never" }, { "never" } }, stop), fake.calls({ { "never" } }, stop),
        })
        local conv = agent:conversation()
        local result = conv:send("go", { no_raise = true })
        t.equal(result.reason, reason)
        t.equal(statuses(fake.outcomes(conv)), "not_run not_run")
    end
    t.equal(ran, 0)
end)

t.case("D13 after a cut the turn is asked for again, and may succeed", function()
    local ran = 0
    local tool = lash.tool {
        name = "once",
        async = function()
            ran = ran + 1
            return "ran"
        end,
    }
    local agent = fake.agent({ tools = { tool } },
        { fake.calls({ { "once" } }, "length"), fake.calls { { "once" } }, "done" })
    local result = agent:run("go")
    t.equal(result.text, "done")
    t.equal(ran, 1)
    t.equal(fake.outcomes(result.conversation, 2)[1].output, "ran")
end)

t.case("E1 a failing call changes nothing for its siblings", function()
    local tool = lash.tool {
        name = "mixed", params = { i = "integer" }, timeout = 1,
        async = function(args)
            if args.i == 1 then
                error("at once")
            elseif args.i == 2 then
                lash.sleep(0.001)
                error { code = "x", message = "later" }
            elseif args.i == 3 then
                lash.sleep(60)
            end
            lash.sleep(0.005)
            return "fine"
        end,
    }
    local agent = fake.agent({ tools = { tool } }, { fake.many(6, "mixed"), "done" })
    local result = agent:run("go")
    local outcomes = fake.outcomes(result.conversation)
    t.equal(statuses(outcomes), "error error timeout ok ok ok")
    t.has(outcomes[1].output, "at once")
    t.equal(outcomes[2].output, "later")
    t.has(outcomes[3].output, "after 1 s")
    t.equal(result.text, "done")
end)

return t.main(...)
