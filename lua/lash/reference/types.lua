--- The types and signatures of doc comments. Types are those of LuaLS, where the classes of this library lack
-- their "lash."; a single capital letter is a generic type. A `|` stands close to what it joins: one with blanks
-- around it stands between the ways in which a function returns.
--
--   read(path: string [, options]) -> text: string | nil, err
--   wrap(fn: fun(item: T, index: integer): any, ...) -> (fun(): T)?
local M = {}

local BUILTIN = { ["nil"] = true, any = true, boolean = true, string = true, number = true, integer = true,
    ["function"] = true, table = true, thread = true, userdata = true, lightuserdata = true, ["true"] = true,
    ["false"] = true, self = true }

local Parser = {}
Parser.__index = Parser

function Parser:fail(expected)
    error({ types = ("expected %s at '%s'"):format(expected, self.text:sub(self.pos, self.pos + 20)) }, 0)
end

-- Takes what matches an anchored pattern, or gives nil.
function Parser:take(pattern)
    local from, to, capture = self.text:find("^" .. pattern, self.pos)
    if not from then
        return nil
    end
    self.pos = to + 1
    return capture or self.text:sub(from, to)
end

function Parser:need(pattern, what)
    return self:take(pattern) or self:fail(what)
end

function Parser:name(name)
    if BUILTIN[name] then
        return name
    elseif name:find "^%u$" then
        self.generics[name] = true
        return name
    end
    self.names[name] = true
    return "lash." .. name
end

