-- What a script does that no script should: nothing of it may crash, hang or corrupt the program.
local t = require "t"
local engine = require "lash.core.engine"
local lash = require "lash"

t.case("a wait that a comparator refuses does not wake a later one", function()
    local code = engine.ship("spin", function() while true do end end)
    local function in_coroutine()
        coroutine.wrap(function() engine.offload(code) end)()
    end
    t.raises("cannot wait here", table.sort, { 1, 2, 3 }, in_coroutine)
    local begin = lash.now()
    lash.sleep(0.2)
    t.ok(lash.now() - begin >= 0.199, "slept too short")
end)

-- Runs with no more than `files` open files: as the program `lash` in a shell of its own.
local function run_with_few_files(files, script)
    local path = t.file(script, ".lua")
    local pipe = assert(io.popen(("ulimit -n %d; '%s' %s 2>&1"):format(files, os.getenv("LASH"), path)))
    local text = pipe:read("a")
    t.ok(pipe:close(), text)
    return text
end

t.case("workers for which no files are left are an error of the call, not the end", function()
    t.has(run_with_few_files(40, [[
        local engine = require "lash.core.engine"
        engine.jobs(60)
        local code = engine.ship("work", function()
            local begin = os.clock()
            while os.clock() - begin < 0.02 do end
            return true
        end)
        local list = {}
        for i = 1, 60 do list[i] = function() return select(2, assert(engine.offload(code))) end end
        local ended = 0
        for _, result in ipairs(lash.gather(list)) do
            ended = ended + (result.value and 1 or 0)
        end
        print(ended, "ended")
    ]]), "60\tended")
end)

t.case("a script that has all files open can still wait", function()
    t.has(run_with_few_files(40, [[
        local files = {}
        repeat
            files[#files + 1] = io.open("/dev/null")
        until #files > 50 or not io.open("/dev/null")
        lash.sleep(0.01)
        print("slept")
    ]]), "slept")
end)

return t.main(...)
