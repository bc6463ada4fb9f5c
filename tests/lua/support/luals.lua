--- A strict reader of annotation files of the Lua language server: what LuaLS passes over in silence is a fault
-- here. After its parser: tokens are names with dots, texts, integers and symbols, and a type ends where no more
-- of it can follow, so that what stands behind it is told from it by a `#`.
local M = {}

local BUILTIN = {}
for name in ("nil any boolean string number integer function table thread userdata lightuserdata unknown self")
    :gmatch "%a+" do
    BUILTIN[name] = true
end

local TOKENS = { { "name", "^[%a_][%w_.*-]*" }, { "text", '^"[^"\\]*"' }, { "integer", "^%-?%d+%f[^%w.]" } }
local SYMBOLS = { "...", "[]", "[", "]", "(", ")", "{", "}", "<", ">", ",", ":", "|", "?" }

-- The tokens up to a `#`, which begins a remark.
local function tokens_of(text, fail)
    local list, pos = {}, 1
    while true do
        pos = text:find("%S", pos)
        if not pos then
            return list
        elseif text:sub(pos, pos) == "#" then
            list.remark = text:sub(pos + 1)
            return list
        end
        local kind, from, to = nil, nil, nil
        for _, try in ipairs(TOKENS) do
            from, to = text:find(try[2], pos)
            kind = try[1]
            if from then
                break
            end
        end
        for _, symbol in ipairs(from and {} or SYMBOLS) do
            if text:sub(pos, pos + #symbol - 1) == symbol then
                kind, from, to = "symbol", pos, pos + #symbol - 1
                break
            end
        end
        if not from then
            fail("no token at '%s'", text:sub(pos))
        end
        list[#list + 1] = { kind = kind, text = text:sub(from, to), from = from, to = to }
        pos = to + 1
    end
end

local Reader = {}
Reader.__index = Reader

function Reader:at(text)
    local token = self.tokens[self.i]
    return token and token.kind ~= "text" and token.text == text
end

function Reader:take(text)
    if self:at(text) then
        self.i = self.i + 1
        return true
    end
    return false
end

function Reader:need(text)
    if not self:take(text) then
        local token = self.tokens[self.i]
        self.fail("expected '%s', found '%s'", text, token and token.text or "the end")
    end
end

function Reader:name()
    local token = self.tokens[self.i]
    if not token or token.kind ~= "name" then
        self.fail("expected a name, found '%s'", token and token.text or "the end")
    end
    self.i = self.i + 1
    return token.text
end

-- Types are trees: { "name", of }, { "union", ... }, { "array", of }, { "fun", args, results }, { "table", fields },
-- { "of", name, ... }, { "literal", value }.
function Reader:fun()
    self:need "("
    local args, results = {}, {}
    while not self:take ")" do
        local arg = { name = self:take "..." and "..." or self:name() }
        arg.optional = self:take "?"
        self:need ":"
        arg.type = self:type()
        args[#args + 1] = arg
        if not self:at ")" then
            self:need ","
        end
    end
    if self:take ":" then
        local closed = self:take "("
        repeat
            if self:take "..." then
                self:need ":"
            end
            results[#results + 1] = self:type()
        until not self:take ","
        if closed then
            self:need ")"
        end
    end
    return { "fun", args, results }
end

function Reader:fields()
    local fields = {}
    while not self:take "}" do
        local field = {}
        if self:take "[" then
            field.key = self:type()
            self:need "]"
        else
            field.name = self:name()
            field.optional = self:take "?"
        end
        self:need ":"
        field.type = self:type()
        fields[#fields + 1] = field
        if not self:at "}" then
            self:need ","
        end
    end
    return { "table", fields }
end

function Reader:unit()
    local token = self.tokens[self.i]
    local made
    if self:take "{" then
        made = self:fields()
    elseif self:take "(" then
        made = self:type()
        self:need ")"
    elseif token and (token.kind == "text" or token.kind == "integer") then
        self.i = self.i + 1
        made = { "literal", token.kind == "text" and token.text:sub(2, -2) or math.tointeger(token.text) }
    else
        local name = self:name()
        if name == "fun" then
            return self:fun() -- an array of functions needs parentheses
        elseif name == "true" or name == "false" then
            made = { "literal", name == "true" }
        elseif self:take "<" then
            made = { "of", name }
            repeat
                made[#made + 1] = self:type()
            until not self:take ","
            self:need ">"
        else
            self.used(name)
            made = { "name", name }
        end
    end
    while self:take "[]" do
        made = { "array", made }
    end
    return made
end

function Reader:type()
    local list = { "union" }
    repeat
        list[#list + 1] = self:unit()
    until not self:take "|"
    if self:take "?" then
        list[#list + 1] = { "name", "nil" }
    end
    return #list == 2 and list[2] or list
end

function Reader:over()
    local token = self.tokens[self.i]
    if token then
        self.fail("'%s' is too much", token.text)
    elseif (self.tokens.remark or ""):find "^%s*[\"'%[]" then
        self.fail "LuaLS reads a remark that begins with a quote as a text"
    elseif self.tokens.remark and not self.tokens.remark:find "%S" then
        self.fail "an empty remark"
    end
end

local File = {}
File.__index = File

function File:fail(text, ...)
    error(("line %d: %s: %s"):format(self.line, text:format(...), self.lines[self.line]), 0)
end

function File:reader(text)
    local function fail(...)
        self:fail(...)
    end
    return setmetatable({ tokens = tokens_of(text, fail), i = 1, fail = fail, used = function(name)
        self.uses[#self.uses + 1] = { name = name, line = self.line, group = self.group }
    end }, Reader)
end

local TAGS = {}

function TAGS.class(file, reader)
    local name = reader:name()
    if file.classes[name] or file.aliases[name] then
        file:fail("%s is declared twice", name)
    end
    local class = { name = name, fields = {}, methods = {}, overloads = {} }
    if reader:take ":" then
        class.parent = reader:name()
        reader.used(class.parent)
    end
    file.classes[name], file.group.class = class, class
end

function TAGS.alias(file, reader)
    local name = reader:name()
    if file.classes[name] or file.aliases[name] then
        file:fail("%s is declared twice", name)
    end
    file.aliases[name] = reader:type()
    file.group.alias = true
end

function TAGS.field(file, reader)
    local class = file.group.class
    if not class then
        file:fail "a field without its class"
    end
    local field = {}
    if reader:take "[" then
        local token = reader.tokens[reader.i]
        if token and token.kind == "name" then
            field.key = reader:type()
        else
            field.name = token and (token.kind == "text" and token.text:sub(2, -2) or math.tointeger(token.text))
            reader.i = reader.i + 1
        end
        reader:need "]"
    else
        field.name = reader:name()
        if field.name:find "[.*-]" then
            file:fail("'%s' is no name of a field", field.name)
        end
    end
    field.optional = reader:take "?"
    field.type = reader:type()
    if field.name and class.fields[field.name] then
        file:fail("the field %s is there twice", field.name)
    end
    class.fields[field.name or field.key] = field
end

function TAGS.param(file, reader)
    local param = { name = reader:take "..." and "..." or reader:name() }
    param.optional = reader:take "?"
    param.type = reader:type()
    if #file.group.returns > 0 then
        file:fail "a parameter behind the results"
    end
    table.insert(file.group.params, param)
end

TAGS["return"] = function(file, reader)
    local result = { type = reader:type() }
    if reader:take "..." then
        result.rest = true
    elseif reader.tokens[reader.i] then
        result.name = reader:name()
    end
    table.insert(file.group.returns, result)
end

function TAGS.overload(file, reader)
    if reader:name() ~= "fun" then
        file:fail "an overload is fun(...)"
    elseif not file.group.class then
        file:fail "an overload without its class"
    end
    table.insert(file.group.class.overloads, reader:fun())
end

function TAGS.generic(file, reader)
    repeat
        file.group.generics[reader:name()] = true
    until not reader:take ","
end

function TAGS.type(file, reader)
    file.group.value = reader:type()
end

local function new_group()
    return { params = {}, returns = {}, generics = {}, tags = 0 }
end

function File:comment(line)
    local tag, rest = line:match "^%-%-%-%s*@([%w_-]+)%s*(.*)$"
    if not tag then
        if line:find "^%-%-%-%s*|" or line:find "^%-%-%-%s*@" then
            self:fail "LuaLS reads this as no comment"
        elseif not line:find "^%-%-%-" or line:find "%s$" then
            self:fail "a comment is `--- text`, without blanks at its end"
        end
        return
    elseif not TAGS[tag] then
        self:fail("the tag @%s is not known", tag)
    elseif not line:find("---@", 1, true) then
        self:fail "a tag is written ---@tag"
    end
    self.group.tags = self.group.tags + 1
    local reader = self:reader(rest)
    TAGS[tag](self, reader)
    reader:over()
end

local function names_of(list)
    local names = {}
    for i, one in ipairs(list) do
        names[i] = one.name
    end
    return table.concat(names, ", ")
end

-- A line of code, with the comments that stand right above it.
function File:code(line)
    local group = self.group
    local owner, mark, name, args = line:match "^function ([%w_.]+)([.:])([%w_]+)%((.*)%) end$"
    if owner then
        local full = owner .. mark .. name
        if group.class or group.alias or group.value then
            self:fail "a class stands above a function"
        elseif not self.owners[owner] then
            self:fail("%s is nothing yet", owner)
        elseif self.functions[full] then
            self:fail("%s is there twice", full)
        elseif args ~= names_of(group.params) then
            self:fail("@param tells of (%s)", names_of(group.params))
        end
        local made = { params = group.params, returns = group.returns, name = full }
        self.functions[full] = made
        local class = self.owners[owner]
        if type(class) == "table" then
            class.methods[name] = made
        end
        return
    end
    local is_local = line:find "^local "
    owner, name = line:gsub("^local ", ""):match "^([%w_.]+) = ([nil{}]+)$"
    if owner and (name == "nil" or name == "{}") then
        if #group.params + #group.returns > 0 then
            self:fail "a table has no parameters"
        elseif self.owners[owner] then
            self:fail("%s is there twice", owner)
        elseif name == "nil" and not group.value then
            self:fail "a value needs its ---@type"
        elseif not is_local and owner ~= self.module and not self.owners[owner:match "^(.*)%." or ""] then
            self:fail("%s is in no table", owner)
        end
        self.owners[owner] = group.class or true
    elseif not line:find "^return [%w_]+$" then
        self:fail "what is this?"
    end
end

function File:close_group()
    local group = self.group
    if #group.params + #group.returns > 0 and not group.closed or group.value and not group.closed then
        self:fail "parameters or a type without what they belong to"
    end
    self.group = new_group()
end

--- read(text) -> { classes = { name = { fields =, parent =, methods =, overloads = } }, aliases = { name = type },
-- functions = { ["lash.fs.read"] = { params =, returns = } }, owners = }. Raises what is wrong, with its line.
function M.read(text)
    local file = setmetatable({ lines = {}, line = 1, uses = {}, classes = {}, aliases = {}, functions = {},
        owners = {} }, File)
    for line in text:gmatch "(.-)\n" do
        file.lines[#file.lines + 1] = line
    end
    file.module = (file.lines[1] or ""):match "^%-%-%-@meta ([%w_]+)$" or file:fail "the first line is ---@meta NAME"
    file.group = new_group()
    for i = 2, #file.lines do
        local line = file.lines[i]
        file.line = i
        if line:find "^%-%-" then
            file:comment(line)
        elseif line == "" then
            file:close_group()
        else
            file:code(line)
            file.group.closed = true
            file:close_group()
        end
    end
    for _, use in ipairs(file.uses) do
        if not (BUILTIN[use.name] or file.classes[use.name] or file.aliases[use.name]
            or use.group.generics[use.name]) then
            file.line = use.line
            file:fail("there is no type %s", use.name)
        end
    end
    return file
end

-- ---- values ----

local function field_of(file, class, name)
    while class do
        local found = class.fields[name]
        if found then
            return found
        end
        class = file.classes[class.parent]
    end
    return nil
end

-- All fields of a class, with those of its parents.
local function fields_of(file, class)
    local list = {}
    while class do
        for _, field in pairs(class.fields) do
            list[#list + 1] = field
        end
        class = file.classes[class.parent]
    end
    return list
end

local check

local function check_class(file, value, class, where)
    if file.within[value] == class then
        return nil -- it has itself somewhere below
    end
    file.within[value] = class
    for _, field in ipairs(fields_of(file, class)) do
        if field.name and not (field.optional and value[field.name] == nil) then
            local fault = check(file, value[field.name], field.type, where .. "." .. field.name)
            if fault then
                return fault
            end
        end
    end
    local is_object = type(value) ~= "table" or type((getmetatable(value) or {}).__index) == "table"
    for name in pairs(is_object and {} or value) do
        local by_index = false
        for _, field in ipairs(fields_of(file, class)) do
            by_index = by_index or field.key ~= nil
        end
        if not by_index and not tostring(name):find "^_" and not field_of(file, class, name) then
            return ("%s has the field %s, which %s does not tell of"):format(where, tostring(name), class.name)
        end
    end
    return nil
end

local CHECKS = {}

function CHECKS.union(file, value, of, where)
    local faults = {}
    for i = 2, #of do
        faults[#faults + 1] = check(file, value, of[i], where)
        if #faults < i - 1 then
            return nil
        end
    end
    return table.concat(faults, " or ")
end

function CHECKS.array(file, value, of, where)
    if type(value) ~= "table" then
        return where .. " is no list"
    end
    for i, one in ipairs(value) do
        local fault = check(file, one, of[2], ("%s[%d]"):format(where, i))
        if fault then
            return fault
        end
    end
    return nil
end

function CHECKS.fun(_, value, _, where)
    return type(value) ~= "function" and where .. " is no function" or nil
end

function CHECKS.literal(_, value, of, where)
    return value ~= of[2] and ("%s is %s, not %s"):format(where, tostring(value), tostring(of[2])) or nil
end

function CHECKS.of(_, value, _, where)
    return type(value) ~= "table" and where .. " is no table" or nil
end

function CHECKS.table(file, value, of, where)
    if type(value) ~= "table" then
        return where .. " is no table"
    end
    for _, field in ipairs(of[2]) do
        if field.name and not (field.optional and value[field.name] == nil) then
            local fault = check(file, value[field.name], field.type, where .. "." .. field.name)
            if fault then
                return fault
            end
        end
    end
    return nil
end

function CHECKS.name(file, value, of, where)
    local name = of[2]
    if name == "any" or type(value) == name or math.type(value) == name
        or name == "lightuserdata" and type(value) == "userdata" then
        return nil
    elseif file.aliases[name] then
        return check(file, value, file.aliases[name], where)
    elseif file.classes[name] and (type(value) == "table" or type(value) == "userdata") then
        return check_class(file, value, file.classes[name], where)
    end
    return ("%s is %s, not %s"):format(where, math.type(value) or type(value), name)
end

function check(file, value, of, where)
    return CHECKS[of[1]](file, value, of, where)
end

--- fault(file, value, type_name) -> nil | what tells the value from the type. Every field of a value must be declared
-- that does not begin with _; objects, whose metatable has their methods, may have more.
function M.fault(file, value, name)
    file.within = {}
    return check(file, value, { "name", name }, name)
end

return M
