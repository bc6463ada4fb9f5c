-- Answers in JSON that is broken in its letters only: small servers cut a letter of several bytes between two
-- chunks, or write half of a surrogate pair. What cannot be read becomes U+FFFD, as people would see it
-- anyway; all else that is no JSON stays an error, and so do broken names of fields.
local history = require "lash.provider.history"

local M = {}

-- More broken letters than this are no accident: such a text is no answer.
local MOST = 10000

-- @return the text with its bytes mended from `at` on | nil when there are too many
local function mend_bytes(text, at)
    local parts, done = {}, 1
    while #parts <= MOST do
        local _, bad = utf8.len(text, at)
        if not bad then
            return table.concat(parts) .. text:sub(done)
        end
        parts[#parts + 1] = text:sub(done, bad - 1) .. "\u{FFFD}"
        at, done = bad + 1, bad + 1
    end
    return nil
end

local HALF, HIGH, LOW = "\\u[dD][89a-fA-F]%x%x", "^\\u[dD][89aAbB]", "^\\u[dD][c-fC-F]%x%x"

-- Whether the backslash at this place stands for itself, or begins an escape.
local function is_escaped(text, at)
    local before = at - 1
    while before > 0 and text:byte(before) == 92 do
        before = before - 1
    end
    return (at - before) % 2 == 0
end

local function mend_escapes(text, at)
    local parts, done = {}, 1
    at = text:find(HALF, at)
    while at and #parts <= MOST do
        local next = at + 6
        if is_escaped(text, at) then
            next = at + 1
        elseif text:find(HIGH, at) and text:find(LOW, at + 6) then
            next = at + 12
        else
            parts[#parts + 1] = text:sub(done, at - 1) .. "\\ufffd"
            done = next
        end
        at = text:find(HALF, next)
    end
    return not at and table.concat(parts) .. text:sub(done) or nil
end

-- @param at where the first fault is
-- @return the text without it and without others of its kind | nil when it is of another kind
local function mended(text, at)
    local byte = at and text:byte(at)
    if not byte or byte < 0x80 and not text:find("^" .. HALF, at) then
        return nil
    end
    local letters = mend_bytes(text, at)
    letters = letters and mend_escapes(letters, at)
    return letters and letters:gsub("^\u{FEFF}", "")
end

-- Whether the name of a field is broken: then who knows what is missing.
local function broken_name(value)
    for name, part in pairs(value) do
        if type(name) == "string" and name:find("\u{FFFD}", 1, true)
            or type(part) == "table" and broken_name(part) then
            return true
        end
    end
    return false
end

-- @param err of a text
-- @return the text without what is broken in it | nil
local function whole(text, err)
    local new = mended(text or "", err.position)
    if not new or new == text then
        return nil
    end
    local value, still = history.decode(new)
    if still or type(value) == "table" and broken_name(value) then
        return nil
    end
    return new, value
end

--- decode(text) -> value, nil, the text that it is the value of | nil, err
function M.decode(text)
    local value, err = history.decode(text)
    if not err then
        return value, nil, text
    end
    local new
    new, value = whole(text, err)
    if not new then
        return nil, err
    end
    return value, nil, new
end

--- pick(text, shape) -> value, nil, raws, the text that it is of | nil, err: as history.pick, of a text with its
-- letters mended
function M.pick(text, shape)
    local value, raws = history.pick(text, shape)
    if value ~= nil then
        return value, nil, raws, text
    end
    local new = whole(text, raws)
    if not new then
        return nil, raws
    end
    value, raws = history.pick(new, shape)
    return value, nil, raws, new
end

return M
