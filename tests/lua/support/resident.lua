--- Bytes of memory that this process has now.
return function()
    for line in io.lines("/proc/self/status") do
        local kib = line:match("^VmRSS:%s+(%d+)")
        if kib then
            return tonumber(kib) * 1024
        end
    end
end
