--- What lash.http sends: texts, forms, and sources that give a body in pieces.
--
-- A source has `length` (bytes, or nil: unknown), `replayable` (its pieces can be had again), prepare()
-- -> true | nil, err, next() -> bytes | nil at the end | nil, err, rewind() and close().
local core = require "lash.core.http"
local json = require "lash.json"
local uri = require "lash.uri"

local M = {}

local PIECE = 256 << 10

local function misuse(level, text, ...)
    error(("lash.http: " .. text):format(...), level)
end

--- { name = value | { value, ... } } -> "name=value&...", sorted by name; `what` names the table in errors.
function M.pairs_text(fields, what, level)
    if type(fields) ~= "table" then
        misuse(level + 1, "%s must be a table of names and values, not a %s", what, type(fields))
    end
    local text, wrong = uri.query(fields)
    if not text then
        misuse(level + 1, "%s%s", what, wrong)
    end
    return text
end

local function web_form(fields, level)
    local text = M.pairs_text(fields, "form", level + 1)
    return (text:gsub("%%20", "+")) -- so the forms of browsers, and only they, write a blank
end

-- ---- sources ----

local from_function = {}
from_function.__index = from_function

function from_function:prepare()
    return true
end

function from_function:next()
    local chunk, err = self.fn()
    if chunk ~= nil and type(chunk) ~= "string" then
        error(("lash.http: the body's function must return a string, or nil at the end, not a %s"):format(
            type(chunk)), 0)
    end
    return chunk, err
end

function from_function:rewind() end
function from_function:close() end

-- Texts and files, one after the other.
local from_parts = {}
from_parts.__index = from_parts

