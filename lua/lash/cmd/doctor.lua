--- lash doctor: what is there and what is missing. Keys never appear, only where they were found.
--
-- The report is one table, printed as text or JSON: { lash, lua, libuv, libcurl, ca, proxies, config,
-- terminal, model, providers, usable, next }.
local access = require "lash.provider.access"
local catalog = require "lash.provider.catalog"
local config = require "lash.config"
local engine = require "lash.core.engine"
local failure = require "lash.failure"
local registry = require "lash.provider.registry"
local settings = require "lash.cmd.settings"
local system = require "lash.core.system"

local M = {}

local TIMEOUT = 5 -- seconds for each provider
local UNUSABLE, USAGE = 78, 64

local function env(name)
    local value = os.getenv(name)
    return value ~= "" and value or nil
end

-- ---- the surroundings ----

local function libcurl()
    local found, err = require("lash.core.http").library()
    if not found then
        return { found = false, error = err.message }
    end
    return { found = true, version = found.version, tls = found.tls, ca_file = found.ca_file }
end

local function authorities(curl)
    local ca = { file = env "SSL_CERT_FILE" or curl.ca_file, dir = env "SSL_CERT_DIR",
        from = env "SSL_CERT_FILE" and "SSL_CERT_FILE" or "libcurl" }
    local handle, why = io.open(ca.file or "")
    if handle then
        handle:close()
    elseif ca.file then
        ca.error = why
    end
    return ca
end

local PROXIES = { "http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY" }

