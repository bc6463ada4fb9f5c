--- The user's configuration: $XDG_CONFIG_HOME/lash/config.lua (~/.config/lash/config.lua), a Lua file
-- that returns a table:
--
--   return {
--     model = "openai/gpt-5",                      -- when neither -m nor LASH_MODEL names one
--     providers = {
--       openai = { key = os.getenv "MY_KEY", base_url = "http://localhost:8000/v1", timeout = 600 },
--       gemini = { key =, base_url =, api_version = "v1beta" },
--     },
--   }
local json = require "lash.json"

local M = {}

local loaded

local function path()
    local dir = os.getenv "XDG_CONFIG_HOME"
    if dir and dir ~= "" then
        return dir .. "/lash/config.lua"
    end
    local home = os.getenv "HOME"
    return home and home ~= "" and home .. "/.config/lash/config.lua" or nil
end

local function failure(file, why)
    return nil, setmetatable({
        code = "config",
        exit = 78,
        message = ("the configuration %s %s"):format(file, why),
    }, json.error_mt)
end

local function read(file)
    local handle = file and io.open(file, "rb")
    if not handle then
        return {}
    end
    local text = handle:read("a")
    handle:close()
    if not text then
        return failure(file, "cannot be read: is it a file?")
    end
    local chunk, err = load(text, "@" .. file, "t")
    if not chunk then
        return failure(file, "has a fault: " .. err)
    end
    local ok, value = pcall(chunk)
    if not ok then
        return failure(file, "fails: " .. tostring(value))
    elseif type(value) ~= "table" then
        return failure(file, "must return a table")
    elseif value.model ~= nil and type(value.model) ~= "string" then
        return failure(file, "must have a string as `model`")
    elseif value.providers ~= nil and type(value.providers) ~= "table" then
        return failure(file, "must have a table as `providers`")
    end
    return value
end

--- get() -> the table (empty when there is no file) | nil, err. Read once.
function M.get()
    if not loaded then
        local value, err = read(path())
        if not value then
            return nil, err
        end
        loaded = value
    end
    return loaded
end

--- provider(name) -> the provider's table, possibly empty | nil, err
function M.provider(name)
    local config, err = M.get()
    if not config then
        return nil, err
    end
    local found = (config.providers or {})[name]
    if found ~= nil and type(found) ~= "table" then
        return failure(path(), ("must have a table as `providers.%s`"):format(name))
    end
    return found or {}
end

return M
