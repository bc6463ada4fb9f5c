-- S: run_sync from where no loop runs, and agents inside sync tools. tests/program/test_runsync.py has
-- what needs a stock lua5.4.
local t = require "t"
local fake = require "fake"
local engine = require "lash.core.engine"
local lash = require "lash"

t.case("S2 inside a task run_sync fails at once, naming run", function()
    local agent = fake.agent({}, { "never" })
    t.soon(0.05, function()
        local started = engine.hrtime()
        t.raises("call run", agent.run_sync, agent, "go")
        local conv = agent:conversation()
        t.raises("call send", conv.send_sync, conv, "go")
        t.equal({ conv.busy, #conv.entries }, { false, 0 })
        return (engine.hrtime() - started) / 1e9
    end)
end)

t.case("S2 inside an async and inside a sync tool", function()
    local inner = lash.agent { name = "inner", model = "fake/inner" }
    local async = lash.tool { name = "async", async = function() return inner:run_sync("go").text end }
    local sync = lash.tool { name = "sync", sync = function() return inner:run_sync("go").text end }
    local outcomes = fake.batch({ async, sync }, { { "async" }, { "sync" } })
    for i = 1, 2 do
        t.equal(outcomes[i].status, "error")
        t.has(outcomes[i].output, "call run")
    end
end)

t.case("S2 inside a coroutine of a task, and inside a callback", function()
    local agent = fake.agent({}, {})
    t.raises("call run", coroutine.wrap(function() return agent:run_sync("go") end))
    t.raises("call run", string.gsub, "x", "x", function() return agent:run_sync("go").text end)
end)

t.case("S3 a sync tool runs an agent that it captured", function()
    local double = lash.tool { name = "double", params = { n = "integer" }, async = function(args) return 2 * args.n end }
    local triple = lash.tool { name = "triple", params = { n = "integer" }, sync = function(args) return 3 * args.n end }
    local inner = lash.agent { name = "inner", model = "fake/inner", tools = { double, triple } }
    local outer = lash.tool {
        name = "outer",
        sync = function()
            local f = require "fake"
            f.models["fake/inner"] = function(conv)
                if #conv.entries == 1 then
                    return f.calls { { "double", { n = 2 } }, { "triple", { n = 2 } }, { "double", "{" } }
                end
                local out = f.outcomes(conv)
                return f.text(out[1].output .. out[2].output .. out[3].status)
            end
            return inner:run("go").text
        end,
    }
    local outcomes = fake.batch({ outer }, { { "outer" }, { "outer" } })
    t.equal({ outcomes[1].output, outcomes[2].output }, { "46error", "46error" })
end)

-- A sync tool that runs an agent whose sync tool runs an agent, and so on.
local function nested(depth)
    local tool = require("lash").tool
    local name = "level" .. depth
    return tool {
        name = name,
        sync = function()
            if depth == 0 then
                return "bottom"
            end
            local f = require "fake"
            local l = require "lash"
            local below = nested(depth - 1)
            local agent = f.agent({ tools = { below }, name = "agent" .. depth }, {
                f.calls { { below.name }, { below.name } },
                function(conv)
                    local out = f.outcomes(conv)
                    return f.text(("%d(%s,%s)"):format(depth, out[1].output, out[2].output))
                end,
            })
            l.sleep(0)
            return agent:run("go").text
        end,
    }
end

local function expected(depth)
    return depth == 0 and "bottom" or ("%d(%s,%s)"):format(depth, expected(depth - 1), expected(depth - 1))
end

local function run_nested(jobs, depth)
    engine.jobs(jobs)
    local level = nested(depth)
    local outcomes = fake.batch({ level }, { { level.name } })
    t.equal(outcomes[1].status, "ok", outcomes[1].output)
    t.equal(outcomes[1].output, expected(depth))
end

for _, jobs in ipairs { 2, 3 } do
    t.case(("S3 depth 6 with %d workers ends"):format(jobs), function()
        run_nested(jobs, 6)
    end)
end

t.case("S3 depth 8 with one worker ends", function()
    run_nested(1, 8)
end)

t.case("S3 a deadline of the outer call ends all levels", function()
    t.patience()
    engine.jobs(1)
    local outer = lash.tool {
        name = "outer", timeout = 0.1,
        sync = function()
            local f, l = require "fake", require "lash"
            local spin = l.tool { name = "spin", sync = function() while true do end end }
            local agent = f.agent({ tools = { spin } }, { f.calls { { "spin" } }, "never" })
            return agent:run("go").text
        end,
    }
    t.soon(1, function()
        local started = engine.hrtime()
        local outcomes = fake.batch({ outer }, { { "outer" } })
        local seconds = (engine.hrtime() - started) / 1e9
        t.equal(outcomes[1].status, "timeout")
        t.equal({ engine.offload(engine.ship("x", function() return "free" end)) }, { true, "free" })
        t.equal(engine.workers(), 1)
        return seconds
    end)
end)

t.case("S3 a deadline of an inner call holds also where no other worker is free", function()
    t.patience()
    engine.jobs(1)
    local outer = lash.tool {
        name = "outer", timeout = 25,
        sync = function()
            local f, l = require "fake", require "lash"
            local spin = l.tool { name = "spin", timeout = 0.05, sync = function() while true do end end }
            local agent = f.agent({ tools = { spin } }, { f.calls { { "spin" } }, function(conv)
                return f.text(f.outcomes(conv)[1].status)
            end })
            return agent:run("go").text
        end,
    }
    local outcomes = fake.batch({ outer }, { { "outer" } })
    t.equal(outcomes[1].output, "timeout")
end)

return t.main(...)
