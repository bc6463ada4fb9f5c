--- Images and documents in a user's message.
--
--   agent:run { "What is in this picture?", lash.image "photo.png" }
--   agent:run { "Sum this up.", lash.document "report.pdf" }
--
-- A part is { type = "image", name =, mime =, data = Base64 text, detail = }, { type = "image", url =, detail = },
-- or { type = "file", name =, mime = "application/pdf", data = }. What a file is, its first bytes tell, never
-- its name. Expected failures are `nil, err` as of lash.fs, and with err.code "image" or "document" for a file
-- that is none.
local base64 = require "lash.base64"
local json = require "lash.json"
local misuse = require "lash.misuse"

local M = {}

--- Bytes that an attachment may have.
M.MAX = 20 << 20

local Part = { __name = "lash.part" }

--- The metatable of parts.
--
-- @class part  of a message: an image or a document
--   type     "text"|"image"|"file"
--   name?    string
--   mime?    string
--   data?    string  in Base64
--   url?     string  in place of data
--   text?    string  of a part that is text
--   detail?  "auto"|"low"|"high"
-- @class attach.data { data: string, name?: string }  what is in memory: its bytes
M.Part = Part

local IMAGES = "PNG, JPEG, GIF, WebP"
local DETAILS = { auto = true, low = true, high = true }

-- ---- what bytes are ----

local MAGIC = {
    { "^\x89PNG\r\n\x1A\n", "image/png" },
    { "^\xFF\xD8\xFF", "image/jpeg" },
    { "^GIF8[79]a", "image/gif" },
    { "^RIFF....WEBP", "image/webp" },
    { "^%%PDF%-", "application/pdf" },
}

--- mime(bytes) -> the media type of an image or document that models take | nil
function M.mime(bytes)
    for _, known in ipairs(MAGIC) do
        if bytes:find(known[1]) then
            return known[2]
        end
    end
    return nil
end

local function is_image(mime)
    return mime ~= nil and mime:sub(1, 6) == "image/"
end

local function failure(code, message, ...)
    return nil, setmetatable({ code = code, message = message:format(...) }, json.error_mt)
end

local function size_of(data)
    local padding = #data:match("=*$")
    return #data // 4 * 3 - padding
end

function Part:__tostring()
    return M.describe(self)
end

-- The last part of a path, as text.
local function short_name(path)
    local name = (path or ""):match("([^/]*)$"):gsub("%c", "_")
    return utf8.len(name) and name ~= "" and name or nil
end

--- of_bytes(bytes, name) -> part | nil, err: an image or a PDF, whichever it is.
-- @param name a path, for messages and the model, or nil
function M.of_bytes(bytes, name)
    local what, mime = name or "the data", M.mime(bytes)
    if #bytes > M.MAX then
        return failure("EFBIG", "%s is larger than %d MiB, more than a model takes", what, M.MAX >> 20)
    elseif bytes == "" then
        return failure("image", "%s is empty", what)
    elseif not mime then
        return failure("image", "%s is no image (%s) and no PDF", what, IMAGES)
    end
    return setmetatable({
        type = is_image(mime) and "image" or "file",
        name = short_name(name) or not is_image(mime) and "document.pdf" or nil,
        mime = mime,
        data = base64.encode(bytes),
    }, Part)
end

-- ---- what scripts call ----

local function read(path)
    if path:find("\0", 1, true) then
        return failure("EINVAL", "the path contains a zero byte")
    end
    local bytes, err = require("lash.fs").read(path, { max = M.MAX })
    if not bytes and err.code == "EFBIG" then
        return failure("EFBIG", "%s is larger than %d MiB, more than a model takes", path, M.MAX >> 20)
    end
    return bytes, err
end

local function check_detail(options)
    if options.detail ~= nil and not DETAILS[options.detail] then
        error("lash.image: detail must be \"auto\", \"low\" or \"high\"", 3)
    end
    return options.detail
end

local function is_web(text)
    return text:lower():find("^https?://[^/%s]") ~= nil
end

local function of_url(url, detail)
    if url:find("[%s%c]") or not utf8.len(url) then
        return failure("url", "lash.image: the URL has spaces or other characters that no URL has")
    end
    return setmetatable({ type = "image", url = url, detail = detail }, Part)
end

--- image(path: string|attach.data [, options]) -> part | nil, err
-- A file, or the URL (http, https) of an image that the provider fetches itself; in place of both a table
-- { data = bytes, name = } for an image that is in memory. PNG, JPEG, GIF and WebP, at most 20 MiB.
-- @param options
--   detail?  "auto"|"low"|"high"  how closely the model looks, where the provider has that
function M.image(path, options)
    options = misuse.options("lash.image", options, { "detail" })
    local detail = check_detail(options)
    local bytes, err
    if type(path) == "table" then
        local given = misuse.options("lash.image", path, { "data", "name" })
        misuse.string("lash.image", "`data`", given.data)
        bytes, path = given.data, given.name
    else
        misuse.string("lash.image", "the path", path)
        if is_web(path) then
            return of_url(path, detail)
        end
        bytes, err = read(path)
    end
    if not bytes then
        return nil, err
    end
    local part
    part, err = M.of_bytes(bytes, path)
    if not part then
        return nil, err
    elseif part.type ~= "image" then
        return failure("image", "%s is a PDF, no image: use lash.document", path or "the data")
    end
    part.detail = detail
    return part
end

