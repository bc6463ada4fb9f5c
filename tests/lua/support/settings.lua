--- An environment and a config.lua of a test's own. Require it before anything of lash.
--
--     settings.env { OPENAI_API_KEY = "k" }
--     settings.config 'return { model = "demo" }'
local t = require "t"

local M = {}

local vars = {}
local getenv = os.getenv

local MINE = { "^LASH_MODEL$", "_API_KEY$", "_AUTH_TOKEN$", "_BASE_URL$", "_HEADERS$", "_HOST$", "^OPENAI_", "^GEMINI_",
    "^GOOGLE_", "^ANTHROPIC_", "^AZURE_", "^XDG_CONFIG_HOME$", "^HOME$", "^MY_" }

os.getenv = function(name) -- luacheck: ignore
    for _, pattern in ipairs(MINE) do
        if name:find(pattern) then
            return vars[name]
        end
    end
    return getenv(name)
end

--- Sets all variables that providers look at; what is not named is not set.
function M.env(new)
    local dir = vars.XDG_CONFIG_HOME
    vars = new
    vars.XDG_CONFIG_HOME = vars.XDG_CONFIG_HOME or dir
end

--- Writes config.lua; nil removes it. The file is read anew.
function M.config(text)
    for _, name in ipairs { "config", "provider.access", "provider.registry" } do
        package.loaded["lash." .. name] = nil
    end
    if text == nil then
        vars.XDG_CONFIG_HOME = nil
        return nil
    end
    local dir = t.path()
    os.remove(dir)
    assert(os.execute(("mkdir -p '%s/lash'"):format(dir)))
    local file = assert(io.open(dir .. "/lash/config.lua", "w"))
    file:write(text)
    file:close()
    vars.XDG_CONFIG_HOME = dir
    return dir .. "/lash/config.lua"
end

--- The part of the library that reads them, as new.
function M.registry()
    return require "lash.provider.registry"
end

return M
