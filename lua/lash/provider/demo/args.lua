-- How the demo model makes the arguments of a tool's calls from the user's words, by the tool's schema.
local json = require "lash.json"
local words = require "lash.provider.demo.words"

local M = {}

--- Calls of one tool in a turn, at most.
local MOST = 64

local function kind_of(schema)
    if type(schema) ~= "table" then
        return "any"
    elseif type(schema.enum) == "table" or schema.const ~= nil then
        return "enum"
    end
    local kind = schema.type
    if type(kind) == "table" then
        kind = kind[1] == "null" and kind[2] or kind[1]
    elseif kind == nil then
        for _, part in ipairs(schema.anyOf or schema.oneOf or {}) do
            local of_part = kind_of(part)
            if of_part ~= "any" and of_part ~= "null" then
                return of_part
            end
        end
    end
    if kind == "integer" or kind == "number" then
        return "number"
    end
    return kind or "any"
end

-- The text of a number as a value of this schema; longer ones than 64 bits stay exact.
local function to_number(text, schema)
    local value = math.tointeger(text) or tonumber(text)
    if math.type(value) == "float" and text:find "^-?%d+$" then
        return json.verbatim(text)
    elseif schema.type == "integer" and math.type(value) == "float" then
        return math.tointeger(value) or math.floor(value)
    end
    return value
end

local function to_value(text, schema)
    local kind = kind_of(schema)
    if kind == "number" and tonumber(text) then
        return to_number(text, schema)
    elseif kind == "boolean" then
        return text == "true" or text == "yes" or text == "1"
    elseif kind == "string" then
        return text
    elseif kind == "enum" then
        for _, choice in ipairs(schema.enum or {}) do
            if tostring(choice):lower() == text:lower() then
                return choice
            end
        end
    end
    local value, err = json.decode(text)
    return err and text or value
end

-- What to send for a field that the words say nothing about.
local function sample(schema, about)
    local kind = kind_of(schema)
    if type(schema) == "table" and schema.default ~= nil then
        return schema.default
    elseif kind == "enum" then
        return schema.const ~= nil and schema.const or schema.enum[1]
    elseif kind == "number" then
        return schema.minimum or schema.exclusiveMinimum and schema.exclusiveMinimum + 1 or 1
    elseif kind == "boolean" then
        return false
    elseif kind == "array" then
        return json.array {}
    elseif kind == "object" then
        local value = {}
        for _, name in ipairs(schema.required or {}) do
            value[name] = sample((schema.properties or {})[name] or {}, about)
        end
        return value
    end
    return about
end

