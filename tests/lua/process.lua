-- os.execute and io.popen: Lua's own behaviour, with children that are started as a program expects it.
local t = require "t"
local engine = require "lash.core.engine"

local function both(fn, ...)
    local here = table.pack(fn(...))
    t.equal({ engine.offload(engine.ship("process", fn), ...) }, { true, table.unpack(here, 1, here.n) })
    return table.unpack(here, 1, here.n)
end

t.case("os.execute tells how the command ended", function()
    t.equal({ both(function() return os.execute() end) }, { true })
    t.equal({ both(function() return os.execute("true") end) }, { true, "exit", 0 })
    local _, what, code = both(function() return os.execute("exit 3") end)
    t.equal({ what, code }, { "exit", 3 })
    _, what, code = both(function() return os.execute("kill -9 $$") end)
    t.equal({ what, code }, { "signal", 9 })
end)

t.case("io.popen reads, writes, and tells how the command ended", function()
    local text, _, what, code = both(function()
        local pipe = assert(io.popen("echo one; echo two; exit 4"))
        assert(io.type(pipe) == "file")
        local lines = {}
        for line in pipe:lines() do
            lines[#lines + 1] = line
        end
        return table.concat(lines, " "), pipe:close()
    end)
    t.equal({ text, what, code }, { "one two", "exit", 4 })
    local path = t.path()
    local pipe = assert(io.popen("cat >" .. path, "w"))
    pipe:write("written")
    t.equal({ pipe:close() }, { true, "exit", 0 })
    t.equal(io.open(path):read("a"), "written")
    t.equal(io.type(pipe), "closed file")
    t.raises("invalid mode", io.popen, "true", "rw")
    t.raises("closed file", pipe.write, pipe, "x")
end)

t.case("children have default signals and an empty mask, also those of workers", function()
    local mask, ignored = both(function()
        local status = io.popen("cat /proc/self/status"):read("a")
        return status:match("SigBlk:%s*(%x+)"), status:match("SigIgn:%s*(%x+)")
    end)
    t.equal(mask, "0000000000000000")
    t.equal(tonumber(ignored, 16) & (1 << 12), 0) -- SIGPIPE
end)

t.case("commands of a call do not get the keys of providers, those of a script do", function()
    local script = t.file([[
        local lash = require "lash"
        local function show()
            return io.popen("echo $OPENAI_API_KEY-$ANTHROPIC_AUTH_TOKEN-$MY_API_KEY_FILE"):read("l"),
                os.execute('test -z "$OPENAI_API_KEY"')
        end
        local engine = require "lash.core.engine"
        print(show())
        print(select(2, engine.offload(engine.ship("show", show))))
        local group <close> = engine.group()
        local task = group:spawn(function()
            engine.current():mark_call { tool = {} }
            print(show())
        end)
        group:wait()
        assert(task:result())
    ]], ".lua")
    local command = ("OPENAI_API_KEY=a ANTHROPIC_AUTH_TOKEN=b MY_API_KEY_FILE=c '%s' %s"):format(os.getenv "LASH", script)
    t.equal(io.popen(command):read("a"), "a-b-c\tnil\texit\t1\n--c\ttrue\texit\t0\n--c\ttrue\texit\t0\n")
end)

t.case("a file of io.popen that a call leaves open is closed with it", function()
    engine.jobs(1)
    local path = t.path()
    local code = engine.ship("leaves", function(file)
        io.popen("cat >" .. file, "w"):write("flushed")
    end)
    t.equal({ engine.offload(code, path) }, { true })
    t.equal({ engine.offload(engine.ship("next", function(file) return io.open(file):read("a") end), path) },
        { true, "flushed" })
end)

return t.main(...)
