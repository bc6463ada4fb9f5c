--- Reads doc comments. A block is `---` and the `--` lines below it, before what it tells of:
--
--   --- read(path: string [, options]) -> text: string | nil, err
--   -- What it does, for people.
--   -- @param path  what there is to say of it
--   -- @param options
--   --   max?  integer|string  bytes, or "8M" ("64M"): a larger file is an error
--   --         (goes on)
--   -- @return what there is to say of its results
--   function M.read(path, options)
--
-- A value has `--- name: type` in place of the signature. Tables have classes: fields below a parameter make one
-- that is called after it (fs.read.options), others are declared anywhere, and before an object's `local Owner =`
-- name the class of its methods:
--
--   --- @class http.answer  what it is
--   --   status  integer
--   -- @class event.text: event.base { delta: string }  what it is
--   -- @alias mark  "sync"|"async"
--
-- See lash.reference.types for signatures and types.
local types = require "lash.reference.types"

local M = {}

local function lines_of(text)
    local lines = {}
    for line in (text .. "\n"):gmatch "(.-)\n" do
        lines[#lines + 1] = line
    end
    return lines
end

--- blocks(source) -> { { doc = lines, code = the line behind it }, ... }
function M.blocks(source)
    local blocks, lines, i = {}, lines_of(source), 1
    while i <= #lines do
        if lines[i]:sub(1, 4) == "--- " then
            local doc = { lines[i]:sub(5) }
            i = i + 1
            while lines[i] and lines[i]:find "^%-%-" and not lines[i]:find "^%-%-%- " do
                doc[#doc + 1] = lines[i]:gsub("^%-%- ?", "")
                i = i + 1
            end
            blocks[#blocks + 1] = { doc = doc, code = lines[i] or "" }
        else
            i = i + 1
        end
    end
    return blocks
end

--- defined(code) -> owner, "." or ":", name of what a line of code defines, and its arguments if it is a function
function M.defined(code)
    local owner, mark, name, args = code:match "^function ([%w_]+)([.:])([%w_]+)%((.-)%)"
    if owner then
        return owner, mark, name, args
    end
    owner, name = code:match "^([%w_]+)%.([%w_]+) = "
    if owner then
        return owner, ".", name, code:match "function%((.-)%)"
    end
    return nil
end

-- What a class or a parameter that has fields consists of goes on with a line.
local function add_field(into, line, faults)
    local name, at = line:match "^%s+([%w_]+%??)%s%s+()"
    if not name then
        name, at = line:match '^%s+(%["?[%w_-]+"?%]%??)%s%s+()'
    end
    local of, p
    if name then
        of, p = types.type(line, at)
        local text = of and line:match("^%s%s+(.*)$", p.pos) or of and line:match("^%s*$", p.pos) and ""
        if not text then
            faults[#faults + 1] = ("%s: %s"):format(line:match "^%s*(.*)$", of and "no type stands there" or p)
            return
        end
        into.fields[#into.fields + 1] = { name = name:gsub("%?$", ""), optional = name:sub(-1) == "?" or nil,
            type = of, shown = line:sub(at, p.pos - 1), names = p.names, text = text }
        return
    end
    local last = not into.whole and into.fields[#into.fields] or into
    last.text = (last.text == "" and "" or last.text .. " ") .. line:match "^%s*(.*)$"
end

local function add_class(found, rest)
    local name, at = rest:match "^([%w_.]+)()"
    local parent, behind = rest:match("^:%s*([%w_.]+)()", at)
    at = behind or at
    local class = { name = name, parent = parent, fields = {} }
    if rest:find("^%s*{", at) then
        local fields, p = types.fields(rest, rest:find("{", at, true))
        if not fields then
            found.faults[#found.faults + 1] = ("@class %s: %s"):format(rest, p)
            return class
        end
        for i, field in ipairs(fields) do
            class.fields[i] = { name = field.name:gsub("%?$", ""), optional = field.name:sub(-1) == "?" or nil,
                type = field.type, shown = field.type:gsub("%f[%w_]lash%.", ""), names = i == 1 and p.names or {},
                text = "" }
        end
        at, class.whole = p.pos, true
    end
    class.text = rest:match("^%s*(.*)$", at)
    found.classes[#found.classes + 1] = class
    return class
end

local function add_alias(found, rest)
    local name, at = rest:match "^([%w_.]+)%s+()"
    local of, p = types.type(rest, at)
    if not of then
        found.faults[#found.faults + 1] = ("@alias %s: %s"):format(rest, p)
        return
    end
    found.aliases[#found.aliases + 1] = { name = name, type = of, shown = rest:sub(at, p.pos - 1), names = p.names,
        text = rest:match("^%s*(.*)$", p.pos) }
end

-- A tag with the lines that belong to its first one: of an alias all, of a class those until its brace is closed.
local function whole(doc, i, tag)
    local line = doc[i]:match "^@%a+%s*(.*)$"
    while doc[i + 1] and doc[i + 1]:find "^%s+%S" and (tag == "alias"
        or tag == "class" and line:find("{", 1, true) and not line:find("}", 1, true)) do
        i = i + 1
        line = line .. (tag == "alias" and "" or " ") .. doc[i]:match "^%s*(.*)$"
    end
    return line, i
end

local function add_tag(found, tag, rest)
    if tag == "class" then
        return add_class(found, rest)
    elseif tag == "alias" then
        add_alias(found, rest)
        return nil
    elseif tag == "param" then
        local name, text = rest:match "^([%w_.]+)%s*(.*)$"
        found.params[name] = { text = text, fields = {} }
        return found.params[name]
    elseif tag == "return" then
        found.returned = { text = rest, fields = {} }
        return found.returned
    end
    found.faults[#found.faults + 1] = "@" .. tag .. " is no tag"
    return nil
end

--- parse(doc) -> { prose = lines, params = { name = { text =, fields = } }, returned = { text = }, classes = list of
-- { name =, parent =, text =, fields = }, aliases = list of { name =, type =, text = }, faults = list of texts }.
-- Fields are { name =, type =, shown = the type as it stands there, optional =, text =, names = }.
function M.parse(doc)
    local found = { prose = {}, params = {}, classes = {}, aliases = {}, faults = {} }
    local into, i = nil, 1
    while i <= #doc do
        local tag = doc[i]:match "^@(%a+)"
        if tag then
            local rest
            rest, i = whole(doc, i, tag)
            into = add_tag(found, tag, rest)
        elseif into and doc[i]:find "^%s+%S" then
            add_field(into, doc[i], found.faults)
        else
            into = nil
            found.prose[#found.prose + 1] = doc[i]
        end
        i = i + 1
    end
    while found.prose[#found.prose] == "" do
        found.prose[#found.prose] = nil
    end
    return found
end

return M
