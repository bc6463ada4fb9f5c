-- lash.provider.registry: names of models, keys, addresses; what is said about those that are wrong.
local settings = require "support.settings"
local t = require "t"

local case, equal, has, ok = t.case, t.equal, t.has, t.ok
local env, config = settings.env, settings.config

local function resolve(name)
    return settings.registry().resolve(name)
end

local function no(name, exit, ...)
    local found, err = resolve(name)
    equal(found, nil, name)
    equal(err.exit, exit, name)
    ok(not err.message:find "\n", "one line")
    for _, part in ipairs { ... } do
        has(err.message, part)
    end
    return err.message
end

-- The fields of a target that were asked for.
local function fields(name, ...)
    local target, err = resolve(name)
    ok(target, tostring(err))
    local values = {}
    for i, field in ipairs { ... } do
        values[i] = target[field] == nil and "nil" or target[field]
    end
    return values
end

case("names: provider/model, demo, script:FILE", function()
    env { OPENAI_API_KEY = " the-key\n", GEMINI_API_KEY = "g1", GOOGLE_API_KEY = "g2", OPENAI_ORG_ID = "org" }
    equal(fields("openai/gpt-5", "provider_name", "model", "label", "key", "key_var", "base_url", "origin",
        "organization"), { "openai", "gpt-5", "openai/gpt-5", "the-key", "OPENAI_API_KEY",
        "https://api.openai.com/v1", "https://api.openai.com/v1", "org" })
    equal(fields("gemini/models/x/y", "model", "key", "key_var", "base_url"),
        { "models/x/y", "g2", "GOOGLE_API_KEY", "https://generativelanguage.googleapis.com" })
    equal(fields("demo", "label"), { "demo" })
    env { LASH_MODEL = "demo" }
    equal(fields(nil, "provider_name"), { "demo" })
end)

