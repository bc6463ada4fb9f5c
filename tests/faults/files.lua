-- Files: arg[1] is a directory of its own.
local lash = require "lash"

local path = arg[1] .. "/file"
local function sound(ok, err)
    assert(ok or tostring(err) ~= "", "an error without words")
    return ok
end
if sound(lash.fs.write(path, ("line\n"):rep(1000))) then
    local text, err = lash.fs.read(path)
    assert(not sound(text, err) or #text == 5000)
end
sound(lash.fs.read(arg[1] .. "/nothing"))
lash.gather({ function() sound(lash.fs.read(path)) end, function() sound(lash.fs.read(arg[1])) end })
print("done")
