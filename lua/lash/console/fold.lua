--- Texts of our own on a terminal: no control characters, and lines that are too long for it are broken between
-- words, not within them.
local system = require "lash.core.system"
local text = require "lash.text"

local M = {}

local NARROW = 20 -- cells: there a terminal may break lines as it likes

-- Where the rest of a line begins: under its text, behind what stands in columns in front of it.
local function indent_of(line, width)
    local indent = #line:match "^%s*"
    for at in line:gmatch "%S  +()%S" do
        if at - 1 <= width // 2 then
            indent = at - 1
        end
    end
    return indent
end

-- Where to break: the last blank behind the indent such that what stands before it has at most `width` cells.
local function break_at(line, indent, width)
    local at
    for blank in line:gmatch "()[ ]+" do
        if blank > indent + 1 then
            if text.cells(line:sub(1, blank - 1)) > width then
                break
            end
            at = blank
        end
    end
    return at
end

local function broken(line, width)
    local parts, indent = {}, math.min(indent_of(line, width), width - 10)
    while text.cells(line) > width do
        local at = break_at(line, #line:match "^%s*", width)
        if not at then
            break
        end
        parts[#parts + 1] = line:sub(1, at - 1)
        line = (" "):rep(indent) .. line:sub(at):gsub("^ +", "")
    end
    parts[#parts + 1] = line
    return table.concat(parts, "\n")
end

--- fold(value, width) -> the text with its long lines broken
function M.fold(value, width)
    if width < NARROW then
        return value
    end
    return (value:gsub("[^\n]+", function(line)
        return #line > width and broken(line, width) or nil
    end))
end

--- out(value): writes a text to stdout, with a line end
function M.out(value)
    value = value:sub(-1) == "\n" and value or value .. "\n"
    if system.isatty(1) then
        value = M.fold(text.plain(value), (system.columns(1) or 80) - 1)
    end
    system.write(1, value)
end

return M