case("every protocol is a file that says how it is found", function()
    local registry = settings.registry()
    equal(registry.protocols(), { "anthropic", "gemini", "openai", "openai-chat" })
    for _, name in ipairs(registry.protocols()) do
        local entry = assert(registry.entry(name))
        equal(entry.module.name, name)
        ok(#entry.keys > 0 and entry.base_var and entry.base)
    end
    local names = " " .. table.concat(registry.names(), " ") .. " "
    for _, name in ipairs { "demo", "script", "openai", "gemini", "ollama", "openrouter", "azure" } do
        has(names, " " .. name .. " ")
    end
    for _, name in ipairs { "fault", "history", "registry", "aliases", "quirks", "dialect" } do
        ok(not names:find(" " .. name .. " ", 1, true), name)
        equal(registry.is_provider(name), false)
    end
end)

case("names that are wrong are explained", function()
    env {}
    no("gpt-5", 64, "openai/gpt-5")
    no("gemini-2.5-flash", 64, "gemini/gemini-2.5-flash")
    no("claude-x", 64, "anthropic/claude-x")
    no("dmeo", 64, "'demo'")
    no("opnai/gpt-5", 64, "opnai", "'openai'")
    no("olama/x", 64, "'ollama'", "config.lua")
    no("openai/", 64, "openai/NAME", "lash models openai")
    no("openai", 64, "openai/NAME", "lash models openai")
    no("demo/x", 64, "demo")
    no("", 64)
    no("/x", 64)
    no("../../x/y", 64)
    no("fault/x", 64)
    no("script:/does/not/exist.json", 66, "/does/not/exist.json")
    no("script:", 64)
end)

case("without a key: 78, what was looked for and what to do", function()
    env {}
    no(nil, 78, "LASH_MODEL", "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "-m demo", "lash doctor")
    no("openai/gpt-5", 78, "OPENAI_API_KEY", "OPENAI_BASE_URL", "-m demo")
    no("openrouter/a/b", 78, "OPENROUTER_API_KEY", "-m demo")
    no("gemini/x", 78, "GOOGLE_API_KEY", "GEMINI_API_KEY", "GOOGLE_GEMINI_BASE_URL", "-m demo")
    env { OPENAI_API_KEY = "", GEMINI_API_KEY = "k" }
    no("openai/gpt-5", 78, "gemini/", "GEMINI_API_KEY is set")
    no(nil, 78, "GEMINI_API_KEY is set", "lash models gemini")
    env { OPENAI_API_KEY = "two words" }
    ok(not no("openai/gpt-5", 78, "OPENAI_API_KEY"):find "two words")
end)

case("without a key a request can be shown nevertheless", function()
    env {}
    local registry = settings.registry()
    local told
    registry.without_key = function(message)
        told = message
    end
    local target = assert(registry.resolve "openai/gpt-5")
    ok(target.key ~= nil)
    has(told, "OPENAI_API_KEY")
end)

case("a server on this machine needs no key", function()
    for _, url in ipairs { "http://localhost:1/v1", "http://127.0.0.1:1/v1", "http://127.9.9.9", "http://[::1]:8/v1",
        "HTTP://LOCALHOST/", "http://user:pw@localhost:1" } do
        env { OPENAI_BASE_URL = url }
        local found = assert(resolve "openai/m")
        equal(found.key, nil)
        ok(not found.shown_url:find "pw")
        equal(found.origin, url)
    end
    for _, url in ipairs { "http://localhost.evil.com/", "http://127.0.0.1.evil.com", "http://evil.com/localhost",
        "http://localhost@evil.com" } do
        env { OPENAI_BASE_URL = url }
        no("openai/m", 78, "OPENAI_API_KEY")
    end
    for _, url in ipairs { "localhost:1234", "http://", "ftp://x/y", "http://a b/", "http:///v1" } do
        env { OPENAI_BASE_URL = url }
        no("openai/m", 78, "OPENAI_BASE_URL", "http://")
    end
end)

case("aliases: another address, key and quirks of a protocol", function()
    env { OPENAI_API_KEY = "not-theirs", OPENAI_BASE_URL = "https://not-theirs", OPENAI_CUSTOM_HEADERS = "a: b",
        OPENROUTER_API_KEY = "or", MISTRAL_API_KEY = "mi" }
    equal(fields("ollama/qwen3:8b", "provider_name", "model", "key", "base_url", "headers", "organization"),
        { "ollama", "qwen3:8b", "nil", "http://localhost:11434/v1", "nil", "nil" })
    equal(fields("openrouter/meta/llama:free", "model", "key", "key_var", "base_url"),
        { "meta/llama:free", "or", "OPENROUTER_API_KEY", "https://openrouter.ai/api/v1" })
    equal(fields("mistral/m", "quirks"), { { ids = 9 } })
    equal(resolve("ollama/m").provider.name, "openai-chat")
    config 'return { providers = { mistral = { quirks = { role = "developer" } }, ollama = { protocol = "openai" } } }'
    equal(fields("mistral/m", "quirks"), { { ids = 9, role = "developer" } })
    equal(resolve("ollama/m").provider.name, "openai")
end)

case("OLLAMA_HOST is read as Ollama reads it", function()
    local base = require("lash.provider.aliases").ollama.from_var
    for host, url in pairs {
        ["localhost"] = "http://localhost:11434/v1", ["0.0.0.0"] = "http://127.0.0.1:11434/v1",
        [":5000"] = "http://127.0.0.1:5000/v1", ["h:1"] = "http://h:1/v1", ["http://h"] = "http://h:80/v1",
        ["https://h/x/"] = "https://h:443/x/v1", ["http://h:9/v1"] = "http://h:9/v1", ["::1"] = "http://[::1]:11434/v1",
        ["[::1]:99"] = "http://[::1]:99/v1", ["[::]"] = "http://[::1]:11434/v1",
        ["0.0.0.0:80"] = "http://127.0.0.1:80/v1",
    } do
        equal(base(host), url, host)
    end
    env { OLLAMA_HOST = "not a host" }
    no("ollama/x", 78, "OLLAMA_HOST", "localhost:11434")
    env { OLLAMA_HOST = "192.168.1.5" } -- elsewhere, and no key either
    equal(fields("ollama/x", "base_url", "key", "base_var"), { "http://192.168.1.5:11434/v1", "nil", "OLLAMA_HOST" })
end)

case("an Azure resource has to be named, and its path is known", function()
    env { AZURE_OPENAI_API_KEY = "k" }
    no("azure/d", 78, "AZURE_OPENAI_ENDPOINT", "https://RESOURCE.openai.azure.com")
    env { AZURE_OPENAI_API_KEY = "k", AZURE_OPENAI_ENDPOINT = "https://r.openai.azure.com/" }
    equal(fields("azure/d", "base_url"), { "https://r.openai.azure.com/openai/v1" })
    env { AZURE_OPENAI_API_KEY = "k", AZURE_OPENAI_ENDPOINT = "https://r/openai/deployments/d?api-version=1" }
    equal(fields("azure/d", "base_url", "shown_url"),
        { "https://r/openai/deployments/d?api-version=1", "https://r/openai/deployments/d" })
end)

case("config.lua: a compatible server needs no code", function()
    env { OPENAI_API_KEY = "not-theirs", OPENAI_BASE_URL = "https://not-theirs", OPENAI_ORG_ID = "not-theirs" }
    config [[return { model = "my-corp/m", providers = { ["my-corp"] = { protocol = "openai",
        base_url = "https://models.corp/v1", key = "conf", headers = { ["x-team"] = "a" }, quirks = { role = "system" },
        stream = false, timeout = 5, idle_timeout = 6.5, event_timeout = 7 } } }]]
    equal(fields(nil, "label", "base_url", "key", "headers", "quirks", "stream", "timeout", "idle_timeout",
        "event_timeout", "organization"), { "my-corp/m", "https://models.corp/v1", "conf", { ["x-team"] = "a" },
        { role = "system" }, false, 5, 6.5, 7, "nil" })
    has(" " .. table.concat(settings.registry().names(), " "), " my-corp")
    ok(settings.registry().is_provider "my-corp")
    env { MY_CORP_API_KEY = "from-env", MY_CORP_BASE_URL = "https://elsewhere" }
    equal(fields("my-corp/m", "key", "base_url"), { "from-env", "https://elsewhere" })
end)

case("the environment goes before config.lua, which goes before what is built in", function()
    local text = [[return { providers = { openai = { key = "ck", base_url = "https://h/v1", organization = "co" },
        gemini = { key_env = "MY_G" } } }]]
    env {}
    config(text)
    equal(fields("openai/m", "key", "base_url", "organization"), { "ck", "https://h/v1", "co" })
    equal(fields("openai/m", "key_var"), { "providers.openai.key in config.lua" })
    no("gemini/m", 78, "MY_G is not set")
    env { OPENAI_API_KEY = "e", OPENAI_BASE_URL = "https://e/v1", OPENAI_ORG_ID = "eo", MY_G = "g",
        GEMINI_API_KEY = "other" }
    equal(fields("openai/m", "key", "base_url", "organization", "key_var"),
        { "e", "https://e/v1", "eo", "OPENAI_API_KEY" })
    equal(fields("gemini/m", "key", "key_var"), { "g", "MY_G" })
end)

case("a key may come from a function, or be none", function()
    env {}
    config [[count = 0
        return { providers = { openai = { key = function() count = count + 1 return "k" .. count end },
        gemini = { key = function() error "no store" end }, a = { protocol = "openai", base_url = "http://10.0.0.1/v1",
        key = false }, b = { protocol = "openai", base_url = "https://b", key = function() return 5 end } } }]]
    equal(fields("openai/m", "key"), { "k1" })
    equal(fields("openai/n", "key"), { "k1" })
    no("gemini/m", 78, "providers.gemini.key", "no store")
    equal(fields("a/m", "key"), { "nil" })
    no("b/m", 78, "providers.b.key", "number")
end)

case("header lines of a variable", function()
    env { OPENAI_API_KEY = "k", OPENAI_CUSTOM_HEADERS = "X-A: 1\n X-B :two words \n" }
    equal(fields("openai/m", "headers"), { { ["X-A"] = "1", ["X-B"] = "two words" } })
    env { OPENAI_API_KEY = "k", OPENAI_CUSTOM_HEADERS = "nonsense" }
    no("openai/m", 78, "OPENAI_CUSTOM_HEADERS", "NAME: VALUE")
end)

case("secrets are masked wherever a request is shown", function()
    local access = require "lash.provider.access"
    local target = { key = "the-key" }
    equal(access.masked_header("authorization", "Bearer the-key", target), "Bearer ****")
    equal(access.masked_header("X-Auth-Token", "t", target), "****")
    equal(access.masked_header("x-team", "a the-key b", target), "****")
    equal(access.masked_header("content-type", "application/json", target), "application/json")
    equal(access.masked_url "https://me:p@ss@h/v1?api-version=1&key=k&x=2&sig=s#f",
        "https://****@h/v1?api-version=1&key=****&x=2&sig=****#f")
    equal(access.masked_url "https://h/a@b?c=d", "https://h/a@b?c=d")
    equal(access.shown "https://me:p@ss@h:1/v1?key=k", "https://h:1/v1")
end)

case("an address with a fragment is refused, as its end would get lost", function()
    env { OPENAI_BASE_URL = "http://h/v1#x" }
    no("openai/m", 78, "OPENAI_BASE_URL has a '#'")
end)

case("entries that cannot work are explained", function()
    env {}
    config [[return { providers = { a = { base_url = "https://a" }, b = { protocol = "opnai", base_url = "https://b" },
        c = { protocol = "openai", key = "k" }, openai = { protocol = "gemini" }, d = { module = "not.there" },
        e = { module = "lash.version" }, gemini = { base_url = "generativelanguage", key = "k" } } }]]
    no("a/m", 78, "providers.a needs a protocol", "anthropic, gemini, openai, openai-chat")
    no("b/m", 78, "providers.b.protocol", "'opnai'", "'openai'")
    no("c/m", 78, "c has no address", "C_BASE_URL", "providers.c.base_url")
    no("openai/m", 78, "protocol of its own")
    no("d/m", 78, "providers.d.module", "not.there")
    no("e/m", 78, "providers.e.module", "request")
    no("gemini/m", 78, "providers.gemini.base_url in config.lua", "http://")
end)

case("a protocol of the user's own is a file beside config.lua", function()
    env { MINE_KEY = "k", MY_KEY = "k" }
    local file = config [[return { providers = { mine = { module = "my_protocol", quirks = { own = 1 } } } }]]
    local module = assert(io.open(file:gsub("config%.lua$", "my_protocol.lua"), "w"))
    module:write [[return { name = "mine", defaults = { keys = { "MY_KEY" }, base = "https://mine" },
        request = function() end, read = function() end }]]
    module:close()
    local path = package.path
    equal(fields("mine/m", "key", "base_url", "quirks"), { "k", "https://mine", { own = 1 } })
    equal(resolve("mine/m").provider.name, "mine")
    equal(package.path, path)
end)

return t.main(...)
