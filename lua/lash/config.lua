--- The user's configuration: $XDG_CONFIG_HOME/lash/config.lua (~/.config/lash/config.lua), a Lua file
-- that returns a table:
--
--   return {
--     model = "openai/gpt-5",                  -- when neither -m nor LASH_MODEL names one
--     providers = {
--       openai = { key = "...", timeout = 600 },
--       mine = { protocol = "openai-chat", base_url = "https://models.example.com/v1", key_env = "MY_KEY" },
--     },
--   }
--
-- Every field is checked when the file is read: what nobody knows is refused, not ignored. The environment
-- goes before it, command-line options before both. See `lash help providers`.
local engine = require "lash.core.engine"
local fault = require "lash.provider.fault"
local json = require "lash.json"
local near = require "lash.near"
local quirks = require "lash.provider.quirks"

local M = {}

-- ---- where ----

--- path() -> of the file, which need not exist | nil without XDG_CONFIG_HOME and HOME
function M.path()
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

--- failure(why) -> nil, err: what is wrong with the file; `why` goes on after its name.
function M.failure(why)
    return failure(M.path() or "config.lua", why)
end

-- ---- checks ----

-- Where in the table, as a user writes it: providers.ollama.quirks, providers["my server"]
local function at(path, name)
    if type(name) == "string" and name:find("^[%a_][%w_]*$") then
        return path == "" and name or path .. "." .. name
    end
    return ("%s[%s]"):format(path, type(name) == "string" and ("%q"):format(name) or tostring(name))
end
M.at = at

local function article(kind)
    return (kind:find("^[aeiou]") and "an " or "a ") .. kind
end

local function shown(value)
    return value == nil and "nothing" or type(value) == "boolean" and tostring(value) or article(type(value))
end

-- Each check: (path, value) -> the sentence that says what is wrong, or nil
local function text(path, value)
    if type(value) ~= "string" or value == "" then
        return ("%s must be a text, got %s"):format(path, value == "" and "an empty one" or shown(value))
    end
end

local function flag(path, value)
    if type(value) ~= "boolean" then
        return ("%s must be true or false, got %s"):format(path, shown(value))
    end
end

local function seconds(path, value)
    if type(value) ~= "number" or not (value > 0 and value <= 1e6) then
        return ("%s must be a number of seconds above 0, got %s"):format(path,
            type(value) == "number" and tostring(value) or shown(value))
    end
end

local function key(path, value)
    if type(value) ~= "string" and type(value) ~= "function" and value ~= false then
        return ("%s must be a text, a function that returns one, or false where no key is wanted, got %s"):format(
            path, shown(value))
    end
end

local function variable(path, value)
    if type(value) ~= "string" or not value:find("^[%a_][%w_]*$") then
        return ("%s must be the name of an environment variable, got %s"):format(path,
            type(value) == "string" and ("'%s'"):format(value) or shown(value))
    end
end

local function module_name(path, value)
    if type(value) ~= "string" or not value:find("^[%w_-]+[%w_.-]*$") then
        return ("%s must be the name of a Lua module, as for require, got %s"):format(path,
            type(value) == "string" and ("'%s'"):format(value) or shown(value))
    end
end

local function headers(path, value)
    if type(value) ~= "table" then
        return ("%s must be a table of names and texts, got %s"):format(path, shown(value))
    end
    for name, header in pairs(value) do
        if type(name) ~= "string" or not name:find("^[%w!#$%%&'*+.^_`|~-]+$") then
            return ("%s: %s is no name of a header"):format(path, type(name) == "string" and ("'%s'"):format(name)
                or shown(name))
        elseif type(header) ~= "string" or header:find("[%c]") then
            return ("%s must be a text of one line, got %s"):format(at(path, name),
                type(header) == "string" and "control characters" or shown(header))
        end
    end
end

