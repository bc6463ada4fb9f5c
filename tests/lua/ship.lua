-- Shipping: what travels to a worker arrives as it was; what cannot is refused by name.
local t = require "t"
local engine = require "lash.core.engine"
local json = require "lash.json"
local lash = require "lash"

engine.jobs(1)

-- Runs fn(...) on a worker, everything shipped together; raises its error.
local function there(fn, ...)
    local results = table.pack(engine.offload(engine.ship("a test", fn, ...)))
    if not results[1] then
        error(results[2], 0)
    end
    return table.unpack(results, 2, results.n)
end

local function identity(...)
    return ...
end

-- Fails unless both have the same shape: equal leaves, and the same objects in the same places.
local function isomorphic(a, b, map, path)
    if type(a) ~= "table" then
        if a ~= a then
            t.ok(b ~= b, path .. ": not NaN")
            return
        end
        local bits = math.type(a) ~= "float" or ("d"):pack(a) == ("d"):pack(b) -- tells -0.0 from 0.0
        t.ok(a == b and math.type(a) == math.type(b) and bits,
            ("%s: %s became %s"):format(path, tostring(a), tostring(b)))
        return
    end
    t.equal(type(b), "table", path)
    if map[a] then
        t.ok(map[a] == b, path .. ": another object than before")
        return
    end
    map[a] = b
    local count = 0
    for key, value in next, a do
        count = count + 1
        isomorphic(value, rawget(b, type(key) == "table" and map[key] or key), map, path .. "." .. tostring(key))
    end
    for _ in next, b do
        count = count - 1
    end
    t.equal(count, 0, path .. ": number of fields")
    local meta, other = getmetatable(a), getmetatable(b)
    t.equal(type(other), type(meta), path .. ": metatable")
    if meta then
        isomorphic(meta, other, map, path .. ".metatable")
    end
end

local LEAVES = {
    true, false, 0, 1, -1, 127, 128, -128, 255, 2 ^ 53, 0.1, -0.0, 0.0, 1.0, 1e308, 5e-324, math.huge, -math.huge, 0 / 0,
    math.maxinteger, math.mininteger, 1 << 62, "", "x", "\0", "a\0b", "\xff\xfe", ("long "):rep(1000), json.null,
}

