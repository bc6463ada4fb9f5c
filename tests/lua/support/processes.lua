--- Processes that tests start: FIFOs through which they tell of themselves, and whether they still run.
local t = require "t"
local lash = require "lash"

local M = {}

--- A FIFO of its own.
function M.new_fifo()
    local path = t.path()
    t.equal(lash.exec { "mkfifo", path }.code, 0)
    return path
end

--- True while the process runs; a zombie does not.
function M.alive(pid)
    local file = io.open(("/proc/%d/stat"):format(pid))
    local text = file and file:read("a")
    if file then
        file:close()
    end
    return text and not text:find("%) [ZX]") or false
end

--- Fails unless all are gone within `seconds`: by themselves they live longer than any case.
function M.gone(pids, seconds)
    local ends = lash.hrtime() + (seconds or 20) * t.slower * 1e9
    for pid in pids:gmatch("%d+") do
        while M.alive(pid) do
            if lash.hrtime() > ends then
                error(("process %s lives"):format(pid), 2)
            end
            lash.sleep(0.002)
        end
    end
end

--- A command that tells its own number and that of its child through a FIFO, and waits.
function M.family(fifo, more)
    return ("%s sleep 1000 & echo $$ $! > %s; wait; sleep 1000"):format(more or "", fifo)
end

return M