local function names(path, value)
    if type(value) ~= "table" then
        return ("%s must be a list of names, got %s"):format(path, shown(value))
    end
    local count = 0
    for i, name in pairs(value) do
        count = count + 1
        if math.type(i) ~= "integer" then
            return ("%s must be a list of names; it has the field %s"):format(path, at("", i))
        elseif type(name) ~= "string" or name == "" then
            return ("%s must be a name, got %s"):format(at(path, i), name == "" and "an empty one" or shown(name))
        end
    end
    if count ~= #value then
        return ("%s must be a list of names without gaps"):format(path)
    end
end

-- The fields of one table, each with its check.
local function fields(path, value, checks)
    if type(value) ~= "table" then
        return ("%s must be a table, got %s"):format(path, shown(value))
    end
    for _, name in ipairs(near.names(checks)) do
        local why = value[name] ~= nil and checks[name](at(path, name), value[name])
        if why then
            return why
        end
    end
    for name in pairs(value) do
        if checks[name] == nil then
            return ("%s is no field lash knows%s; there are %s"):format(at(path, name),
                near.hint(tostring(name), near.names(checks)), table.concat(near.names(checks), ", "))
        end
    end
end

local PROVIDER = {
    protocol = text, module = module_name, base_url = text, key = key, key_env = variable, headers = headers,
    stream = flag, timeout = seconds, idle_timeout = seconds, event_timeout = seconds, models = names,
    organization = text, project = text, api_version = text,
    quirks = function() end, -- see below: they depend on the protocol
}

local function provider(path, name, value)
    if type(name) ~= "string" or not name:find("^[%w_][%w_.-]*$") then
        return ("%s is no name of a provider: letters, digits, '_', '-' and '.'"):format(at(path, name))
    elseif name == "demo" or name == "script" then
        return ("%s: there is nothing to configure about %s"):format(at(path, name), name)
    end
    local here = at(path, name)
    local why = fields(here, value, PROVIDER)
    if why or value.quirks == nil then
        return why
    elseif type(value.quirks) ~= "table" then
        return ("%s must be a table, got %s"):format(at(here, "quirks"), shown(value.quirks))
    end
    return not value.module and quirks.fault(at(here, "quirks"), value.quirks) or nil
end

local TOP = {
    model = text,
    providers = function(path, value)
        if type(value) ~= "table" then
            return ("%s must be a table, got %s"):format(path, shown(value))
        end
        for name, entry in pairs(value) do
            local why = provider(path, name, entry)
            if why then
                return why
            end
        end
    end,
}

-- ---- reading ----

local ENOENT, ENOTDIR = 2, 20

local function read(file)
    if not file then
        return {}
    end
    local handle, err, code = io.open(file, "rb")
    if not handle then
        if code == ENOENT or code == ENOTDIR then
            return {}
        end
        return failure(file, "cannot be read: " .. err:gsub("^.*: ", ""))
    end
    local source = handle:read("a")
    handle:close()
    if not source then
        return failure(file, "cannot be read: is it a file?")
    end
    local chunk, why = load(source, "@" .. file, "t")
    if not chunk then
        return failure(file, "has a fault: " .. fault.clean(why)) -- Lua shows what is written there
    end
    local ok, value = pcall(chunk)
    if not ok and engine.cancel_reason(value) then
        error(value, 0) -- --timeout or Ctrl-C: no fault of the file
    elseif not ok then
        return failure(file, "fails: " .. fault.clean(tostring(value)))
    elseif type(value) ~= "table" then
        return failure(file, "must return a table: return { model = ..., providers = { ... } }")
    end
    why = fields("", value, TOP)
    if why then
        return failure(file, "has a fault: " .. why)
    end
    return value
end

local loaded

--- get() -> the table (empty when there is no file) | nil, err. Read once, and again after an error.
function M.get()
    if not loaded then
        local value, err = read(M.path())
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
    return (config.providers or {})[name] or {}
end

return M