-- The arguments of fun(...), behind the parenthesis.
function Parser:arguments()
    local list = {}
    self:take "%s*"
    while not self:take "%)" do
        local name = self:take "%.%.%." or self:need("[%a_][%w_]*%??", "an argument")
        list[#list + 1] = self:take ":%s*" and name .. ": " .. self:union() or name
        self:take "%s*"
        if not self:take ",%s*" and self.text:sub(self.pos, self.pos) ~= ")" then
            self:fail "')'"
        end
    end
    return table.concat(list, ", ")
end

-- Several results stand in parentheses, since a comma goes on with what is around.
function Parser:results()
    if self:take "%.%.%.:%s*" then
        return "...: " .. self:union()
    elseif not self:take "%(" then
        return self:union()
    end
    local list = {}
    repeat
        local rest = self:take "%.%.%.:%s*" and "...: " or ""
        list[#list + 1] = rest .. self:union()
    until not self:take ",%s*"
    self:need("%)", "')'")
    return list[2] and ("(%s)"):format(table.concat(list, ", ")) or list[1]
end

function Parser:fields()
    local list = {}
    self:take "%s*"
    while not self:take "%}" do
        local name = self:take "[%a_][%w_]*%??"
        if not name then
            self:need("%[", "a field")
            name = ("[%s]"):format(self:union())
            self:need("%]", "']'")
        end
        self:need(":%s*", "':'")
        list[#list + 1] = { name = name, type = self:union() }
        self:take "%s*"
        if not self:take ",%s*" and self.text:sub(self.pos, self.pos) ~= "}" then
            self:fail "'}'"
        end
    end
    return list
end

function Parser:unit()
    local made
    if self:take "fun%(" then
        made = ("fun(%s)"):format(self:arguments())
        return self:take ":%s*" and made .. ": " .. self:results() or made
    elseif self:take "{" then
        local list = self:fields()
        for i, field in ipairs(list) do
            list[i] = field.name .. ": " .. field.type
        end
        made = ("{ %s }"):format(table.concat(list, ", "))
    elseif self:take "%(" then
        made = ("(%s)"):format(self:union())
        self:need("%)", "')'")
    else
        made = self:take '"[^"\\]*"' or self:take "%-?%d+"
    end
    if not made then
        made = self:name(self:need("[%a_][%w_.]*%f[^%w_.]", "a type"))
        if self:take "<" then
            local list = {}
            repeat
                list[#list + 1] = self:union()
            until not self:take ",%s*"
            self:need(">", "'>'")
            made = ("%s<%s>"):format(made, table.concat(list, ", "))
        end
    end
    while self:take "%[%]" do
        made = made .. "[]"
    end
    return made
end

function Parser:union()
    local list = {}
    repeat
        list[#list + 1] = self:unit()
    until not self:take "|"
    return table.concat(list, "|") .. (self:take "%?" or "")
end

-- `[`, `,` and `]` between the parameters; those inside of brackets are optional.
function Parser:parameters()
    local list, depth = {}, 0
    while true do
        self:take "%s*"
        while true do
            if self:take "%[%s*" then
                depth = depth + 1
            elseif self:take "%]%s*" then
                depth = depth - 1
            elseif not self:take ",%s*" then
                break
            end
        end
        if self:take "%)" then
            return list
        end
        if #list > 0 and not self.text:sub(1, self.pos - 1):find "[%[,%]]%s*$" then
            self:fail "','"
        end
        local name = self:take "%.%.%." or self:need("[%a_][%w_]*", "a parameter")
        local of = self:take ":%s*" and self:union() or name == "..." and "any" or nil
        list[#list + 1] = { name = name, type = of, optional = depth > 0 or nil }
    end
end

-- One way to return: { { name =, type = }, ... }; of the last one `rest` when it stands for any number.
function Parser:way()
    local list = {}
    repeat
        local rest = self:take "%.%.%."
        local name = self:take "([%a_][%w_]*):%s+"
        local of
        if rest then
            of = self:take ":%s*" and self:union() or "any"
        elseif not name and self:take "err%f[^%w_.]" then
            name, of = "err", self:name "error"
        else
            of = self:union()
        end
        list[#list + 1] = { name = name, type = of, rest = rest and true or nil }
    until rest or not self:take ",%s*"
    return list
end

local function close(of)
    return of:find("fun(", 1, true) == 1 and ("(%s)"):format(of) or of
end

-- What may stand at one place, in any of the ways.
local function joined(seen, may_lack)
    if seen["true"] and seen["false"] then
        seen.boolean = seen.boolean or seen["true"]
    end
    local list = {}
    for of, at in pairs(seen) do
        if of == "any" then
            return "any"
        elseif of ~= "nil" and not ((of == "true" or of == "false") and seen.boolean) then
            list[#list + 1] = { of = of, at = at }
        end
    end
    table.sort(list, function(a, b)
        return a.at < b.at
    end)
    if #list == 0 then
        return "nil"
    end
    if #list == 1 and not may_lack then
        return list[1].of
    end
    for i, one in ipairs(list) do
        local of, n = close(one.of):gsub("%?$", "")
        list[i], may_lack = of, may_lack or n > 0
    end
    return table.concat(list, "|") .. (may_lack and "?" or "")
end

-- A list of results that holds for all ways: { { name =, type =, rest = }, ... }
local function merged(ways)
    local most, results = 0, {}
    for _, way in ipairs(ways) do
        most = math.max(most, #way)
    end
    for i = 1, most do
        local seen, may_lack, name, rest = {}, false, nil, false
        for n, way in ipairs(ways) do
            local one = way[i]
            if one then
                seen[one.type] = seen[one.type] or n
                if one.name then
                    name = (name == nil or name == one.name) and one.name -- false: it has several
                end
                rest = rest or one.rest
            end
            may_lack = may_lack or not one or one.type == "nil"
        end
        if rest then
            results[i] = { type = "any", rest = true }
            return results
        end
        results[i] = { name = name or nil, type = joined(seen, may_lack) }
    end
    return results
end

local function parser(text, pos)
    return setmetatable({ text = text, pos = pos or 1, names = {}, generics = {} }, Parser)
end

local function guarded(p, fn)
    local ok, result = pcall(fn)
    if ok then
        return result, p
    elseif type(result) == "table" and result.types then
        return nil, result.types
    end
    error(result, 0)
end

--- type(text, pos) -> the type at that place, as LuaLS writes it, { pos = behind it, names = { name = true } of
-- the classes in it, generics = } | nil, message
function M.type(text, pos)
    local p = parser(text, pos)
    return guarded(p, function()
        return p:union()
    end)
end

--- fields(text, pos) -> { { name =, type = }, ... } of `{ name: type, ... }`, { pos =, names = } | nil, message
function M.fields(text, pos)
    local p = parser(text, pos)
    return guarded(p, function()
        p:need("{", "'{'")
        return p:fields()
    end)
end

--- signature(text) -> { params = { { name =, type =, optional = }, ... }, returns = { { name =, type =, rest = },
-- ... } }, { names =, generics = } | nil, message. The text begins at the parenthesis of the parameters.
function M.signature(text)
    local p = parser(text)
    return guarded(p, function()
        p:need("%(", "'('")
        local found = { params = p:parameters(), returns = {} }
        if p:take "%s*%->%s*" then
            local ways = {}
            repeat
                ways[#ways + 1] = p:way()
            until not p:take "%s+|%s+"
            found.returns = merged(ways)
        end
        if p:take "%s*" and p.pos <= #text then
            p:fail "the end"
        end
        return found
    end)
end

return M
