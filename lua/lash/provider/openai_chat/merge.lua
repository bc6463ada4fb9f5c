-- Fields that lash does not know, from a stream: they have to go back as if they had come in one message.
-- All here are JSON texts, so that what came once goes back as the same bytes.
local history = require "lash.provider.history"
local json = require "lash.json"

local M = {}

local quote = history.quote

local function kind_of(text)
    local first = text:match("^%s*(.)")
    return first == "{" and "object" or first == "[" and "array" or first == '"' and "string" or "other"
end

-- Text of an object of these fields, which are texts.
local function object_text(fields)
    local names = {}
    for name in pairs(fields) do
        names[#names + 1] = name
    end
    table.sort(names)
    for i, name in ipairs(names) do
        names[i] = quote(name) .. ":" .. fields[name]
    end
    return "{" .. table.concat(names, ",") .. "}"
end
M.object = object_text

-- Of several objects: field -> the texts of its values that are not null
local function collect(texts)
    local fields = {}
    for _, text in ipairs(texts) do
        for name, value in pairs(json.decode(text) or {}) do
            if value ~= json.null then
                fields[name] = fields[name] or {}
                table.insert(fields[name], (json.raw(text, name)))
            end
        end
    end
    return fields
end

local function join_strings(texts)
    local values = {}
    for i, text in ipairs(texts) do
        values[i] = json.decode(text)
    end
    return quote(table.concat(values))
end

local function all_equal(texts)
    for _, text in ipairs(texts) do
        if text ~= texts[1] then
            return false
        end
    end
    return true
end

-- Levels of objects that are merged field by field.
local LEVELS = 16

local JOIN = {
    object = function(texts, level)
        if level > LEVELS then
            return texts[#texts]
        end
        local fields = collect(texts)
        for name, list in pairs(fields) do
            fields[name] = M.texts(list, level + 1)
        end
        return object_text(fields)
    end,
    array = function(texts)
        local all = {}
        for _, text in ipairs(texts) do
            for _, element in ipairs(json.elements(text)) do
                all[#all + 1] = element
            end
        end
        return "[" .. table.concat(all, ",") .. "]"
    end,
    string = join_strings,
}

--- texts(list) -> one text: lists one behind the other, objects field by field, strings joined unless they are
-- all the same; of anything else the last.
function M.texts(list, level)
    if #list == 1 then
        return list[1]
    end
    local kind = kind_of(list[1])
    for _, text in ipairs(list) do
        if kind_of(text) ~= kind then
            return list[#list]
        end
    end
    if all_equal(list) or not JOIN[kind] then
        return list[#list]
    end
    return JOIN[kind](list, level or 1)
end

-- ---- reasoning_details ----

local Details = {}
Details.__index = Details

-- Kinds of details that come in pieces, and the field that does.
local PIECES = { ["reasoning.text"] = "text", ["reasoning.summary"] = "summary" }

--- details() -> the reasoning_details of an answer, none yet
function M.details()
    return setmetatable({ groups = {}, chunk = 0 }, Details)
end

--- details:begin(): what is added from now on came in one list.
function Details:begin()
    self.chunk = self.chunk + 1
end

--- details:add(value, raw) -> what of it can be read
function Details:add(value, raw)
    local last = self.groups[#self.groups]
    local kind = history.is_object(value) and type(value.type) == "string" and value.type or nil
    local field = PIECES[kind]
    local index = kind and math.type(value.index) == "integer" and value.index or nil
    if last and field and index and last.kind == kind and last.index == index and last.chunk ~= self.chunk then
        last.chunk = self.chunk
        table.insert(last.texts, raw)
    else
        self.groups[#self.groups + 1] = { kind = kind, index = index, chunk = self.chunk, texts = { raw } }
    end
    return field and type(value[field]) == "string" and value[field] or ""
end

local function group_text(group)
    if #group.texts == 1 then
        return group.texts[1]
    end
    local fields, piece = collect(group.texts), PIECES[group.kind]
    for name, list in pairs(fields) do
        local joins = name == piece and kind_of(list[1]) == "string"
        for _, text in ipairs(list) do
            joins = joins and kind_of(text) == "string"
        end
        fields[name] = joins and join_strings(list) or list[#list]
    end
    return object_text(fields)
end

--- details:text() -> JSON array | nil when there are none
function Details:text()
    if #self.groups == 0 then
        return nil
    end
    local texts = {}
    for i, group in ipairs(self.groups) do
        texts[i] = group_text(group)
    end
    return "[" .. table.concat(texts, ",") .. "]"
end

return M
