-- Answers in JSON that is broken in its letters only: small servers cut a letter of several bytes between two
-- chunks, or write half of a surrogate pair. What cannot be read becomes U+FFFD, as people would see it
-- anyway; all else that is no JSON stays an error, and so do broken names of fields.
local history = require "lash.provider.history"

local M = {}

local function mend_bytes(text)
    local parts, at = {}, 1
    while at <= #text do
        local _, bad = utf8.len(text, at)
        if not bad then
            break
        end
        parts[#parts + 1] = text:sub(at, bad - 1) .. "\u{FFFD}"
        at = bad + 1
    end
    return table.concat(parts) .. text:sub(at)
end

local HIGH, LOW = "^\\u[dD][89aAbB]%x%x", "^\\u[dD][c-fC-F]%x%x"

local function mend_escapes(text)
    local parts, done, at = {}, 1, text:find("\\", 1, true)
    while at do
        local next = at + 2
        if text:find(HIGH, at) and text:find(LOW, at + 6) then
            next = at + 12
        elseif text:find(HIGH, at) or text:find(LOW, at) then
            next = at + 6
            parts[#parts + 1] = text:sub(done, at - 1) .. "\\ufffd"
            done = next
        end
        at = text:find("\\", next, true)
    end
    return table.concat(parts) .. text:sub(done)
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

--- decode(text) -> value, nil, the text that it is the value of | nil, err
function M.decode(text)
    local value, err = history.decode(text)
    if not err then
        return value, nil, text
    end
    local mended = mend_escapes(mend_bytes(text or ""):gsub("^\u{FEFF}", ""))
    if mended == text then
        return nil, err
    end
    local again, still = history.decode(mended)
    if still or type(again) == "table" and broken_name(again) then
        return nil, err
    end
    return again, nil, mended
end

return M
