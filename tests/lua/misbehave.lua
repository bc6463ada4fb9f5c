-- Each tool of support/misbehave.lua, in a batch with two that behave: it ends as documented and within its
-- limit, its siblings answer, and the next call on that worker is right.
local t = require "t"
local fake = require "fake"
local engine = require "lash.core.engine"
local lash = require "lash"
local misbehave = require "support.misbehave"
local near = require "lash.near"
local serve = require "support.serve"

local LIMIT = 0.03 -- seconds that the tool may take
local STUCK = 1 -- by then what gets stuck is

-- Longest time from the deadline to the answer: a stuck worker is waited for 100 ms.
local PATIENCE = 20

local NAP = ("100.%07d"):format(require("lash.core.system").getpid())

local function arguments(entry)
    local args = { nap = NAP }
    local source = string.dump(entry.fn)
    if source:find("fifo", 1, true) then
        args.fifo = t.path()
        assert(os.execute("mkfifo " .. args.fifo))
        t.remove_later(args.fifo)
    end
    if source:find("trickle", 1, true) then
        args.trickle = serve() .. "/trickle/100?ms=1000"
    end
    return args
end

-- Processes that the tool has started, whoever is their parent by now.
local function children()
    local found = {}
    for _, entry in ipairs(assert(lash.fs.list("/proc"))) do
        local line = entry.name:find("^%d+$") and lash.fs.read(("/proc/%s/cmdline"):format(entry.name))
        if line and line:find(NAP, 1, true) then -- a zombie has none
            found[#found + 1] = line
        end
    end
    return found
end

-- They may have a moment to say good-bye: 200 ms.
local function no_children()
    local started = engine.hrtime()
    while #children() > 0 and (engine.hrtime() - started) / 1e9 < PATIENCE * t.slower do
        lash.sleep(0.01)
    end
    t.equal(children(), {})
end

local function judge(entry)
    if entry.status ~= "lost" then
        t.patience()
    end
    local args = arguments(entry)
    local bad = lash.tool {
        name = "bad", params = { fifo = "string?", trickle = "string?", nap = "string" },
        timeout = entry.status == "timeout" and LIMIT or entry.status == "lost" and STUCK or 20,
        memory = entry.memory, [entry.mark] = entry.fn,
    }
    local good = lash.tool { name = "good", async = function() lash.sleep(0.01) return "good" end }
    local best = lash.tool { name = "best", sync = function() return "best" end }
    local started = engine.hrtime()
    local outcomes = fake.batch({ bad, good, best }, { { "good" }, { "bad", args }, { "best" } })
    local seconds = (engine.hrtime() - started) / 1e9
    t.equal({ outcomes[1].output, outcomes[3].output }, { "good", "best" })
    t.equal(outcomes[2].status, entry.status, outcomes[2].output)
    t.has(outcomes[2].output, entry.has or "")
    if entry.status == "timeout" then
        t.has(outcomes[2].output, "timed out after 0.03 s")
        t.ok(seconds >= LIMIT and seconds < (LIMIT + PATIENCE) * t.slower, seconds)
    end
    no_children()
    engine.jobs(entry.burns and 2 or 1)
    t.equal(fake.batch({ best }, { { "best" } })[1].output, "best")
end

local all = misbehave.all()
for _, name in ipairs(near.names(all)) do
    local entry = all[name]
    local ids = { spins = "T2 T6", held = "T1 T6", blocked = "T3 T4", stuck = "T3", fails = "D15 E1" }
    t.case(("%s a misbehaving tool: %s"):format(ids[entry.kind], name), function()
        if entry.status ~= "error" then
            t.needs_prompt_signals()
        end
        judge(entry)
    end)
end

return t.main(...)
