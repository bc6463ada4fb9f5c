--- lash tools FILE...: what files declare, as a table, as the schemas a model sees, or as JSON.
local declared = require "lash.declared"
local dialect = require "lash.provider.dialect"
local failure = require "lash.failure"
local json = require "lash.json"
local output = require "lash.cmd.output"
local settings = require "lash.cmd.settings"
local system = require "lash.core.system"
local text = require "lash.text"

local M = {}

-- "integer?" and the like, from a JSON Schema.
local function type_of(schema)
    if type(schema) ~= "table" then
        return "any"
    elseif schema.enum then
        local words = {}
        for i, value in ipairs(schema.enum) do
            words[i] = tostring(value)
        end
        return table.concat(words, "|")
    elseif schema.type == "array" then
        return type_of(schema.items) .. "[]"
    elseif type(schema.type) == "table" then
        return table.concat(schema.type, "|")
    end
    return schema.type or "any"
end

--- The parameters of a tool: list of { name, type, required, description }, required ones first.
function M.parameters(tool)
    local root = type(tool.schema) == "table" and tool.schema or {}
    local required, list = {}, {}
    for _, name in ipairs(root.required or {}) do
        required[name] = true
    end
    for name, schema in pairs(root.properties or {}) do
        list[#list + 1] = {
            name = name, type = type_of(schema), required = required[name] or false,
            description = type(schema) == "table" and schema.description or "",
        }
    end
    table.sort(list, function(a, b)
        if a.required ~= b.required then
            return a.required
        end
        return a.name < b.name
    end)
    return list
end

local function signature(tool)
    local parts = {}
    for i, p in ipairs(M.parameters(tool)) do
        parts[i] = ("%s: %s%s"):format(p.name, p.type, p.required and "" or "?")
    end
    return ("%s(%s)"):format(tool.name, table.concat(parts, ", "))
end

local function agent_title(entry)
    local parts = { entry.name }
    if entry.value.model then
        parts[#parts + 1] = ("[%s]"):format(entry.value.model)
    end
    return table.concat(parts, " ")
end

-- Rows of { kind, mark, title, description, owner }
local function rows_of(found)
    local rows = {}
    for _, entry in ipairs(found.agents) do
        rows[#rows + 1] = { "agent", "", agent_title(entry), entry.value.description, entry.owner }
    end
    for _, entry in ipairs(found.tools) do
        rows[#rows + 1] = { "tool", entry.value.mark, signature(entry.value), entry.value.description, entry.owner }
    end
    for _, entry in ipairs(found.prompts) do
        rows[#rows + 1] = { "prompt", entry.value.mark, entry.name, entry.value.description, entry.owner }
    end
    return rows
end

local function print_table(files, paint)
    local lines = {}
    local width = system.columns(1)
    for _, file in ipairs(files) do
        if #files > 1 then
            lines[#lines + 1] = paint("bold", text.plain(file.path) .. ":")
        end
        for _, row in ipairs(rows_of(file.found)) do
            local owner = row[5] and (" (of %s)"):format(row[5]) or ""
            lines[#lines + 1] = ("%-6s %-5s  %s%s"):format(row[1], row[2], row[3], paint("dim", owner))
            if row[4] ~= "" then
                local description = text.plain(row[4]):gsub("%s+", " ")
                lines[#lines + 1] = "              " .. (width and text.line(description, width - 14) or description)
            end
        end
    end
    output.write(table.concat(lines, "\n") .. "\n")
end

local function print_schemas(files)
    local list = json.array {}
    for _, file in ipairs(files) do
        for _, entry in ipairs(file.found.tools) do
            list[#list + 1] = {
                name = entry.name, description = entry.value.description,
                parameters = dialect.plain(entry.value.schema),
            }
        end
    end
    output.write(assert(json.encode(list, { indent = 2, lossy = true })) .. "\n")
end

local function names(list)
    local all = json.array {}
    for i, entry in ipairs(list) do
        all[i] = entry.name
    end
    return all
end

local function describe(entry, path)
    local value = entry.value
    local object = { file = path, name = entry.name, description = value.description, agent = entry.owner }
    if entry.kind == "tool" then
        object.mark, object.schema = value.mark, value.schema
        object.timeout, object.idempotent = value.timeout or json.null, value.idempotent
        object.parallel, object.limit = value.parallel, value.limit
        object.memory, object.retry, object.max_output = value.memory, value.retry, value.max_output
    elseif entry.kind == "prompt" then
        object.mark = value.mark
    else
        object.model, object.tools = value.model, names(value.tools)
        object.fail_fast, object.limits, object.retry = value.fail_fast, value.limits, value.retry
        object.handoffs = names(require("lash.handoff").targets(value) or {})
    end
    return object
end

local function print_json(files)
    local all = { agents = json.array {}, prompts = json.array {}, tools = json.array {} }
    for _, file in ipairs(files) do
        for kind, list in pairs(all) do
            for _, entry in ipairs(file.found[kind]) do
                list[#list + 1] = describe(entry, file.path)
            end
        end
    end
    output.write(assert(json.encode(all, { lossy = true })) .. "\n")
end

--- @return exit status
function M.run(parsed)
    local opts = parsed.options
    local format = settings.format(opts)
    if format == "jsonl" then
        failure.raise(64, "lash tools prints text or json, not jsonl")
    elseif #parsed.words == 0 then
        failure.raise(64, "lash tools needs a file: lash tools FILE...")
    end
    system.reserve_stdout()
    local files = {}
    for i, path in ipairs(parsed.words) do
        files[i] = { path = path, found = declared.all(declared.load(path)) }
    end
    if opts.schema then
        print_schemas(files)
    elseif format == "json" then
        print_json(files)
    else
        print_table(files, text.painter(system.isatty(1), opts.color))
    end
    return 0
end

return M
