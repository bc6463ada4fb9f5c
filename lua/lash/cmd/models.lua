--- lash models [PROVIDER[/PREFIX]...]: the models that providers list, named as -m takes them. All are asked
-- at once; one that fails has a line on stderr and spoils no other.
local catalog = require "lash.provider.catalog"
local config = require "lash.config"
local failure = require "lash.failure"
local fault = require "lash.provider.fault"
local json = require "lash.json"
local output = require "lash.cmd.output"
local registry = require "lash.provider.registry"
local script = require "lash.script"
local settings = require "lash.cmd.settings"
local system = require "lash.core.system"
local text = require "lash.text"

local M = {}

local TIMEOUT = 10 -- seconds for each provider
local NO_KEY, REFUSED, USAGE = 78, 69, 64

-- ---- whom to ask ----

local LOCAL = { demo = true, script = true }

-- { name =, prefix =, entry =, target = } of one that was named, or raises.
local function named(word)
    local name, prefix = word:match("^([^/]*)/?(.*)$")
    if LOCAL[name] then
        failure.raise(USAGE, "%s has no list of models: it is one itself (-m %s)", name,
            name == "demo" and "demo" or "script:FILE")
    end
    local entry, err = registry.entry(name)
    local target
    if entry then
        target, err = registry.target(entry)
    end
    if not target then
        failure.raise(err.exit, "%s", err.message)
    end
    return { name = name, prefix = prefix, entry = entry, target = target, wanted = true }
end

-- Whether anything is set for a provider: then its errors are told.
local function is_set_up(entry)
    local found = next(entry.own) ~= nil
    for _, var in ipairs { entry.base_var, table.unpack(entry.keys) } do
        found = found or (os.getenv(var) or "") ~= ""
    end
    return found
end

-- Whether the same account was met under another name: openai and openai-chat have the same models.
local function is_known(seen, entry, target)
    local request = target.provider.models_request and target.provider.models_request(target)
    local account = (request and request.url or entry.name) .. "\n" .. (target.key or "")
    local known = seen[account] ~= nil and next(entry.own) == nil
    seen[account] = true
    return known
end

-- What is known of a provider that was not named; nil when it is not there.
local function candidate(name, seen)
    local entry, err = registry.entry(name)
    local target
    if entry then
        target, err = registry.target(entry)
    end
    local wanted = not entry or is_set_up(entry)
    if not target then
        return err.code ~= "key" and wanted and { name = name, prefix = "", error = err, wanted = true } or nil, entry
    elseif is_known(seen, entry, target) then
        return nil, entry
    end
    return { name = name, prefix = "", entry = entry, target = target, wanted = wanted }, entry
end

-- All whose key is there, and servers that want none.
-- @return list, the variables that were looked at for keys
local function everybody()
    local readable, broken = config.get()
    if not readable then
        failure.raise(broken.exit, "%s", broken.message)
    end
    local list, variables, seen = {}, {}, {}
    local function add_variable(var)
        if var and not seen[var] then -- openai and openai-chat have the same
            seen[var] = true
            variables[#variables + 1] = var
        end
    end
    for _, name in ipairs(registry.remote()) do
        local one, entry = candidate(name, seen)
        list[#list + 1] = one
        add_variable(entry and not entry.keyless and entry.keys[1])
    end
    return list, variables
end

-- ---- asking ----

local function ask(one, timeout)
    if one.error then
        return
    end
    one.list, one.error = catalog.list(one.entry, one.target, timeout)
end

local function ask_all(list, timeout)
    local jobs = {}
    for i, one in ipairs(list) do
        jobs[i] = function()
            ask(one, timeout)
        end
    end
    local results = require("lash.tasks").gather(jobs)
    for i, result in ipairs(results) do
        if not result.ok then
            list[i].error = fault.new { code = "error", exit = 70,
                message = ("%s: its list of models cannot be read: %s"):format(list[i].name, tostring(result.error)) }
        end
    end
end

local function begins(id, prefix)
    return id:sub(1, #prefix):lower() == prefix:lower()
end

-- What of the list was asked for; a prefix that nothing begins with is an error.
local function select_models(one)
    local chosen = {}
    for _, model in ipairs(one.list or {}) do
        if begins(model.id, one.prefix) then
            chosen[#chosen + 1] = { name = one.name .. "/" .. model.id, provider = one.name, id = model.id,
                title = model.name, context = model.context, output = model.output }
        end
    end
    if #chosen == 0 and one.list and one.prefix ~= "" then
        local close = catalog.near(one.list, one.prefix)
        one.error = fault.new { code = "model", exit = REFUSED, message = ("%s has no model that begins with '%s'%s")
            :format(one.name, one.prefix, #close > 0 and "; near are " .. table.concat(close, ", ") or "") }
    end
    return chosen
end

-- ---- telling ----

local function pad(word, width)
    return word .. (" "):rep(width - (utf8.len(word) or #word))
end

local function table_of(models)
    local rows, width = {}, { 0, 0 }
    for i, model in ipairs(models) do
        local context = model.context and ("context %d"):format(model.context) or ""
        rows[i] = { (text.plain(model.name):gsub("%s", " ")), context, model.output and ("output %d"):format(
            model.output) or "" }
        width[1] = math.max(width[1], utf8.len(rows[i][1]) or #rows[i][1])
        width[2] = math.max(width[2], #context)
    end
    local lines = {}
    for i, row in ipairs(rows) do
        lines[i] = (pad(row[1], width[1]) .. "  " .. pad(row[2], width[2]) .. "  " .. row[3]):gsub(" +$", "") .. "\n"
    end
    return table.concat(lines)
end

local function json_of(models, errors)
    local failed = json.array {}
    for i, one in ipairs(errors) do
        failed[i] = { provider = one.name, error = one.error.message, exit = one.error.exit }
    end
    return assert(json.encode({ models = json.array(models), errors = failed }, { lossy = true })) .. "\n"
end

-- Which errors are told: of a server that nobody asked for and that is not there none is.
local function told_errors(list)
    local errors = {}
    for _, one in ipairs(list) do
        if one.error and (one.wanted or system.verbosity() >= 2) then
            errors[#errors + 1] = one
        end
    end
    return errors
end

local function status_of(models, errors, words)
    if errors[1] and (#models == 0 or #words > 0) then
        return errors[1].error.exit
    end
    return 0
end

--- @return exit status
function M.run(parsed)
    local opts, words = parsed.options, parsed.words
    local format = settings.format(opts)
    if format == "jsonl" then
        failure.raise(USAGE, "lash models prints text or json, not jsonl")
    end
    system.reserve_stdout()
    local limit = opts.timeout == 0 and 3600 or opts.timeout or TIMEOUT
    local list, variables = {}, nil
    for i, word in ipairs(words) do
        list[i] = named(word)
    end
    if #words == 0 then
        list, variables = everybody()
    end
    ask_all(list, limit)
    local models = {}
    for _, one in ipairs(list) do
        local chosen = select_models(one)
        table.move(chosen, 1, #chosen, #models + 1, models)
    end
    local errors = told_errors(list)
    if #models == 0 and #errors == 0 and #words == 0 then
        failure.raise(NO_KEY, "there is nobody to ask: no key is set (%s), and no local server answers; see: "
            .. "lash doctor", table.concat(variables, ", "))
    end
    table.sort(models, function(a, b)
        return a.name < b.name
    end)
    for _, one in ipairs(errors) do
        script.say(one.error.message)
    end
    if format == "json" then
        output.write(json_of(models, errors))
    else
        output.answer(table_of(models))
    end
    return status_of(models, errors, words)
end

return M
