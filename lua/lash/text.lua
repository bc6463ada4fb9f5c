--- Text for terminals.
local M = {}

local function visible(char)
    local code = utf8.codepoint(char)
    if code < 32 then
        return "^" .. string.char(code + 64)
    elseif code == 127 then
        return "^?"
    end
    return ("<U+%04X>"):format(code)
end

local function repaired(text)
    local parts, at = {}, 1
    while at <= #text do
        local _, bad = utf8.len(text, at)
        if not bad then
            parts[#parts + 1] = text:sub(at)
            break
        end
        parts[#parts + 1] = text:sub(at, bad - 1) .. "\u{FFFD}"
        at = bad + 1
    end
    return table.concat(parts)
end

--- Makes text harmless for a terminal: control characters but newline and tab become visible, and so
-- do those that turn the direction of writing; bytes that are no UTF-8 become U+FFFD.
function M.plain(text)
    if not utf8.len(text) then
        text = repaired(text)
    end
    text = text:gsub("\r\n", "\n"):gsub("[\0-\8\11-\31\127]", visible)
    text = text:gsub("\xC2[\x80-\x9F]", visible)
    return (text:gsub("\xE2\x80[\xAA-\xAE]", visible):gsub("\xE2\x81[\xA6-\xA9]", visible))
end

-- Terminal cells of a code point, near enough: East Asian wide forms and emoji take two.
local function cells(code)
    if code >= 0x300 and code <= 0x36F or code == 0x200D or code >= 0xFE00 and code <= 0xFE0F then
        return 0
    elseif code >= 0x1100 and code <= 0x115F or code >= 0x2E80 and code <= 0xA4CF
        or code >= 0xAC00 and code <= 0xD7A3 or code >= 0xF900 and code <= 0xFAFF
        or code >= 0xFE30 and code <= 0xFE6F or code >= 0xFF00 and code <= 0xFF60
        or code >= 0x1F300 and code <= 0x1FAFF then
        return 2
    end
    return 1
end

--- cells(text) -> the cells of a terminal that a text in one line takes, as M.plain made it
function M.cells(text)
    local used = 0
    for _, code in utf8.codes(text) do
        used = used + cells(code)
    end
    return used
end

--- One line of at most `width` cells; what is cut off shows as "...".
function M.line(text, width)
    text = M.plain(text):gsub("%s+", " ")
    local used, keep = 0, 0 -- cells so far; bytes that leave room for the dots
    for at, code in utf8.codes(text) do
        used = used + cells(code)
        if used > width then
            return text:sub(1, keep) .. "..."
        elseif used <= width - 3 then
            keep = utf8.offset(text, 2, at) - 1
        end
    end
    return text
end

-- Whether the terminal understands UTF-8, by the usual variables.
local function is_utf8()
    local locale = os.getenv("LC_ALL") or ""
    locale = locale ~= "" and locale or os.getenv("LC_CTYPE") or ""
    locale = locale ~= "" and locale or os.getenv("LANG") or ""
    return locale:lower():find("utf%-?8") ~= nil
end

--- The signs before a call that went well or not.
function M.marks()
    if is_utf8() then
        return { ok = "\u{2713}", other = "\u{2717}" }
    end
    return { ok = "+", other = "x" }
end

local CODES = { red = "31", green = "32", yellow = "33", magenta = "35", cyan = "36", dim = "2", bold = "1" }

--- Makes paint(colour, text) for one stream.
-- @param is_terminal whether it is one
-- @param choice "auto", "always", "never", or nil: LASH_COLOR, NO_COLOR and TERM decide
function M.painter(is_terminal, choice)
    choice = choice or os.getenv("LASH_COLOR")
    if choice ~= "always" and choice ~= "never" then
        local off = (os.getenv("NO_COLOR") or "") ~= "" or os.getenv("TERM") == "dumb"
        choice = is_terminal and not off and "always" or "never"
    end
    return function(colour, text)
        if choice == "never" then
            return text
        end
        return ("\27[%sm%s\27[0m"):format(CODES[colour], text)
    end
end

--- The text without white space around it, in linear time, whatever stands between.
function M.trim(text)
    return text:sub(text:find("%S") or 1, (text:match("^.*%S()") or 1) - 1)
end

return M
