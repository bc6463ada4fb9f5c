--- Material of a user's message: what stands in front of the words. Texts are put between tags, images and PDFs are
-- parts of the message:
--
--   <file name="notes.md">
--   ...
--   </file>
--
--   <stdin>
--   ...
--   </stdin>
--
--   the words
local input = require "lash.cmd.input"

local M = {}

local function wrapped(tag, attributes, text)
    return ("<%s%s>\n%s%s</%s>"):format(tag, attributes, text, text:sub(-1) == "\n" and "" or "\n", tag)
end

local function piece(tag, attributes, bytes, what, path)
    local text, part = input.material(bytes, what, path)
    return part or wrapped(tag, attributes, text)
end

--- file(path, bytes) -> a text, or a part of lash.attach. Raises a failure for other bytes.
function M.file(path, bytes)
    return piece("file", (' name="%s"'):format(path:gsub("[%c\"<>]", "_")), bytes, path, path)
end

--- stdin(bytes) -> the same
function M.stdin(bytes)
    return piece("stdin", "", bytes, "stdin")
end

--- message(list) -> what agent:run takes: texts that follow one another as one, and the parts between them; a text
-- alone if there are none
function M.message(list)
    local message, texts, has_parts = {}, {}, false
    local function flush()
        if texts[1] then
            message[#message + 1], texts = table.concat(texts, "\n\n"), {}
        end
    end
    for _, one in ipairs(list) do
        if type(one) == "string" then
            texts[#texts + 1] = one
        else
            flush()
            message[#message + 1], has_parts = one, true
        end
    end
    flush()
    return has_parts and message or message[1]
end

return M
