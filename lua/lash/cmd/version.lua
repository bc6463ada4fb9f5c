--- lash version
local system = require "lash.core.system"

local M = {}

--- @return exit status
function M.run()
    local text = ("lash %s (%s)\n"):format(require("lash.version").text, _VERSION)
    local ok, err = system.write(1, text)
    if not ok then
        require("lash.failure").raise(74, "cannot write to stdout: %s", err)
    end
    return 0
end

return M
