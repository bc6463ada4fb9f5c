--- What commands read: stdin and files, as text or, for ask, as an image or a document.
local engine = require "lash.core.engine"
local failure = require "lash.failure"
local system = require "lash.core.system"

local M = {}

--- Milliseconds in which a pipe must deliver its first byte.
M.FIRST_BYTE = 10000

--- Bytes of material in all, from files and stdin.
M.MAX = 32 * 1024 * 1024

local INPUT, DATA, TIME = 66, 65, 124

local function left_ms(ends)
    if not ends then
        return -1
    end
    return math.max(0, math.ceil((ends - engine.hrtime()) / 1e6))
end

-- @param first whether nothing came yet
local function read_piece(ends, first)
    local ms = left_ms(ends)
    local wait = first and (ms < 0 and M.FIRST_BYTE or math.min(ms, M.FIRST_BYTE)) or ms
    local piece, err, code = system.read(0, wait)
    if piece then
        return piece
    elseif code ~= "timeout" then
        failure.raise(INPUT, "cannot read stdin: %s", err)
    elseif ends and left_ms(ends) == 0 then
        failure.raise(TIME, "the time limit (--timeout) was over before the end of stdin")
    end
    failure.raise(INPUT, "stdin is open, but nothing came within %g s: close it, or give </dev/null", wait / 1000)
end

--- Whether stdin brings something to read: a file, a pipe or a socket; not a terminal or /dev/null.
function M.has_stdin()
    local kind = system.kind(0)
    return kind == "file" or kind == "pipe" or kind == "socket"
end

--- All of stdin. Raises a failure when it cannot be read, delivers nothing, or too much.
-- @param ends when the time is over, as engine.hrtime(), or nil
function M.read_stdin(ends)
    local parts, size = {}, 0
    while true do
        local piece = read_piece(ends, size == 0)
        if piece == "" then
            return table.concat(parts)
        end
        size = size + #piece
        if size > M.MAX then
            failure.raise(DATA, "stdin is larger than %d MiB, more than a model can read", M.MAX >> 20)
        end
        parts[#parts + 1] = piece
    end
end

--- A file as text. Raises a failure.
function M.read_file(path)
    local kind, why = system.file_kind(path)
    if kind == nil or kind == "directory" then
        failure.raise(INPUT, "cannot read %s: %s", path, why or "it is a directory")
    end
    local file, err = io.open(path, "rb")
    local text
    if file then
        text, err = file:read(M.MAX + 1)
        file:close()
    end
    if not file or (not text and err) then
        failure.raise(INPUT, "cannot read %s", (err or path):find(path, 1, true) and err or path .. ": " .. err)
    end
    text = text or ""
    if #text > M.MAX then
        failure.raise(DATA, "%s is larger than %d MiB, more than a model can read", path, M.MAX >> 20)
    end
    return text
end

--- Raises a failure unless the text is UTF-8.
function M.check_text(text, what)
    local _, bad = utf8.len(text)
    if bad then
        failure.raise(DATA, "%s is no UTF-8 text (byte %d): convert it first", what, bad)
    end
    return text
end

--- Material of a message: text as it is, and an image or a PDF as a part of lash.attach. Raises a failure for
-- other bytes.
-- @return text, nil | nil, part
function M.material(bytes, what, path)
    local attach = require "lash.attach"
    if attach.mime(bytes) then
        local part, err = attach.of_bytes(bytes, path or what)
        if not part then
            failure.raise(DATA, "%s", err.message)
        end
        return nil, part
    end
    local _, bad = utf8.len(bytes)
    if bad then
        failure.raise(DATA, "%s is no UTF-8 text (byte %d), and no image (PNG, JPEG, GIF, WebP) or PDF either: "
            .. "convert it first", what, bad)
    end
    return bytes
end

return M
