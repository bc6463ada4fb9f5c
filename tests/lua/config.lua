-- lash.config: every field of config.lua is checked, and what is wrong is named.
local settings = require "support.settings"
local t = require "t"

local case, equal, has, ok = t.case, t.equal, t.has, t.ok

local function get(text)
    settings.config(text)
    return require("lash.config").get()
end

local function refused(text, ...)
    local value, err = get(text)
    equal(value, nil, text)
    equal({ err.code, err.exit }, { "config", 78 })
    has(err.message, "config.lua")
    for _, part in ipairs { ... } do
        has(err.message, part)
    end
end

case("a good file", function()
    local value = assert(get [[return { model = "openai/m", providers = {
        openai = { key = "k", timeout = 1, stream = true },
        ["my-server"] = { protocol = "openai-chat", base_url = "http://localhost:1", key = false, key_env = "A_1",
            headers = { ["x-a"] = "b" }, quirks = { max_tokens = "max_tokens", parallel = true, output = false, ids = 9 },
            idle_timeout = 0.5, event_timeout = 3, models = { "a", "b" } },
        own = { module = "a.b-c", quirks = { anything = {} } } } }]])
    equal(value.providers["my-server"].models, { "a", "b" })
    equal(require("lash.config").provider "openai", { key = "k", timeout = 1, stream = true })
    equal(require("lash.config").provider "gemini", {})
    equal(assert(get "return {}"), {})
end)

case("no file is an empty one", function()
    settings.env {}
    settings.config(nil)
    equal(require("lash.config").path(), nil)
    equal(require("lash.config").get(), {})
    settings.env { HOME = "/does/not/exist" }
    equal(require("lash.config").path(), "/does/not/exist/.config/lash/config.lua")
    equal(require("lash.config").get(), {})
    settings.env { XDG_CONFIG_HOME = t.file "" } -- no directory
    equal(require("lash.config").get(), {})
end)

case("a file that is no configuration", function()
    refused("return {\n model = = }", "config.lua:2:")
    refused("error 'gone'", "gone")
    local _, err = get "return { providers = { openai = { key = 'sk-abc123def456 } } }"
    ok(not err.message:find "abc123" and not err.message:find "\n", err.message)
    refused("error {}", "fails")
    refused("", "must return a table")
    refused("return 5", "must return a table")
    refused("\27Lua", "binary")
    local file = settings.config "return {}"
    os.remove(file)
    os.execute(("mkdir '%s'"):format(file))
    local value, err = require("lash.config").get()
    equal(value, nil)
    has(err.message, "cannot be read")
end)

case("a file that may not be read is not taken for none", function()
    local file = settings.config "return {}"
    os.execute(("chmod 000 '%s'"):format(file))
    local readable = io.open(file)
    if readable then
        readable:close()
        t.skip "root may read everything"
    end
    local value, err = require("lash.config").get()
    equal(value, nil)
    has(err.message, "ermission denied")
end)

case("fields nobody knows are refused with the near name", function()
    refused('return { modle = "x" }', "modle", "'model'", "model, providers")
    refused('return { providers = { openai = { baseurl = "x" } } }', "providers.openai.baseurl", "'base_url'")
    refused('return { providers = { ["my-x"] = { kee = "x" } } }', 'providers["my-x"].kee', "'key'")
    refused('return { providers = { a = { quirks = { max_token = "x" } } } }', "providers.a.quirks.max_token",
        "'max_tokens'")
    refused("return { 5 }", "[1]")
end)

case("fields of another type are refused with their path", function()
    refused("return { model = 5 }", "model must be a text, got a number")
    refused('return { model = "" }', "an empty one")
    refused("return { providers = 5 }", "providers must be a table, got a number")
    refused("return { providers = { openai = 5 } }", "providers.openai must be a table, got a number")
    refused("return { providers = { { key = 'x' } } }", "providers[1]", "name of a provider")
    refused("return { providers = { ['a/b'] = {} } }", "name of a provider")
    refused("return { providers = { demo = {} } }", "providers.demo")
    for field, parts in pairs {
        ["base_url = 5"] = "base_url must be a text", ["key = 5"] = "key must be a text, a function",
        ["key = true"] = "false where no key is wanted, got true", ["key_env = 'A B'"] = "environment variable, got 'A B'",
        ["stream = 'no'"] = "stream must be true or false, got a string", ["timeout = 0"] = "above 0, got 0",
        ["timeout = '5s'"] = "timeout must be a number of seconds", ["idle_timeout = 0/0"] = "above 0",
        ["event_timeout = -1"] = "above 0", ["headers = 5"] = "headers must be a table",
        ["headers = { ['a b'] = 'x' }"] = "'a b' is no name of a header",
        ["headers = { a = 'x\\ny' }"] = "headers.a must be a text of one line",
        ["headers = { a = 5 }"] = "headers.a must be a text of one line, got a number", ["headers = { 'x' }"] = "no name",
        ["models = { 5 }"] = "models[1] must be a name", ["models = { a = 'b' }"] = "models must be a list",
        ["models = { [2] = 'b' }"] = "gaps", ["module = '/x'"] = "module must be the name of a Lua module",
        ["quirks = 5"] = "quirks must be a table", ["quirks = { ids = 'x' }"] = "quirks.ids must be a number, got 'x'",
        ["quirks = { role = 'user' }"] = 'quirks.role must be "system" or "developer", got \'user\'',
        ["quirks = { output = 'json' }"] = 'quirks.output must be true or false or "json_object", got \'json\'',
        ["quirks = { think = 'no' }"] = "quirks.think must be true or false or",
        ["quirks = { parallel = 1 }"] = "quirks.parallel must be true or false",
        ["protocol = {}"] = "protocol must be a text",
    } do
        refused(("return { providers = { x = { %s } } }"):format(field), parts)
    end
end)

case("a faulty file is named wherever it is needed, and read again", function()
    settings.env {}
    local file = settings.config "return { model = 5 }"
    local registry = settings.registry()
    local found, err = registry.resolve(nil)
    equal(found, nil)
    equal(err.exit, 78)
    has(err.message, file)
    ok(registry.resolve "demo")
    ok(#registry.names() > 3)
    local handle = assert(io.open(file, "w"))
    handle:write 'return { model = "demo" }'
    handle:close()
    equal(assert(registry.resolve(nil)).label, "demo")
end)

return t.main(...)
