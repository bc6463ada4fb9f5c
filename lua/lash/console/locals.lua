--- The locals of a session: what an entry declares with `local` at its top level lives on, and every closure
-- keeps seeing the same variable, in this entry and in later ones.
--
-- An entry is compiled inside a function whose upvalues are the locals so far, joined to the variables
-- themselves; at its end it hands over a closure of its own new locals.
local tokens = require "lash.console.tokens"

local M = {}

local KEEP = "__keep"  -- the name under which an entry gets the function that takes its locals
local UPVALUES = 200   -- that one function may have

local Session = {}
Session.__index = Session

--- new() -> a session without locals
function M.new()
    return setmetatable({ variables = {}, order = {} }, Session)
end

--- The names of the locals, in the order in which they came.
function Session:names()
    return self.order
end

--- get(name) -> the value of a local, whether there is one
function Session:get(name)
    local variable = self.variables[name]
    if not variable then
        return nil, false
    end
    local _, value = debug.getupvalue(variable.fn, variable.index)
    return value, true
end

local function remember(session, name, fn, index, is_constant)
    if not session.variables[name] then
        session.order[#session.order + 1] = name
    end
    session.variables[name] = { fn = fn, index = index, constant = is_constant }
end

-- A variable of its own for a constant, which is no upvalue of anything.
local function constant(value)
    return function()
        return value
    end, 1
end

local function keeper(session, names, constants)
    return function(closure)
        local at = {}
        for i = 1, UPVALUES do
            local name = debug.getupvalue(closure, i)
            if not name then
                break
            end
            at[name] = i
        end
        local values = table.pack(closure())
        for i, name in ipairs(names) do
            if at[name] then
                remember(session, name, closure, at[name], constants[name])
            else
                local fn, index = constant(values[i])
                remember(session, name, fn, index, true)
            end
        end
    end
end

-- The text with the hand-over of its new locals at its end, in front of a `return`.
local function with_keeper(text, outline)
    if #outline.locals == 0 or #outline.locals > UPVALUES then
        return text
    end
    local call = (" %s(function() return %s end) "):format(KEEP, table.concat(outline.locals, ", "))
    if outline.last then
        return text:sub(1, outline.last - 1) .. call .. text:sub(outline.last)
    end
    return text .. "\n" .. call
end

local function visible(session, outline)
    local names = {}
    for _, name in ipairs(session.order) do
        if outline.used[name] then
            names[#names + 1] = name
        end
    end
    return names, #names > UPVALUES
end

-- The variables around an entry; constants stay constants.
local function head_of(session, names)
    local list = {}
    for i, name in ipairs(names) do
        list[i] = name .. (session.variables[name].constant and " <const>" or "")
    end
    local open = ("return function(%s, ...) "):format(KEEP)
    return names[1] and ("local %s; "):format(table.concat(list, ", ")) .. open or open
end

local function join(session, inner)
    for i = 1, 255 do
        local name = debug.getupvalue(inner, i)
        if not name then
            return
        end
        local variable = session.variables[name]
        if variable then
            debug.upvaluejoin(inner, i, variable.fn, variable.index)
        end
    end
end

--- compile(text, chunkname) -> function to call without arguments | nil, message
-- `text` is Lua that compiles by itself.
function Session:compile(text, chunkname)
    local outline = tokens.outline(text)
    local names, too_many = visible(self, outline)
    if too_many then
        return nil, ("an entry can use at most %d of the locals of the entries before it"):format(UPVALUES)
    end
    local head = head_of(self, names)
    local outer, err = load(head .. with_keeper(text, outline) .. "\nend", chunkname, "t")
    if not outer and err:find("jumps into the scope", 1, true) then -- of a local, to a label at the very end
        outer, err = load(head .. text .. "\nend", chunkname, "t")
    end
    if not outer then
        return nil, err
    end
    local inner = outer()
    join(self, inner)
    local keep = keeper(self, outline.locals, outline.constant)
    return function()
        return inner(keep)
    end
end

return M
