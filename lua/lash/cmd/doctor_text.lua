--- The report of lash doctor, for people and as JSON.
local json = require "lash.json"
local output = require "lash.cmd.output"
local system = require "lash.core.system"
local text = require "lash.text"

local M = {}

local function print_json(report)
    for _, provider in ipairs(report.providers) do
        provider.list, provider.set_up = nil, nil
        if provider.key then
            provider.key.variables = json.array(provider.key.variables)
        end
    end
    report.providers, report.proxies = json.array(report.providers), json.array(report.proxies)
    output.write(assert(json.encode(report, { lossy = true })) .. "\n")
end

-- ---- the surroundings ----

local function add(lines, name, ...)
    lines[#lines + 1] = ("%-9s %s"):format(name, (...):format(select(2, ...)))
end

local function add_terminal(lines, terminal)
    local streams = {}
    for _, name in ipairs { "stdin", "stdout", "stderr" } do
        streams[#streams + 1] = terminal[name] and name or nil
    end
    add(lines, "terminal", "%s; TERM=%s%s; colour: %s", #streams > 0 and table.concat(streams, ", ") or "none",
        terminal.term or "(not set)", terminal.columns and (", %d columns"):format(terminal.columns) or "",
        terminal.color)
end

local function surroundings(report)
    local lines, curl, file = {}, report.libcurl, report.config
    lines[1] = ("lash %s, %s, libuv %s, %s"):format(report.lash, report.lua, report.libuv, curl.found
        and ("libcurl %s (%s)"):format(curl.version, curl.tls or "no TLS") or "no libcurl")
    if report.library then
        add(lines, "library", "%s (LASH_LUA)", report.library)
    end
    add(lines, "config", "%s", file.error or not file.path and "none: neither XDG_CONFIG_HOME nor HOME is set"
        or file.path .. (file.exists and "" or " (there is none)"))
    if file.warning then
        add(lines, "", "it %s", file.warning)
    end
    add(lines, "CA file", "%s (%s)%s", report.ca.file or "none", report.ca.from,
        report.ca.error and ": cannot be read" or "")
    for _, proxy in ipairs(report.proxies) do
        add(lines, "proxy", "%s=%s", proxy.variable, proxy.value)
    end
    add_terminal(lines, report.terminal)
    return lines
end

-- ---- providers ----

local ORDER = { ok = 1, ["not asked"] = 1, refused = 2, fault = 2, ["no answer"] = 3, ["no key"] = 4,
    ["no address"] = 4 }

local function sorted(providers)
    local list = table.move(providers, 1, #providers, 1, {})
    table.sort(list, function(a, b)
        local x = ORDER[a.state] + (a.state == "no answer" and a.set_up and -1 or 0)
        local y = ORDER[b.state] + (b.state == "no answer" and b.set_up and -1 or 0)
        if x ~= y then
            return x < y
        end
        return a.name < b.name
    end)
    return list
end

local function key_column(provider)
    local key = provider.key
    if not key then
        return ""
    elseif key.from then
        return "key: " .. key.from:gsub(" in config%.lua$", "")
    elseif not key.wanted then
        return "no key wanted"
    end
    return "no key: " .. table.concat(key.variables, ", ")
end

local function answer_column(provider)
    if provider.state == "ok" then
        return provider.models and ("%d model%s, %d ms"):format(provider.models, provider.models == 1 and "" or "s",
                provider.ms)
            or ("answers, %d ms"):format(provider.ms)
    elseif provider.state == "not asked" then
        return ("answers, %d ms; its protocol has no list of models"):format(provider.ms)
    elseif provider.state == "no key" or provider.state == "no address" then
        return ""
    elseif provider.state == "no answer" and not provider.set_up then
        return "not running"
    end
    return provider.error
end

local function address_column(provider)
    local from = provider.base_from
    if not provider.base_url or provider.state == "no key" then
        return ""
    end
    return provider.base_url .. (from ~= "built in" and (" (%s)"):format(from:gsub(" in config%.lua$", "")) or "")
end

local function pad(word, width)
    return word .. (" "):rep(width - (utf8.len(word) or #word))
end

local function rows(report, paint)
    local marks = text.marks()
    local list, width = {}, { 0, 0, 0 }
    for i, provider in ipairs(sorted(report.providers)) do
        local row = { provider.name, key_column(provider), address_column(provider), answer_column(provider) }
        row.mark = ORDER[provider.state] == 1 and paint("green", marks.ok)
            or provider.set_up and provider.state ~= "no key" and paint("red", marks.other) or "-"
        for n = 1, 3 do
            row[n] = text.plain(row[n])
            width[n] = math.max(width[n], utf8.len(row[n]) or #row[n])
        end
        list[i] = row
    end
    for i, row in ipairs(list) do
        local cells = { row.mark }
        for n = 1, 3 do
            cells[n + 1] = pad(row[n], width[n])
        end
        cells[5] = text.plain(row[4]):gsub("%s+", " ")
        list[i] = table.concat(cells, " ", 1, 2) .. "  " .. table.concat(cells, "  ", 3):gsub(" +$", "")
    end
    return list
end

--- Prints the report as "text" or "json".
function M.print(report, format, opts)
    if format == "json" then
        return print_json(report)
    end
    local paint = text.painter(system.isatty(1), opts.color)
    local lines, model = surroundings(report), report.model
    add(lines, "model", "%s%s", model.name and ("%s (%s)"):format(text.plain(model.name), model.from) or "none chosen",
        model.name and not model.usable and ": cannot be used" or "")
    lines[#lines + 1] = ""
    for _, row in ipairs(rows(report, paint)) do
        lines[#lines + 1] = row
    end
    lines[#lines + 1] = ""
    lines[#lines + 1] = "next: " .. text.plain(report.next):gsub("%s+", " ")
    output.write(table.concat(lines, "\n"):gsub(" +\n", "\n") .. "\n")
end

return M