-- The fields of an object schema: required ones in their order, then the others by name.
local function fields_of(schema)
    local list, required = {}, {}
    local properties = schema.properties or {}
    for _, name in ipairs(schema.required or {}) do
        if properties[name] ~= nil and not required[name] then
            required[name] = true
            list[#list + 1] = { name = name, schema = properties[name], required = true }
        end
    end
    local others = {}
    for name in pairs(properties) do
        if not required[name] then
            others[#others + 1] = name
        end
    end
    table.sort(others)
    for _, name in ipairs(others) do
        list[#list + 1] = { name = name, schema = properties[name], required = false }
    end
    for _, field in ipairs(list) do
        field.kind = kind_of(field.schema)
        field.about = (field.name .. " " .. (type(field.schema) == "table" and field.schema.description or "")):lower()
    end
    return list
end

local function has_word(text, list)
    for word in list:gmatch "%S+" do
        if text:find("%f[%a]" .. word .. "s?%f[%A]") then
            return true
        end
    end
    return false
end

-- ---- fixed values: the same in every call ----

-- A number beside the field's own name, such as "3 days", is that field's.
local function number_beside(field, found)
    local name = words.stem(field.name)
    for i, number in ipairs(found.numbers) do
        for _, token in ipairs { number.before or {}, number.after or {} } do
            if token.stem == name then
                table.remove(found.numbers, i)
                return to_number(number.value, field.schema)
            end
        end
    end
    return nil
end

local function enum_mentioned(schema, tokens)
    for _, choice in ipairs(schema.enum or {}) do
        if type(choice) == "string" and words.take_words(tokens, choice) then
            return choice
        end
    end
    return nil
end

-- Takes all values of a kind for a list.
local function list_value(field, found)
    local items = type(field.schema.items) == "table" and field.schema.items or {}
    local kind, list = kind_of(items), json.array {}
    if kind == "enum" then
        return nil
    end
    if kind == "number" then
        for i, number in ipairs(found.numbers) do
            list[i] = to_number(number.value, items)
        end
        found.numbers = {}
    else
        for _, source in ipairs { found.quoted, found.paths, found.capitals, found.words } do
            if #source > 0 then
                table.move(source, 1, #source, 1, list)
                break
            end
        end
    end
    return (#list > 0 or field.required) and list or nil
end

-- Choices and switches are taken first: their words are no values of other fields.
local function chosen(field, tokens)
    if field.kind == "enum" then
        return enum_mentioned(field.schema, tokens)
    elseif field.kind == "boolean" then
        return words.take_words(tokens, field.name) or nil
    elseif field.kind == "array" and kind_of(field.schema.items) == "enum" then
        local list = json.array {}
        for _, choice in ipairs(field.schema.items.enum or {}) do
            if type(choice) == "string" and words.take_words(tokens, choice) then
                list[#list + 1] = choice
            end
        end
        return (#list > 0 or field.required) and list or nil
    end
    return nil
end

local function fixed_value(field, found)
    local given = found.pairs[field.name:lower()]
    if given then
        return to_value(given, field.schema)
    elseif field.kind == "number" then
        return number_beside(field, found)
    elseif field.kind == "array" then
        return list_value(field, found)
    end
    return nil
end

-- ---- varying values: several of them make several calls ----

-- The values for text fields, of the most telling kind that there is.
local function strings_for(fields, found, text)
    local about = fields[1].about
    if #found.quoted > 0 then
        return found.quoted
    elseif has_word(about, "path file filename url uri folder directory") and #found.paths > 0 then
        return found.paths
    elseif #fields == 1 and has_word(about, "text message query question prompt input task expression formula note "
        .. "sentence what search") then
        return { text }
    end
    local numbers = {}
    for i, number in ipairs(found.numbers) do
        numbers[i] = number.value
    end
    local sources = { found.capitals, found.paths, numbers, found.words }
    if has_word(about, "id number code key order ticket invoice") and #numbers > 0 then
        table.insert(sources, 1, numbers)
    end
    for _, source in ipairs(sources) do
        if #source >= #fields then
            return source
        end
    end
    local all = {}
    for _, source in ipairs(sources) do
        table.move(source, 1, #source, #all + 1, all)
    end
    return all
end

local function numbers_for(found)
    local values = {}
    for i, number in ipairs(found.numbers) do
        values[i] = number.value
    end
    return values
end

local function open_fields(fields, args)
    local texts, numbers = {}, {}
    for _, field in ipairs(fields) do
        if args[field.name] == nil and field.required then
            if field.kind == "number" then
                numbers[#numbers + 1] = field
            elseif field.kind == "string" or field.kind == "any" then
                texts[#texts + 1] = field
            end
        end
    end
    return texts, numbers
end

local function rounds(values, fields)
    return #fields > 0 and #values // #fields or 0
end

-- A single number that is left belongs to the only optional number there is.
local function leftover(fields, args, found)
    local only
    for _, field in ipairs(fields) do
        if field.kind == "number" and not field.required and args[field.name] == nil then
            if only then
                return
            end
            only = field
        end
    end
    if only and #found.numbers == 1 then
        args[only.name] = to_number(found.numbers[1].value, only.schema)
    end
end

local function copy(value)
    local made = {}
    for key, field in pairs(value) do
        made[key] = field
    end
    return made
end

-- Copies the n-th values into args; when a source has fewer rounds, its last ones stay.
local function fill(args, fields, values, n, about)
    local round = math.min(n, rounds(values, fields)) - 1
    for i, field in ipairs(fields) do
        local text = values[round * #fields + i]
        if round < 0 then
            text = values[i]
        end
        if text == nil then
            args[field.name] = sample(field.schema, about)
        elseif field.kind == "number" then
            args[field.name] = to_number(text, field.schema)
        else
            args[field.name] = text
        end
    end
end

-- What the stretch of the tool lacks is looked for in all of the text.
local function with_fallback(found, all, texts, numbers)
    if #numbers > 0 and #found.numbers < #numbers then
        found.numbers = all.numbers
    end
    if #texts > 0 and #found.quoted + #found.paths + #found.capitals + #found.words + #found.numbers < #texts then
        found = setmetatable({ quoted = all.quoted, paths = all.paths, capitals = all.capitals, words = all.words },
            { __index = found })
    end
    return found
end

--- calls(tool, tokens, all, text) -> list of JSON texts, at least one: the arguments of the tool's calls.
-- tokens: those that belong to the tool; all: those of the whole text.
function M.calls(tool, tokens, all, text)
    local fields = fields_of(type(tool.schema) == "table" and tool.schema or {})
    local args = {}
    for _, field in ipairs(fields) do
        args[field.name] = chosen(field, tokens)
    end
    local found = words.values(tokens)
    if #found.json > 0 then
        return table.move(found.json, 1, math.min(#found.json, MOST), 1, {})
    end
    for _, field in ipairs(fields) do
        local given = fixed_value(field, found)
        if given ~= nil then
            args[field.name] = given
        end
    end
    local texts, numbers = open_fields(fields, args)
    found = with_fallback(found, words.values(all), texts, numbers)
    if #numbers == 0 then
        leftover(fields, args, found)
    end
    local number_values = numbers_for(found)
    if #numbers > 0 then
        found.numbers = {}
    end
    local text_values = #texts > 0 and strings_for(texts, found, text) or {}
    local count = rounds(text_values, texts)
    local number_rounds = #numbers > 0 and rounds(number_values, numbers) or 0
    if #texts == 0 then
        count = rounds(number_values, numbers)
    elseif number_rounds > 1 and number_rounds < count then
        count = number_rounds
    end
    local list = {}
    for n = 1, math.max(1, math.min(count, MOST)) do
        local one = copy(args)
        fill(one, texts, text_values, n, text)
        fill(one, numbers, number_values, n, text)
        for _, field in ipairs(fields) do
            if field.required and one[field.name] == nil then
                one[field.name] = sample(field.schema, text)
            end
        end
        list[n] = json.encode(one, { lossy = true })
    end
    return list
end

return M
