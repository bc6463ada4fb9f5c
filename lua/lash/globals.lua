--- Which globals a function uses, from the code that string.dump gives of it.
--
-- The format is that of Lua 5.4 (lundump.c, the same in all of 5.4): a global x is the field "x" of the
-- upvalue _ENV, so GETTABUP and SETTABUP on it name the globals. Where a function has more than 255
-- constants the compiler takes three instructions instead: GETUPVAL, LOADK, GETTABLE or SETTABLE.
local M = {}

-- Opcodes of lopcodes.h.
local MOVE, LOADK, GETUPVAL, GETTABUP, GETTABLE = 0, 3, 9, 11, 12
local SETTABUP, SETTABLE, SETI, SETFIELD = 15, 16, 17, 18

local ABSOLUTE = 0x80 -- a line that stands in the list of absolute ones

local Reader = {}
Reader.__index = Reader

function Reader:byte()
    local b = self.text:byte(self.at)
    self.at = self.at + 1
    return b
end

function Reader:size()
    local n = 0
    while true do
        local b = self:byte()
        n = n << 7 | b & 0x7f
        if b & 0x80 ~= 0 then
            return n
        end
    end
end

function Reader:string()
    local len = self:size()
    if len == 0 then
        return nil
    end
    local s = self.text:sub(self.at, self.at + len - 2)
    self.at = self.at + len - 1
    return s
end

function Reader:skip(n)
    self.at = self.at + n
end

local function read_constants(r)
    local constants = {}
    for i = 0, r:size() - 1 do
        local kind = r:byte()
        if kind == 0x04 or kind == 0x14 then -- short and long strings
            constants[i] = r:string()
        elseif kind == 0x03 or kind == 0x13 then -- integers and floats
            r:skip(8)
        elseif kind ~= 0x00 and kind ~= 0x01 and kind ~= 0x11 then -- nil, false, true
            error("unknown constant in a dumped function")
        end
    end
    return constants
end

local function read_lines(r, first, count)
    local deltas = {}
    for i = 0, r:size() - 1 do
        deltas[i] = r:byte()
    end
    local absolute = {}
    for _ = 1, r:size() do
        local pc = r:size()
        absolute[pc] = r:size()
    end
    local lines, line = {}, first
    for pc = 0, count - 1 do
        local delta = deltas[pc]
        if delta == nil then
            break -- stripped
        elseif delta == ABSOLUTE then
            line = absolute[pc]
        else
            line = line + (delta < 128 and delta or delta - 256)
        end
        lines[pc] = line
    end
    return lines
end

local function read_function(r, source)
    local f = { source = r:string() or source }
    f.first = r:size()
    r:size()
    r:skip(3)
    local count = r:size()
    f.code, f.count = r.at, count
    r:skip(4 * count)
    f.constants = read_constants(r)
    r:skip(3 * r:size()) -- upvalues: where they come from; their names are in the debug part
    f.children = {}
    for i = 1, r:size() do
        f.children[i] = read_function(r, f.source)
    end
    f.lines = read_lines(r, f.first, count)
    for _ = 1, r:size() do -- local variables
        r:string()
        r:size()
        r:size()
    end
    f.upvalues = {}
    for i = 0, r:size() - 1 do
        f.upvalues[i] = r:string()
    end
    return f
end

-- The short form, one instruction.
local function direct_use(f, op, a, b, c)
    if op == GETTABUP and f.upvalues[b] == "_ENV" then
        return f.constants[c], "get"
    elseif op == SETTABUP and f.upvalues[a] == "_ENV" then
        return f.constants[b], "set"
    end
    return nil
end

-- The long form: `env` and `names` are what the registers hold.
local function indirect_use(op, a, b, c, env, names)
    if op == GETTABLE and env[b] then
        return names[c], "get"
    elseif op == SETTABLE and env[a] then
        return names[b], "set"
    end
    return nil
end

local function scan(f, text, uses)
    local env, names = {}, {}
    for pc = 0, f.count - 1 do
        local code = string.unpack("<I4", text, f.code + 4 * pc)
        local op, a, b, c = code & 0x7f, code >> 7 & 0xff, code >> 16 & 0xff, code >> 24 & 0xff
        local name, kind = direct_use(f, op, a, b, c)
        if not name then
            name, kind = indirect_use(op, a, b, c, env, names)
        end
        if name then
            uses[#uses + 1] = { name = name, kind = kind, source = f.source, line = f.lines[pc] or f.first }
        end
        if op == GETUPVAL and f.upvalues[b] == "_ENV" then
            env[a], names[a] = true, nil
        elseif op == LOADK then
            env[a], names[a] = nil, f.constants[code >> 15]
        elseif op == MOVE then
            env[a], names[a] = env[b], names[b]
        elseif op ~= SETTABUP and op ~= SETTABLE and op ~= SETI and op ~= SETFIELD then
            env[a], names[a] = nil, nil -- the register holds something else now
        end
    end
    for _, child in ipairs(f.children) do
        scan(child, text, uses)
    end
end

--- The globals that a Lua function, and the functions inside it, read and write.
-- @return list of { name, kind = "get" | "set", source = chunk name, line }, in the order of the code;
--   nil when the code is of a Lua that this does not know
function M.of(fn)
    local text = string.dump(fn)
    if text:sub(1, 6) ~= "\27Lua\x54\0" then
        return nil
    end
    local r = setmetatable({ text = text, at = 1 }, Reader)
    r:skip(4 + 1 + 1 + 6 + 3 + 8 + 8 + 1) -- signature, version, format, check bytes, sizes, numbers, upvalues
    local ok, main = pcall(read_function, r, "=?")
    if not ok then
        return nil
    end
    local uses = {}
    scan(main, text, uses)
    return uses
end

--- Calls visit(fn) for a function and all Lua functions that it reaches through captured values: what
-- travels to a worker with it.
function M.reachable(fn, visit)
    local seen = {}
    local function walk(value, depth)
        local kind = type(value)
        if (kind ~= "function" and kind ~= "table") or seen[value] or depth > 50 then
            return
        end
        seen[value] = true
        if kind == "table" then
            for key, field in next, value do
                walk(key, depth + 1)
                walk(field, depth + 1)
            end
            walk(debug.getmetatable(value), depth + 1)
        elseif debug.getinfo(value, "S").what ~= "C" then
            visit(value)
            for i = 1, 255 do
                local name, captured = debug.getupvalue(value, i)
                if not name then
                    break
                elseif name ~= "_ENV" then
                    walk(captured, depth + 1)
                end
            end
        end
    end
    for name, module in next, package.loaded do -- modules travel by name
        seen[module] = true
        if type(module) == "table" and name ~= "_G" then
            for _, field in next, module do
                if type(field) == "function" or type(field) == "table" then
                    seen[field] = true
                end
            end
        end
    end
    seen[_G] = true
    seen[fn] = nil
    walk(fn, 1)
end

return M