--- Looks up how long it all is. Waits.
function from_parts:prepare()
    local length = 0
    for _, part in ipairs(self.parts) do
        if part.path then
            local file <close> = core.file(part.path)
            local bytes, err = file:open()
            if not bytes then
                return nil, err
            end
            part.size = bytes
        end
        length = length + (part.size or #part.text)
    end
    self.length = length
    return true
end

local function next_of_file(self, part)
    if not self.file then
        self.file = core.file(part.path)
        local bytes, err = self.file:open()
        if not bytes then
            return nil, err
        end
    end
    local left = part.size - self.offset
    local data, err
    if left > 0 then
        data, err = self.file:read(self.offset, math.min(left, PIECE))
    end
    if data then
        self.offset = self.offset + #data
        return data
    elseif left > 0 and not err then
        return nil, setmetatable({
            code = "changed",
            message = ("'%s' became shorter while it was sent: send it again"):format(part.path),
        }, json.error_mt)
    end
    return nil, err
end

function from_parts:next()
    while self.parts[self.at] do
        local part = self.parts[self.at]
        local data, err = part.text, nil
        if part.path then
            data, err = next_of_file(self, part)
        end
        if err then
            return nil, err
        end
        if not data or part.text then
            self:close()
            self.at, self.offset = self.at + 1, 0
        end
        if data and data ~= "" then
            return data
        end
    end
    return nil
end

function from_parts:rewind()
    self:close()
    self.at, self.offset = 1, 0
end

function from_parts:close()
    if self.file then
        self.file:close()
        self.file = nil
    end
end

local function new_parts(parts)
    return setmetatable({ parts = parts, replayable = true, at = 1, offset = 0 }, from_parts)
end

-- ---- forms with files ----

-- As browsers write names into a header's quotes.
local function quote(text)
    return '"' .. text:gsub('[\r\n"]', { ["\r"] = "%0D", ["\n"] = "%0A", ['"'] = "%22" }) .. '"'
end

local FIELDS = { name = true, value = true, file = true, filename = true, type = true }

local function check_item(item, i, level)
    if type(item) ~= "table" then
        misuse(level + 1, "multipart[%d] must be a table { name =, value = } or { name =, file = }, not a %s", i,
            type(item))
    end
    for key in pairs(item) do
        if not FIELDS[key] then
            misuse(level + 1, "multipart[%d] has an unknown field '%s': name, value, file, filename and type are known",
                i, tostring(key))
        end
    end
    for _, key in ipairs { "name", "file", "filename", "type" } do
        if item[key] ~= nil and type(item[key]) ~= "string" then
            misuse(level + 1, "multipart[%d].%s must be a string, not a %s", i, key, type(item[key]))
        end
    end
    if not item.name then
        misuse(level + 1, "multipart[%d] has no name", i)
    end
    if (item.value == nil) == (item.file == nil) then
        misuse(level + 1, "multipart[%d] must have either value or file", i)
    end
    local kind = type(item.value)
    if item.value ~= nil and kind ~= "string" and kind ~= "number" and kind ~= "boolean" then
        misuse(level + 1, "multipart[%d].value must be a text, a number or a boolean, not a %s", i, kind)
    end
    if item.type and not item.type:find("^[%w!#$&^_.+/*;=\" -]+$") then
        misuse(level + 1, "multipart[%d].type must be a media type like \"text/plain\"", i)
    end
    if item.file and item.file:find("\0", 1, true) then
        misuse(level + 1, "multipart[%d].file contains a zero byte", i)
    end
end

local function head_of(item)
    local filename = item.filename or item.file and item.file:match("[^/]*$")
    local lines = { "Content-Disposition: form-data; name=" .. quote(item.name)
        .. (filename and "; filename=" .. quote(filename) or "") }
    local kind = item.type or filename and "application/octet-stream"
    if kind then
        lines[2] = "Content-Type: " .. kind
    end
    return table.concat(lines, "\r\n") .. "\r\n\r\n"
end

local function new_boundary(list)
    local boundary
    repeat
        boundary = ("lash-%016x%016x"):format(math.random(0), math.random(0))
        local taken = false
        for _, item in ipairs(list) do
            taken = taken or item.value ~= nil and tostring(item.value):find(boundary, 1, true)
        end
    until not taken
    return boundary
end

local function make_multipart(list, level)
    if type(list) ~= "table" then
        misuse(level + 1, "multipart must be a list, not a %s", type(list))
    end
    local count = 0
    for _ in pairs(list) do
        count = count + 1
    end
    if count == 0 or count ~= #list then
        misuse(level + 1, "multipart must be a list { { name =, value = }, { name =, file = }, ... }")
    end
    for i, item in ipairs(list) do
        check_item(item, i, level + 1)
    end
    local boundary = new_boundary(list)
    local parts = {}
    for i, item in ipairs(list) do
        parts[#parts + 1] = { text = (i > 1 and "\r\n" or "") .. "--" .. boundary .. "\r\n" .. head_of(item) }
        parts[#parts + 1] = item.file and { path = item.file } or { text = tostring(item.value) }
    end
    parts[#parts + 1] = { text = "\r\n--" .. boundary .. "--\r\n" }
    return new_parts(parts), "multipart/form-data; boundary=" .. boundary
end

-- ---- the choice ----

local function make_json(value, level)
    local text, err = json.encode(value, { name = "json" })
    if not text then
        misuse(level + 1, "%s", tostring(err))
    end
    return text
end

local function check_length(options, level)
    local length = options.length
    if type(options.body) ~= "function" then
        misuse(level + 1, "length goes with a body that is a function: other bodies know theirs")
    end
    local bytes = math.type(length) and math.tointeger(length)
    if not bytes or bytes < 0 then
        misuse(level + 1, "length must be a number of bytes, not %s", tostring(length))
    end
    return bytes
end

local function make_body(value, length, level)
    if type(value) == "function" then
        return nil, setmetatable({ fn = value, length = length }, from_function)
    elseif type(value) ~= "string" then
        misuse(level + 1, "body must be a string or a function, not a %s; a table goes under json, form or multipart",
            type(value))
    end
    return value
end

local function make_file(path, level)
    if type(path) ~= "string" or path:find("\0", 1, true) then
        misuse(level + 1, "file must be the path of a file, not %s", tostring(path))
    end
    return new_parts { { path = path } }
end

local WAYS = { "body", "json", "form", "multipart", "file" }

-- The one way in which the body is given, or nil.
local function way_of(options, level)
    local given
    for i = 1, #WAYS do
        local name = WAYS[i]
        if options[name] ~= nil then
            if given then
                misuse(level + 1, "give either %s or %s, not both", given, name)
            end
            given = name
        end
    end
    return given
end

--- make(options, level) -> text | nil, source | nil, its media type | nil
function M.make(options, level)
    local given = way_of(options, level + 1)
    local length = options.length ~= nil and check_length(options, level + 1) or nil
    local text, source, kind
    if given == "body" then
        text, source = make_body(options.body, length, level + 1)
    elseif given == "json" then
        text, kind = make_json(options.json, level + 1), "application/json"
    elseif given == "form" then
        text, kind = web_form(options.form, level + 1), "application/x-www-form-urlencoded"
    elseif given == "multipart" then
        source, kind = make_multipart(options.multipart, level + 1)
    elseif given == "file" then
        source, kind = make_file(options.file, level + 1), "application/octet-stream"
    end
    return text, source, kind
end

return M
