local lash = require "lash"
_G.lash = lash
return function(arg)
    if arg[1] == "-e" then
        local fn = assert(load(arg[2], "=(-e)"))
        fn()
        return 0
    end
    local fn = assert(loadfile(arg[1]))
    lash.main = true
    fn(table.unpack(arg, 2))
    return 0
end