local function random_value(depth, pool)
    local dice = math.random(12)
    if depth > 6 or dice <= 5 then
        return LEAVES[math.random(#LEAVES)]
    elseif dice <= 7 and #pool > 0 then
        return pool[math.random(#pool)] -- a shared part, or a cycle
    end
    local value = {}
    pool[#pool + 1] = value
    for i = 1, math.random(0, 5) do
        value[i] = random_value(depth + 1, pool)
    end
    for _ = 1, math.random(0, 4) do
        local key = LEAVES[math.random(#LEAVES)]
        if key == key and key ~= json.null then
            value[key] = random_value(depth + 1, pool)
        end
    end
    if math.random(5) == 1 then
        setmetatable(value, random_value(5, {}) == nil and nil or { meta = random_value(depth + 1, pool) })
    end
    return value
end

t.case("random nested values with cycles, shared parts and metatables", function()
    local code = engine.ship("identity", identity)
    for seed = 1, t.times(300, 80) do
        math.randomseed(seed)
        local value, second = random_value(0, {}), random_value(0, {})
        local ok, a, b = engine.offload(code, value, second)
        t.ok(ok, a)
        local map = {}
        isomorphic(value, a, map, "first")
        isomorphic(second, b, map, "second")
    end
end)

t.case("random values as captured locals", function()
    for seed = 1, 100 do
        math.randomseed(seed)
        local value = random_value(0, {})
        isomorphic(value, there(function() return value end), {}, "captured")
    end
end)

t.case("numbers keep their kind to the last bit", function()
    math.randomseed(7)
    local list = {}
    for i = 1, 2000 do
        local bits = math.random(0)
        list[i] = i % 2 == 0 and bits or ("d"):unpack(("j"):pack(bits))
    end
    local back = there(identity, list)
    for i, value in ipairs(list) do
        if value == value then
            t.ok(back[i] == value and math.type(back[i]) == math.type(value), i)
        else
            t.ok(back[i] ~= back[i], i)
        end
    end
end)

t.case("functions: recursion, mutual recursion, closures in tables", function()
    local function fact(n) return n <= 1 and 1 or n * fact(n - 1) end
    local is_odd
    local function is_even(n) if n == 0 then return true end return is_odd(n - 1) end
    function is_odd(n) if n == 0 then return false end return is_even(n - 1) end
    local ops = { add = function(a, b) return a + b end, list = { function() return "nested" end } }
    ops.self = ops
    t.equal({ there(function() return fact(10), is_even(10), ops.self.self.add(1, 2), ops.list[1]() end) },
        { 3628800, true, 3, "nested" })
end)

t.case("a variable that two closures share is one variable there as well", function()
    local n = 10
    local function up() n = n + 1 end
    local function get() return n end
    local holder = { get = get }
    t.equal({ there(function()
        up()
        up()
        n = n * 2
        return get(), holder.get(), n
    end) }, { 24, 24, 24 })
    t.equal(n, 10)
end)

t.case("variables that only look alike stay apart", function()
    local function counter() local n = 0 return function() n = n + 1 return n end end
    local a, b = counter(), counter()
    t.equal({ there(function() a() a() return a(), b() end) }, { 3, 1 })
end)

t.case("the first captured local is not mistaken for the globals", function()
    local first = 5
    t.equal(there(function() return first end), 5)
    local env = { y = 1 }
    local fn = load("return y, x", "=chunk", "t", env)
    env.x = "own"
    t.equal({ there(fn) }, { 1, "own" })
    local function uses_globals() return type(print), first end
    t.equal({ there(uses_globals) }, { "function", 5 })
    t.equal({ there(function() local _ENV = { z = 3 } return z end) }, { 3 })
    local _ENV = setmetatable({ there = there, t = t, inner = 9 }, { __index = _ENV })
    t.equal({ there(function() return inner, tostring(1) end) }, { 9, "1" })
end)

t.case("_G and _ENV are those of the worker", function()
    local G = _G
    t.equal({ there(function() return G == _G, G == _ENV, rawget(G, "arg") end) }, { true, true })
end)

t.case("modules and what stands in them travel by name", function()
    local insert, fmt, js, encode, str = table.insert, string.format, json, json.encode, string
    t.equal({ there(function()
        local list = {}
        insert(list, 1)
        return fmt("%d", #list), js == require("lash.json"), encode == require("lash.json").encode, str == string,
            insert == table.insert
    end) }, { "1", true, true, true, true })
    local path = t.file("local n = 0 return { up = function() n = n + 1 return n end, deep = { fn = function() return 'deep' end } }",
        ".lua")
    package.path = path:match("^(.*)/") .. "/?.lua;" .. package.path
    local name = path:match("([^/]+)%.lua$")
    local module = require(name)
    local up, deep = module.up, module.deep.fn
    local code = engine.ship("module", function() return up(), module.up(), deep() end)
    t.equal({ engine.offload(code) }, { true, 1, 2, "deep" })
    t.equal({ engine.offload(code) }, { true, 3, 4, "deep" }) -- one module on the worker, not a copy of its locals
    t.equal(module.up(), 1)
end)

t.case("what a script adds to a standard library travels when it is captured", function()
    function string.shout(s) return s:upper() .. "!" end
    table.extra = { 1, 2 }
    local shout, extra = string.shout, table.extra
    t.equal({ there(function() return shout("x"), #extra end) }, { "X!", 2 })
    string.shout, table.extra = nil, nil
end)

t.case("objects with classes", function()
    local Class = {}
    Class.__index = Class
    function Class.new(n) return setmetatable({ n = n }, Class) end
    function Class:get() return self.n end
    Class.__add = function(a, b) return Class.new(a.n + b.n) end
    Class.__tostring = function(self) return "object " .. self.n end
    local a, b = Class.new(1), Class.new(2)
    t.equal({ there(function()
        local c = a + b
        return c:get(), tostring(c), getmetatable(a) == getmetatable(b), getmetatable(c) == Class
    end) }, { 3, "object 3", true, true })
end)

t.case("null, empty arrays and weak tables", function()
    local null, array = json.null, json.array {}
    local weak = setmetatable({ a = 1 }, { __mode = "v" })
    t.equal({ there(function()
        local j = require "lash.json"
        return null == j.null, j.encode(array), j.encode({ x = null }), getmetatable(weak).__mode
    end) }, { true, "[]", '{"x":null}', "v" })
end)

t.case("many upvalues, long strings, big tables", function()
    local parts, names = {}, {}
    for i = 1, 120 do
        names[i] = "v" .. i
        parts[i] = ("local v%d = %d"):format(i, i)
    end
    local fn = load(("%s return function() return %s end"):format(table.concat(parts, "\n"), table.concat(names, "+")))()
    t.equal(there(fn), 7260)
    local text = ("x"):rep(5000000)
    t.equal(there(function() return #text end), 5000000)
    local big = {}
    for i = 1, 100000 do
        big[i] = i
    end
    t.equal({ there(function() return #big, big[100000] end) }, { 100000, 100000 })
end)

t.case("tracebacks and errors name the lines of the script", function()
    local line = debug.getinfo(1, "l").currentline + 1
    local function bad() error("here") end
    local ok, err = pcall(there, function() bad() end)
    t.equal(ok, false)
    t.has(err, "ship.lua:" .. line .. ": here")
end)

-- ---- refusals, at declaration ----

local function refused(fn, ...)
    local err = t.raises(nil, lash.tool, { name = "carrier", sync = fn })
    for _, part in ipairs { "lash.tool 'carrier'", "cannot travel to a worker", ... } do
        t.has(err, part)
    end
    return err
end

t.case("a file handle is refused with the path to it and the remedy", function()
    local file <close> = assert(io.open("/dev/null"))
    refused(function() return file:read() end, "the captured local 'file' is a file handle", "lash.fs")
    local config = { log = { handle = file } }
    refused(function() return config end, "the captured local 'config', field 'log', field 'handle' is a file handle")
    local function helper() return file end
    refused(function() return helper() end, "the captured local 'helper', the captured local 'file' is a file handle")
    local list = { 1, 2, file }
    refused(function() return list end, "the captured local 'list', an element of the table is a file handle")
    local keyed = { [file] = 1 }
    refused(function() return keyed end, "the captured local 'keyed', the key is a file handle")
    local object = setmetatable({}, { __index = { f = file } })
    refused(function() return object end, "the captured local 'object', metatable, field '__index', field 'f' is a file handle")
end)

t.case("coroutines, C functions and userdata are refused with the path to them", function()
    local co = coroutine.create(print)
    refused(function() return co end, "the captured local 'co' is a coroutine", "create it inside the function")
    local wrapped = coroutine.wrap(print)
    refused(function() return wrapped() end, "the captured local 'wrapped' is a C function", "require the module")
    local lines = ("x"):gmatch(".")
    refused(function() return lines() end, "the captured local 'lines' is a C function")
    local task = lash.spawn(print)
    refused(function() return task end, "the captured local 'task' is userdata of type 'lash.task'",
        "make the object inside the function")
    task:cancel()
    task:wait()
end)

t.case("prompts are refused as tools are", function()
    local file <close> = assert(io.open("/dev/null"))
    local err = t.raises(nil, lash.prompt, { name = "site", sync = function() return file:read() end })
    t.has(err, "lash.prompt 'site'")
    t.has(err, "the captured local 'file' is a file handle")
    t.ok(lash.prompt { name = "site", async = function() return file:read() end })
    t.ok(lash.tool { name = "async", async = function() return file end })
end)

t.case("too deep nesting is refused, not crashed on", function()
    local deep = {}
    for _ = 1, 100000 do
        deep = { deep }
    end
    refused(function() return deep end, "nested too deeply")
    local function chain(n) local inner = n > 0 and chain(n - 1) or nil return function() return inner end end
    refused(chain(500), "nested too deeply")
    local fine = {}
    for _ = 1, 150 do
        fine = { fine }
    end
    t.ok(lash.tool { name = "fine", sync = function() return fine end })
end)

t.case("standard files travel by name", function()
    local err = io.stderr
    t.equal(there(function() return err == io.stderr end), true)
end)

t.case("the snapshot may contain what only main has, by its text: a module that is not there says so", function()
    package.loaded["only.on.main"] = { fn = function() return 1 end, value = {} }
    local module = require "only.on.main"
    local ok, err = pcall(there, function() return module.fn() end)
    package.loaded["only.on.main"] = nil
    t.equal(ok, false)
    t.has(tostring(err), "only.on.main")
end)

return t.main(...)