--- document(path: string|attach.data) -> part | nil, err
-- A PDF, at most 20 MiB. In place of the path a table { data = bytes, name = } for one that is in memory. Plain text
-- needs no part: lash.fs.read gives it.
function M.document(path)
    local bytes, err
    if type(path) == "table" then
        local given = misuse.options("lash.document", path, { "data", "name" })
        misuse.string("lash.document", "`data`", given.data)
        bytes, path = given.data, given.name
    else
        misuse.string("lash.document", "the path", path)
        bytes, err = read(path)
    end
    if not bytes then
        return nil, err
    end
    local mime = M.mime(bytes)
    if mime == "application/pdf" or bytes == "" or #bytes > M.MAX then
        return M.of_bytes(bytes, path)
    end
    return failure("document", "%s is no PDF: %s", path or "the data",
        is_image(mime) and "it is an image, for lash.image" or "plain text needs no part, lash.fs.read gives it")
end

-- ---- messages ----

local FIELDS = {
    text = { type = true, text = true },
    image = { type = true, name = true, mime = true, data = true, url = true, detail = true },
    file = { type = true, name = true, mime = true, data = true },
}

-- What is wrong with a part that a script has put together itself, or nil.
local function data_fault(part)
    local bytes, err = nil, nil
    if type(part.data) == "string" then
        bytes, err = base64.decode(part.data)
    end
    if not bytes then
        return "its `data` is " .. (err and tostring(err) or "no Base64 text")
    elseif #bytes > M.MAX then
        return ("its data is larger than %d MiB"):format(M.MAX >> 20)
    elseif part.mime ~= M.mime(bytes) or is_image(part.mime) ~= (part.type == "image") then
        return ("its data is not what type = \"%s\", mime = \"%s\" says"):format(part.type, tostring(part.mime))
    end
    return nil
end

local function part_fault(part)
    local fields = FIELDS[part.type]
    if not fields then
        return "its `type` must be \"text\", \"image\" or \"file\"; lash.image and lash.document make parts"
    end
    for name in pairs(part) do
        if not fields[name] then
            return ("unknown field '%s'"):format(tostring(name))
        end
    end
    if part.type == "text" then
        return (type(part.text) ~= "string" or not utf8.len(part.text)) and "its `text` is no UTF-8 text" or nil
    elseif part.name ~= nil and (type(part.name) ~= "string" or not utf8.len(part.name)) then
        return "its `name` is no UTF-8 text"
    elseif part.detail ~= nil and not DETAILS[part.detail] then
        return "its `detail` must be \"auto\", \"low\" or \"high\""
    elseif part.url == nil then
        return data_fault(part)
    elseif part.data ~= nil then
        return "it has both `url` and `data`: keep one"
    end
    return (type(part.url) ~= "string" or not is_web(part.url) or part.url:find("[%s%c]"))
        and "its `url` is no http or https URL" or nil
end

-- One thing of a list -> part | nil, what is wrong
local function part_of(value)
    if type(value) == "string" then
        if not utf8.len(value) then
            return nil, "it is not valid UTF-8"
        end
        return { type = "text", text = value }
    elseif getmetatable(value) == Part then
        return value
    elseif type(value) ~= "table" then
        return nil, ("expected a text or a part, got a %s"):format(type(value))
    end
    local fault = part_fault(value)
    if fault then
        return nil, fault
    end
    local copy = setmetatable({}, Part)
    for name, field in pairs(value) do
        copy[name] = field
    end
    return copy
end

local function length(list)
    local n = 0
    for key in pairs(list) do
        if math.type(key) ~= "integer" or key < 1 then
            return nil, ("unknown field '%s'; a message is a text, or a list of texts and parts"):format(tostring(key))
        end
        n = math.max(n, key)
    end
    return n
end

--- entry(message) -> the entry of a conversation | nil, what is wrong with the message
-- message: a text, or a list of texts and parts.
function M.entry(message)
    if type(message) == "string" then
        if not utf8.len(message) then
            return nil, "the message is not valid UTF-8"
        end
        return { type = "user", text = message }
    elseif type(message) ~= "table" or getmetatable(message) ~= nil then
        return nil, getmetatable(message) == Part and "a part alone is no message: put it into a list, { text, part }"
            or ("the message must be a string, or a list of strings and parts, got %s"):format(type(message))
    end
    local n, fault = length(message)
    if not n then
        return nil, "the message: " .. fault
    elseif n == 0 then
        return nil, "the message is an empty list"
    elseif n > 10000 then
        return nil, "the message has more than 10000 parts"
    end
    local parts, texts, has_more = {}, {}, false
    for i = 1, n do
        if message[i] == nil then -- as { "text", lash.image "nosuch.png" } leaves it, with the error behind
            fault = getmetatable(message[i + 1]) == json.error_mt and tostring(message[i + 1]) or "it is nil"
        else
            parts[#parts + 1], fault = part_of(message[i])
        end
        if fault then
            return nil, ("the message, part %d: %s"):format(i, fault)
        end
        local last = parts[#parts]
        if last and last.type == "text" then
            texts[#texts + 1] = last.text
        end
        has_more = has_more or last ~= nil and last.type ~= "text"
    end
    return { type = "user", text = table.concat(texts, "\n\n"), parts = has_more and parts or nil }
end

--- shown(parts) -> a copy without data: `bytes` says how many there were. nil of nil.
function M.shown(parts)
    if not parts then
        return nil
    end
    local list = json.array {}
    for i, part in ipairs(parts) do
        local copy = {}
        for name, value in pairs(part) do
            copy[name] = value
        end
        copy.data, copy.bytes = nil, part.data and size_of(part.data) or nil
        list[i] = copy
    end
    return list
end

--- describe(part) -> "image photo.png (image/png, 2048 bytes)"
function M.describe(part)
    if part.type == "text" then
        return "text"
    elseif part.url then
        return part.type .. " " .. part.url
    end
    return ("%s%s (%s, %d bytes)"):format(part.type, part.name and " " .. part.name or "", part.mime or "?",
        size_of(part.data or ""))
end

return M
