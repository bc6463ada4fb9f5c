-- How soon a call is stopped (T2, T4): from its deadline, or from the cancel, to its end.
--
--     lash stop.lua spins|held|blocked|stuck ROUNDS      every tool of that kind of tests/lua/support/misbehave.lua
--     lash stop.lua gone ROUNDS URL                 until process groups, and a transfer to the server, are gone
--
-- Prints "name TAB microseconds", a line a round.
local engine = require "lash.core.engine"
local lash = require "lash"
local near = require "lash.near"
local alive = require("support.processes").alive

local kind, rounds, url = arg[1], tonumber(arg[2]), arg[3]
local LIMIT = 0.02 -- seconds from the start of a call to its deadline

local function tell(name, ns)
    print(("%s\t%.1f"):format(name, ns / 1000))
end

-- ns from the deadline of a call to its outcome.
local function stop(entry, args)
    local bad = lash.tool {
        name = "bad", params = { fifo = "string?" }, timeout = LIMIT, [entry.mark] = entry.fn,
    }
    local begin = engine.hrtime()
    local task = lash.spawn(require("lash.tool").run, bad, args, {})
    task:deadline(LIMIT)
    task:wait()
    return engine.hrtime() - begin - LIMIT * 1e9
end

local function stop_all()
    local misbehave = require "support.misbehave"
    local fifo = os.tmpname()
    assert(os.remove(fifo) and os.execute("mkfifo " .. fifo))
    local all = misbehave.all()
    for _, name in ipairs(near.names(misbehave[kind])) do
        if not name:find("server", 1, true) then
            for _ = 1, all[name].burns and 1 or rounds do
                tell(name, stop(all[name], { fifo = fifo }))
            end
        end
    end
    os.remove(fifo)
end

-- ns from the cancel of a task to the end of what it started and told with ready(thing).
local function gone(body, is_there)
    local thing
    local task = lash.spawn(body, function(value)
        thing = value
    end)
    while not thing or not is_there(thing) do
        lash.sleep(0.001)
    end
    local begin = engine.hrtime()
    task:cancel()
    while is_there(thing) do
        lash.sleep(0.0005)
    end
    return engine.hrtime() - begin
end

-- A shell that tells the number of its child; the child's end is what counts.
local function child_of(command)
    return function(ready)
        local process <close> = lash.exec.start { shell = command }
        ready(assert(math.tointeger(tonumber((process:lines()())))))
        lash.sleep(100)
    end
end

local function transfer(ready)
    ready(true)
    lash.http.post(url .. "/v1/responses", { json = {} })
end

local function is_waited_for()
    return assert(lash.http.get(url .. "/stats")):json().waiting > 0
end

local function gone_all()
    for _ = 1, rounds do
        tell("a child of a child", gone(child_of("sleep 100 & echo $!; wait"), alive))
        tell("a child of a child, SIGTERM ignored", gone(child_of("trap '' TERM; sleep 100 & echo $!; wait"), alive))
        tell("a transfer, as its server sees it", gone(transfer, is_waited_for))
    end
end

if kind == "gone" then
    gone_all()
else
    stop_all()
end
