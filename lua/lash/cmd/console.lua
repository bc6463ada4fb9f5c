--- lash on a terminal: the console.
local failure = require "lash.failure"
local lash = require "lash"
local script = require "lash.script"
local settings = require "lash.cmd.settings"

local M = {}

--- @return exit status
function M.run(parsed)
    if parsed.options.timeout then
        failure.raise(64, "--timeout is for a script: give a FILE or -e CODE")
    end
    settings.apply(parsed.options)
    script.prepare()
    lash.main = false
    _G.arg = { [0] = parsed.argv[0] }
    script.add_path("./console")
    return require("lash.console").loop(parsed.options.color)
end

return M
