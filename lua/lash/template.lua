--- lash.template: texts with gaps, for prompts.
--
--   local text, err = lash.template.render("Dear {{user.name}}, ...", { user = { name = "Ann" } })
--   local fill = assert(lash.template.compile(source)); fill(values)
--
--   {{name}} {{a.b}} {{list.1}}                  a value: a text, a number or a boolean
--   {{#if x}} ... {{else}} ... {{/if}}           false are: false, null, "", an empty table, what is missing
--   {{#each list}} ... {{else}} ... {{/each}}    once for each entry; else when there is none
--   {{! words }} {{!-- words with }} --}}        a comment
--   \{{                                          two braces as they are
--
-- Inside of #each a name is looked up in the entry, then further out. {{this}} is the entry, {{@index}} its
-- number from 1, {{@first}} and {{@last}} are true or false. A tag of #if, #each, else or a comment that
-- stands alone on its line takes the line with it.
--
-- Values are inserted as they are and never read as a template; nothing in a template or a value runs code.
-- Failures are `nil, err` with err.code "template" (the source is wrong), "missing" (a name has no value),
-- "value" (it has one of a kind that cannot stand there) or "too_large"; err.line and err.message tell where.
local json = require "lash.json"
local misuse = require "lash.misuse"
local size = require "lash.size"

local M = {}

local OPTIONS = { "missing", "max" }
local MAX_DEPTH, MAX_TAG, MAX_STEPS = 64, 1000, 1000000
local NAME = "[A-Za-z0-9_\128-\255][A-Za-z0-9_\128-\255-]*"

local function failure(code, line, text, ...)
    return setmetatable({ code = code, line = line, message = ("line %d: %s"):format(line, text:format(...)) },
        json.error_mt)
end

local function shown(text)
    return #text > 60 and text:sub(1, 60) .. "..." or text
end

-- Compiling -------------------------------------------------------------------------------------

-- "a.b.1" -> { text = "a.b.1", line =, "a", "b", "1" } | nil: no name
local function path_of(text, line)
    local path, at = { text = text, line = line }, 1
    if text == "this" or text == "@index" or text == "@first" or text == "@last" then
        path[1] = text
        return path
    end
    while true do
        local _, last = text:find("^" .. NAME, at)
        if not last then
            return nil
        end
        path[#path + 1] = text:sub(at, last)
        if last == #text then
            return path
        elseif text:sub(last + 1, last + 1) ~= "." then
            return nil
        end
        at = last + 2
    end
end

-- The methods return an error value, or nil. `line` is that of the tag at hand; `list` takes the nodes:
-- texts, or { kind = "value", "if" or "each", path =, body =, other = }.
local Compiler = {}
Compiler.__index = Compiler

function Compiler:fault(text, ...)
    return failure("template", self.line, text, ...)
end

function Compiler:add(node)
    self.list[#self.list + 1] = node
end

function Compiler:no_name(text)
    return self:fault("'%s' is no name: names are of letters, digits, _ and -, with dots between them", shown(text))
end

function Compiler:value(text)
    local path = path_of(text, self.line)
    if not path then
        return self:no_name(text)
    end
    self:add({ kind = "value", path = path })
end

function Compiler:open(kind, text)
    if kind ~= "if" and kind ~= "each" then
        return self:fault("there is no {{#%s}}, only {{#if name}} and {{#each name}}", shown(kind))
    elseif text == "" then
        return self:fault("{{#%s}} needs a name: {{#%s name}}", kind, kind)
    elseif #self.stack >= MAX_DEPTH then
        return self:fault("more than %d blocks inside each other", MAX_DEPTH)
    end
    local path = path_of(text, self.line)
    if not path then
        return self:no_name(text)
    end
    local node = { kind = kind, path = path, body = {} }
    self:add(node)
    self.stack[#self.stack + 1] = { node = node, list = self.list, line = self.line }
    self.list = node.body
end

function Compiler:otherwise()
    local top = self.stack[#self.stack]
    if not top then
        return self:fault("{{else}} outside of #if and #each")
    elseif top.node.other then
        return self:fault("a second {{else}} in the #%s of line %d", top.node.kind, top.line)
    end
    top.node.other = {}
    self.list = top.node.other
end

function Compiler:close(kind)
    local top = self.stack[#self.stack]
    if not top then
        return self:fault("{{/%s}} closes nothing", shown(kind))
    elseif top.node.kind ~= kind then
        return self:fault("{{/%s}} where the #%s of line %d must be closed first", shown(kind), top.node.kind,
            top.line)
    end
    self.list = top.list
    self.stack[#self.stack] = nil
end

function Compiler:unclosed()
    local top = self.stack[#self.stack]
    if top then
        self.line = top.line
        local kind = top.node.kind
        return self:fault("{{#%s %s}} is not closed by {{/%s}}", kind, shown(top.node.path.text), kind)
    end
end

-- -> sign ("#", "/", "!" or ""), what follows without blanks around it; the position behind the tag
-- | nil, err
function Compiler:read_tag(source, at)
    local comment = source:sub(at + 2, at + 2) == "!"
    local long = source:sub(at + 2, at + 4) == "!--"
    local first, last = source:find(long and "--}}" or "}}", at + (long and 5 or 2), true)
    if not first then
        return nil, self:fault(long and "the comment {{!-- is not closed by --}}" or "{{ is not closed by }}; two "
            .. "braces that mean themselves are written \\{{")
    elseif comment then
        return "!", "", last + 1
    elseif first - at > MAX_TAG then
        return nil, self:fault("a tag longer than %d bytes: is a }} missing?", MAX_TAG)
    end
    local sign, rest = source:sub(at + 2, first - 1):match("^([#/]?)[ \t\r\n]*(.*)$")
    local behind = #rest
    while behind > 0 and rest:find("^[ \t\r\n]", behind) do
        behind = behind - 1
    end
    return sign, rest:sub(1, behind), last + 1
end

function Compiler:tag(sign, rest)
    if sign == "#" then
        return self:open(rest:match("^([^ \t\r\n]*)[ \t\r\n]*(.*)$"))
    elseif sign == "/" then
        return self:close(rest)
    elseif sign == "" then
        return rest == "else" and self:otherwise() or rest ~= "else" and self:value(rest) or nil
    end
end

-- Backslashes before a tag: `\{{` is two braces, `\\{{` a backslash and then the tag.
-- -> the text before it, true when it is no tag
local function unescaped(text)
    if text:sub(-2) == "\\\\" then
        return text:sub(1, -2), false
    elseif text:sub(-1) == "\\" then
        return text:sub(1, -2) .. "{{", true
    end
    return text, false
end

-- Is the tag before `next_at` alone on its line, with `text` since the position `at` before it?
-- -> the text without the blanks of that line, where the next line begins | nil
local function alone(source, text, at, next_at)
    local last = #text
    while last > 0 and text:find("^[ \t]", last) do
        last = last - 1
    end
    local begins = last > 0 and text:sub(last, last) == "\n"
        or last == 0 and (at == 1 or source:sub(at - 1, at - 1) == "\n")
    if not begins then
        return nil
    end
    local _, blanks = source:find("^[ \t]*", next_at)
    local _, line_end = source:find("^\r?\n", blanks + 1)
    if not line_end and blanks < #source then
        return nil
    end
    return text:sub(1, last), (line_end or blanks) + 1
end

local function count_lines(text)
    local n, at = 0, 0
    repeat
        at = text:find("\n", at + 1, true)
        n = n + (at and 1 or 0)
    until not at
    return n
end

-- Takes the text from `at` to the tag at `first`, and the tag. -> the position behind them | nil, err
function Compiler:take(source, at, first)
    local text, literal = unescaped(source:sub(at, first - 1))
    if literal then
        self:add(text)
        return first + 2
    end
    local sign, rest, next_at = self:read_tag(source, first)
    if not sign then
        return nil, rest
    end
    if sign ~= "" or rest == "else" then
        local bare, line_end = alone(source, text, at, next_at)
        text, next_at = bare or text, line_end or next_at
    end
    if text ~= "" then
        self:add(text)
    end
    local err = self:tag(sign, rest)
    if err then
        return nil, err
    end
    self.line = self.line + count_lines(source:sub(first, next_at - 1))
    return next_at
end

-- -> list of nodes | nil, err
local function compiled(source)
    local compiler = setmetatable({ line = 1, list = {}, stack = {} }, Compiler)
    local at = 1
    while true do
        local first = source:find("{{", at, true)
        if not first then
            compiler:add(source:sub(at))
            break
        end
        compiler.line = compiler.line + count_lines(source:sub(at, first - 1))
        local err
        at, err = compiler:take(source, at, first)
        if not at then
            return nil, err
        end
    end
    local err = compiler:unclosed()
    if err then
        return nil, err
    end
    return compiler.list
end

-- Filling ---------------------------------------------------------------------------------------

-- Fields are read raw: what __index would do is code.
local function field(value, name)
    local found = rawget(value, name)
    if found == nil and #name <= 15 and name:find("^[0-9]+$") then
        found = rawget(value, math.tointeger(tonumber(name)))
    end
    return found
end

local function find_first(name, scope, values)
    if name == "this" then
        return scope and scope.entry
    elseif name == "@index" then
        return scope and scope.index
    elseif name == "@first" then
        return scope and scope.index == 1
    elseif name == "@last" then
        return scope and scope.index == scope.count
    end
    while scope do
        local found
        if type(scope.entry) == "table" then
            found = field(scope.entry, name)
        end
        if found ~= nil then
            return found
        end
        scope = scope.outer
    end
    return field(values, name)
end

-- -> the value, nil when there is none
local function look_up(path, scope, values)
    local value = find_first(path[1], scope, values)
    for i = 2, #path do
        if type(value) ~= "table" then
            return nil
        end
        value = field(value, path[i])
    end
    if rawequal(value, json.null) then
        return nil
    end
    return value
end

local function missing(path)
    return failure("missing", path.line, "there is no value for '%s'", shown(path.text))
end

local function put(state, text, line)
    state.size = state.size + #text
    if state.size > state.max then
        return failure("too_large", line, "the text grows beyond %d bytes; the option max allows more", state.max)
    end
    state.out[#state.out + 1] = text
end

local function text_of(value)
    local kind = type(value)
    if kind == "string" then
        return value
    elseif kind == "boolean" then
        return tostring(value)
    end
    return kind == "number" and json.encode(value) or nil -- not by the locale
end

local function put_value(state, node, scope)
    local value = look_up(node.path, scope, state.values)
    if value == nil then
        if state.missing then
            return put(state, state.missing, node.path.line)
        end
        return missing(node.path)
    end
    local text = text_of(value)
    if not text then
        return failure("value", node.path.line, "'%s' is %s, which has no text of its own%s", shown(node.path.text),
            type(value) == "number" and tostring(value) or "a " .. type(value),
            type(value) == "table" and ": use {{#each}}, or insert lash.json.encode of it" or "")
    end
    return put(state, text, node.path.line)
end

local fill

local function fill_each(state, node, scope)
    local list = look_up(node.path, scope, state.values)
    if list == nil and not state.missing then
        return missing(node.path)
    elseif list ~= nil and (type(list) ~= "table" or rawlen(list) == 0 and next(list) ~= nil) then
        return failure("value", node.path.line, "'%s' is %s, and #each takes a list", shown(node.path.text),
            type(list) == "table" and "a table with names" or "a " .. type(list))
    end
    local count = list and rawlen(list) or 0
    if count == 0 then
        return fill(state, node.other, scope)
    end
    local inner = { outer = scope, count = count }
    for i = 1, count do
        inner.entry, inner.index = rawget(list, i), i
        local err = fill(state, node.body, inner, node.path.line)
        if err then
            return err
        end
    end
end

local function is_true(value)
    if type(value) == "table" then
        return next(value) ~= nil
    end
    return value ~= nil and value ~= false and value ~= ""
end

-- Fills the nodes of a list; returns an error value or nil.
function fill(state, list, scope, line)
    state.steps = state.steps + 1
    for _, node in ipairs(list or {}) do
        state.steps = state.steps + 1
        local err
        if type(node) == "string" then
            err = put(state, node, line or 1)
        elseif node.kind == "value" then
            err = put_value(state, node, scope)
        elseif node.kind == "each" then
            err = fill_each(state, node, scope)
        else
            local yes = is_true(look_up(node.path, scope, state.values))
            err = fill(state, yes and node.body or node.other, scope, node.path.line)
        end
        if err then
            return err
        end
    end
    if state.steps > MAX_STEPS then
        return failure("too_large", line or 1, "more than %d steps to fill the template", MAX_STEPS)
    end
end

-- -> the options, or nil and what is wrong with them
local function checked(options)
    if options.missing ~= nil and type(options.missing) ~= "string" then
        return nil, ("missing must be a string to stand for what is missing, not a %s"):format(type(options.missing))
    end
    local max = size.bytes(options.max == nil and "16M" or options.max)
    if not max then
        return nil, ("max must be a number of bytes or a text like \"64M\", not %s"):format(tostring(options.max))
    end
    return { missing = options.missing, max = max }
end

local function filled(list, values, options)
    local state = { values = values, missing = options.missing, max = options.max, out = {}, size = 0, steps = 0 }
    local err = fill(state, list)
    if err then
        return nil, err
    end
    return table.concat(state.out)
end

--- compile(source: string) -> fill: template.fill | nil, err
-- fill(values [, options]) gives the text, or nil, err, as often as wanted. At most 64 blocks inside each other.
-- @alias template.fill  fun(values: table, options?: template.options): (string?, error?)
-- @class template.options
--   missing?  string  what stands for a name without value, "" for nothing (an error)
--   max?      integer|string  bytes of the text, or "8M" ("16M"): more is an error, never cut
function M.compile(source)
    misuse.string("lash.template.compile", "the template", source)
    local list, err = compiled(source)
    if not list then
        return nil, err
    end
    return function(values, options)
        misuse.table("lash.template", "the values", values)
        local how, wrong = checked(misuse.options("lash.template", options, OPTIONS))
        if not how then
            misuse.raise("lash.template", "%s", wrong)
        end
        return filled(list, values, how)
    end
end

--- render(source: string, values: table [, options: template.options]) -> text: string | nil, err
-- @param values  names and values, read without metamethods
function M.render(source, values, options)
    misuse.string("lash.template.render", "the template", source)
    misuse.table("lash.template.render", "the values", values)
    local how, wrong = checked(misuse.options("lash.template.render", options, OPTIONS))
    if not how then
        misuse.raise("lash.template.render", "%s", wrong)
    end
    local list, err = compiled(source)
    if not list then
        return nil, err
    end
    return filled(list, values, how)
end

return M