local function proxies()
    local list = {}
    for _, name in ipairs(PROXIES) do
        if env(name) then
            -- a proxy without a scheme may have a user and a password, too
            list[#list + 1] = { variable = name, value = access.shown(env(name)):gsub("^.*@", "") }
        end
    end
    return list
end

-- Whether others than the user may read a key that stands in config.lua.
local function readable_keys(path, values)
    local with_key = false
    for _, entry in pairs(values.providers or {}) do
        with_key = with_key or type(entry.key) == "string"
    end
    local stat = with_key and require("lash.fs").stat(path)
    local mode = stat and tonumber(tostring(stat.mode), 8)
    if mode and mode & 0x3F ~= 0 then
        return ("has a key and may be read by other users: chmod 600 %s"):format(path)
    end
    return nil
end

local function configuration()
    local path = config.path()
    local values, err = config.get()
    local file = { path = path, exists = path ~= nil and system.file_kind(path) ~= nil, error = err and err.message }
    file.warning = file.exists and values and readable_keys(path, values) or nil
    return file
end

local function terminal()
    return { stdin = system.isatty(0), stdout = system.isatty(1), stderr = system.isatty(2), term = env "TERM",
        columns = system.columns(1) or system.columns(2),
        color = env "NO_COLOR" and "NO_COLOR" or env "LASH_COLOR" or env "TERM" == "dumb" and "TERM=dumb" or "auto" }
end

-- ---- providers ----

local function is_set(names)
    for _, name in ipairs(names) do
        if env(name) then
            return true
        end
    end
    return false
end

-- What is known of a provider without asking it. state: "ready" (may be asked), "no key", "fault".
local function look(name, broken)
    local provider = { name = name }
    local entry, err = registry.entry(name, broken and {} or nil)
    if not entry then
        provider.state, provider.error, provider.set_up = "fault", err.message, true
        return provider
    end
    provider.protocol = entry.module.name
    provider.key = { variables = entry.keys, wanted = not entry.keyless }
    provider.set_up = next(entry.own) ~= nil or is_set(entry.keys) or is_set { entry.base_var }
    local base, where = access.base(entry)
    if not base then
        provider.state, provider.error = provider.set_up and "fault" or "no address", where.message
        return provider
    end
    provider.base_url, provider.base_from = access.shown(base), where or "built in"
    local key, from, problem = access.key(entry, base)
    provider.key.found, provider.key.from = key ~= nil, from
    if problem then
        local missing = not is_set(entry.keys) and entry.own.key == nil
        provider.state, provider.error = missing and "no key" or "fault", problem.message
        return provider
    end
    if key == nil then
        provider.key.wanted = false
    end
    local target
    target, err = registry.target(entry)
    if not target then
        provider.state, provider.error = "fault", err.message
        return provider
    end
    provider.state = "ready"
    return provider, entry, target
end

local ANSWERS = { no_list = true, rate = true }

-- Whether anything answers at an address whose protocol has no list of models; the key stays here.
local function reach(provider, target, timeout)
    local started = engine.hrtime()
    local res, err = require("lash.http").get(target.base_url, { timeout = timeout, connect_timeout = timeout,
        idle_timeout = timeout, follow = false })
    provider.ms = (engine.hrtime() - started) // 1000000
    provider.state, provider.status = res and "not asked" or "no answer", res and res.status
    provider.error = err and ("%s: %s"):format(provider.name, err.message)
end

-- Asks for the list of models: the smallest request that needs a valid key.
local function probe(provider, entry, target, timeout)
    if not target.provider.models_request then
        return reach(provider, target, timeout)
    end
    local all = setmetatable({ own = {} }, { __index = entry })
    local started = engine.hrtime()
    local list, err = catalog.list(all, target, timeout)
    provider.ms = (engine.hrtime() - started) // 1000000
    if list then
        provider.state, provider.models, provider.list = "ok", #list, list
    else
        provider.status, provider.error = err.status, err.message
        provider.state = ANSWERS[err.code] and err.status and "ok" or err.status and "refused" or "no answer"
    end
end

local function providers(broken, timeout)
    local list, jobs = {}, {}
    for i, name in ipairs(registry.remote()) do
        local provider, entry, target = look(name, broken)
        list[i] = provider
        if target then
            jobs[#jobs + 1] = function()
                probe(provider, entry, target, timeout)
            end
            jobs[jobs[#jobs]] = provider
        end
    end
    for i, result in ipairs(require("lash.tasks").gather({ table.unpack(jobs) })) do
        if not result.ok then
            local provider = jobs[jobs[i]]
            provider.state, provider.error = "fault", tostring(result.error)
        end
    end
    return list
end

-- ---- the model ----

local WORKS = { ok = true, ["not asked"] = true }

local function judge_remote(model, all)
    local name, id = registry.split(model.name)
    for _, provider in ipairs(all) do
        if provider.name == name then
            model.provider, model.usable = name, WORKS[provider.state] or false
            model.error = not model.usable and provider.error or nil
            for _, known in ipairs(model.usable and provider.list or {}) do
                if known.id == id then
                    return
                end
            end
            if model.usable and provider.list and #provider.list > 0 then
                local close = catalog.near(provider.list, id)
                model.warning = ("%s does not list '%s'%s"):format(name, id,
                    #close > 0 and "; near are " .. table.concat(close, ", ") or "")
            end
            return
        end
    end
end

-- The default model and why it is that.
local function default_model(option, all)
    local model = { name = option, from = option and "-m" }
    if not option then
        local name, from = registry.default()
        if not name then
            return { usable = false, error = from.message }
        end
        model.name, model.from = name, from
    end
    local target, err = registry.resolve(model.name)
    if not target then
        model.usable, model.error = false, err.message
    elseif target.base_url then
        judge_remote(model, all)
    else
        model.provider, model.usable = target.provider_name, true
    end
    return model
end

-- ---- what to do next ----

local function first(all, wanted)
    for _, provider in ipairs(all) do
        if wanted(provider) then
            return provider
        end
    end
    return nil
end

local function works(provider)
    return WORKS[provider.state]
end

local function failing(provider)
    return provider.set_up and not WORKS[provider.state] and provider.state ~= "no key"
end

local BEGIN = "export OPENAI_API_KEY=KEY (or ANTHROPIC_API_KEY, GEMINI_API_KEY ...), or start a server of your own "
    .. "(ollama serve), and run lash doctor again; -m demo works without"

local function next_step(report)
    local chosen, all = report.model, report.providers
    local there, broken = first(all, works), first(all, failing)
    if report.libcurl.error then
        return report.libcurl.error
    elseif report.config.error then
        return "mend config.lua: " .. report.config.error
    elseif chosen.name and not chosen.usable then
        return chosen.error
    elseif chosen.name then
        return chosen.warning and ("check the model's name: %s; `lash models %s` lists them"):format(chosen.warning,
            chosen.provider) or ("nothing is missing; try: lash ask %s\"Hello\""):format(
            chosen.from == "-m" and ("-m %s "):format(chosen.name) or "")
    elseif there then
        return ("choose a model: `lash models %s` lists them; then lash ask -m %s/NAME \"Hello\", or export "
            .. "LASH_MODEL=%s/NAME"):format(there.name, there.name, there.name)
    end
    return broken and broken.error or BEGIN
end

--- The report. opts: the options of the command.
function M.report(opts)
    local curl = libcurl()
    local file = configuration()
    local timeout = opts.timeout == 0 and 3600 or opts.timeout or TIMEOUT
    local report = {
        lash = require("lash.version").text, lua = _VERSION, libuv = system.versions().libuv, libcurl = curl,
        library = env "LASH_LUA", ca = authorities(curl), proxies = proxies(), config = file, terminal = terminal(),
        providers = providers(file.error ~= nil, timeout),
    }
    report.model = default_model(opts.model, report.providers)
    report.usable = report.model.usable
    if not report.model.name and not file.error then
        report.usable = first(report.providers, works) ~= nil
    end
    report.next = next_step(report)
    return report
end

--- @return exit status
function M.run(parsed)
    local opts = parsed.options
    local format = settings.format(opts)
    if format == "jsonl" then
        failure.raise(USAGE, "lash doctor prints text or json, not jsonl")
    elseif #parsed.words > 0 then
        failure.raise(USAGE, "lash doctor takes no arguments; what is '%s'? `lash models PROVIDER` asks one provider",
            parsed.words[1])
    end
    system.reserve_stdout()
    local report = M.report(opts)
    require("lash.cmd.doctor_text").print(report, format, opts)
    return report.usable and 0 or UNUSABLE
end

return M
