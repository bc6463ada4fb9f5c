-- lash.shared: values kept exactly, atomic from all workers, ends of life, the limit of bytes.
local t = require "t"
local lash = require "lash"
local sides = require "support.sides"

local offloaded, check, both, fails = sides.offloaded, sides.check, sides.both, t.fails

both("shared: values come back as they went in", function()
    local s = lash.shared("kinds")
    for _, value in ipairs { 1, 1.0, 0, -0.0, math.maxinteger, math.mininteger, math.huge, 2 ^ 53, 0.1, true, false, "",
        "text", "\0\xff\0", ("x"):rep(255), ("x"):rep(256), ("x"):rep(257), ("y"):rep(100000) } do
        t.equal(s:set("key", value), true)
        local got = s:get("key")
        t.equal(got, value)
        t.equal(math.type(got), math.type(value))
        t.ok(value ~= 0 or 1 / got == 1 / value, "the sign of zero is lost")
    end
    s:set("key", 0 / 0)
    t.ok(s:get("key") ~= s:get("key"), "no NaN")
    t.equal({ s:swap("key", 0.0, 1), s:swap("key", 0 / 0, 0.0), s:swap("key", -0.0, 1), s:swap("key", 0.0, 1) },
        { false, true, false, true })
    for _, key in ipairs { "", "\0", "a\0b", ("k"):rep(1000) } do
        s:set(key, key)
        t.equal(s:get(key), key)
    end
    t.equal(s:size(), 5)
    t.equal(s:get("absent"), nil)
    t.equal(lash.shared("kinds"):get("a\0b"), "a\0b")
    t.equal(lash.shared("others"):get("a\0b"), nil)
    s:clear()
    t.equal({ s:size(), lash.shared.used() }, { 0, 0 })
end)

both("shared: add, delete, swap, keys", function()
    local s = lash.shared("ops")
    t.equal({ s:add("a", 1), s:add("a", 2), s:get("a") }, { true, false, 1 })
    t.equal({ s:delete("a"), s:delete("a"), s:get("a") }, { true, false, nil })
    t.equal({ s:swap("a", nil, 1), s:swap("a", nil, 2), s:swap("a", 1.0, 2), s:swap("a", "1", 2) }, { true, false, false, false })
    t.equal({ s:swap("a", 1, "two"), s:swap("a", "tw", 3), s:swap("a", "two", nil), s:get("a") }, { true, false, true, nil })
    t.equal({ s:swap("a", nil, nil), s:swap("a", "x", nil) }, { true, false })
    for _, key in ipairs { "b", "a", "", "ab", "a\0", "\xff", "B" } do
        s:set(key, true)
    end
    t.equal(s:keys(), { "", "B", "a", "a\0", "ab", "b", "\xff" })
    s:clear()
    t.equal(s:keys(), {})
end)

both("shared: incr", function()
    local s = lash.shared("counters")
    t.equal({ s:incr("n"), s:incr("n"), s:incr("n", 5), s:incr("n", -10) }, { 1, 2, 7, -3 })
    t.equal({ s:incr("n", 0.5), s:incr("n", 1) }, { -2.5, -1.5 })
    t.equal({ s:incr("from", 1, { initial = 10 }), s:incr("from", 1, { initial = 10 }) }, { 11, 12 })
    t.equal(math.type(s:incr("float", 1, { initial = 0.0 })), "float")
    s:set("most", math.maxinteger)
    fails("ERANGE", "64-bit", s:incr("most"))
    t.equal(s:get("most"), math.maxinteger)
    t.equal(s:incr("most", -1), math.maxinteger - 1)
    fails("ERANGE", "64-bit", s:incr("new", 1, { initial = math.maxinteger }))
    t.equal(s:get("new"), nil)
    s:set("least", math.mininteger)
    fails("ERANGE", "64-bit", s:incr("least", -1))
    for _, value in ipairs { "5", true } do
        s:set("other", value)
        fails("EINVAL", "no number", s:incr("other"))
        t.equal(s:get("other"), value)
    end
    s:clear()
end)

t.case("D4 shared: sixteen workers that count to a thousand at once count to 16 000", function()
    local hits = lash.shared("hits")
    local tasks = {}
    for i = 1, 16 do
        tasks[i] = offloaded(function(key)
            for _ = 1, 1000 do
                assert(hits:incr("all"))
                assert(hits:incr(key))
                repeat -- the same by hand
                    local old = hits:get("swapped")
                until hits:swap("swapped", old, (old or 0) + 1)
            end
        end, "worker " .. i)
    end
    for i = 1, 1000 do
        hits:incr("main")
    end
    for _, task in ipairs(tasks) do
        check(task)
    end
    t.equal({ hits:get("all"), hits:get("swapped"), hits:get("main"), hits:size() }, { 16000, 16000, 1000, 19 })
    for i = 1, 16 do
        t.equal(hits:get("worker " .. i), 1000)
    end
    hits:clear()
    t.equal(lash.shared.used(), 0)
end)

t.case("shared: exactly one of many adds", function()
    local s = lash.shared("leader")
    local tasks = {}
    for i = 1, 8 do
        tasks[i] = offloaded(function(me) return s:add("who", me) end, i)
    end
    local winners = 0
    for i, task in ipairs(tasks) do
        if check(task) then
            winners = winners + 1
            t.equal(s:get("who"), i)
        end
    end
    t.equal(winners, 1)
    s:clear()
end)

both("shared: entries end", function()
    local s = lash.shared("ends")
    local short, long = { ttl = 0.03 }, { ttl = 1000 }
    local began = lash.hrtime()
    s:set("a", 1, short)
    s:set("b", 1, long)
    s:set("c", 1, short)
    s:set("c", 2) -- for ever now
    s:set("d", 1, long)
    s:set("d", 2, short)
    s:incr("e", 1, short)
    s:incr("e", 1, long) -- keeps its time
    s:incr("f", 1)
    s:incr("f", 1, short) -- no time was given when it was made
    s:add("g", 1, short)
    s:swap("h", nil, 1, short)
    local all = s:size()
    if lash.hrtime() - began < 30000000 then
        t.equal(all, 8)
    end
    lash.sleep(0.031)
    t.equal(s:keys(), { "b", "c", "f" })
    for _, key in ipairs { "a", "d", "e", "g", "h" } do
        t.equal(s:get(key), nil, key)
        t.equal(s:delete(key), false)
    end
    t.equal({ s:add("a", 5), s:incr("e", 7), s:swap("d", nil, 1) }, { true, 7, true })
    t.equal(s:size(), 6)
    s:clear()
    for i = 1, 1000 do
        s:set("k" .. i, i, { ttl = i % 2 == 0 and 1e-6 or 1000 })
    end
    lash.sleep(0.001)
    t.equal(s:size(), 500)
    for i = 1, 1000, 2 do
        t.equal(s:get("k" .. i), i)
    end
    s:clear()
    t.equal(lash.shared.used(), 0)
end)

t.case("shared: what finds no room is refused, nothing is thrown away", function()
    t.equal(lash.shared.limit(), 64 << 20)
    t.equal(lash.shared.limit("64K"), 65536)
    local s, other = lash.shared("full"), lash.shared("other")
    local stored = 0
    local value, err
    repeat
        value, err = s:set("key" .. stored, ("v"):rep(1000))
        stored = stored + (value and 1 or 0)
    until not value
    fails("ENOSPC", "no room", value, err)
    t.has(err.message, "'full'")
    t.ok(stored > 50 and stored < 66, "stored " .. stored)
    t.equal(s:size(), stored)
    t.ok(lash.shared.used() <= 65536)
    fails("ENOSPC", "no room", other:set("key", ("v"):rep(1000)))
    fails("ENOSPC", "no room", s:set("key0", ("v"):rep(70000)))
    t.equal(s:get("key0"), ("v"):rep(1000))
    fails("ENOSPC", "no room", s:set(("k"):rep(70000), 1))
    t.equal(s:set("key0", "shorter"), true)
    t.equal(other:add("key", ("v"):rep(500)), true)
    -- what has ended in another table makes room
    s:clear()
    repeat
        value = other:set("end" .. other:size(), ("v"):rep(1000), { ttl = 1000 })
    until not value
    other:clear()
    for i = 1, 60 do
        assert(other:set("end" .. i, ("v"):rep(1000), { ttl = 0.001 }))
    end
    lash.sleep(0.002)
    t.equal(s:set("key", ("v"):rep(10000)), true)
    lash.shared.limit(100) -- less than is there: it stays
    t.equal(#s:get("key"), 10000)
    fails("ENOSPC", "no room", s:set("more", 1))
    t.equal(s:set("key", "x"), true)
    s:clear()
    other:clear()
    t.equal(lash.shared.used(), 0)
end)

t.case("shared: captured and passed on it is the same table", function()
    local s = lash.shared("captured")
    s:set("from", "main")
    t.equal(check(offloaded(function(passed)
        s:set("back", s:get("from") .. " by capture")
        return passed:get("from")
    end, s)), "main")
    t.equal(s:get("back"), "main by capture")
    t.equal(check(offloaded(function() return lash.shared("captured"):get("from") end)), "main")
    t.equal(tostring(s), "lash.shared 'captured'")
    s:clear()
end)

t.case("misuse raises at the line of the caller and names the remedy", function()
    local s = lash.shared("misuse")
    local function at_caller(part, fn)
        t.has(t.raises(part, fn), "tests/lua/shared.lua:", part)
    end
    at_caller("a name is a text", function() lash.shared("") end)
    at_caller("a name is a text", function() lash.shared("a\0b") end)
    at_caller("not a nil", function() lash.shared() end)
    at_caller("a key is a string, not a number: use tostring(key)", function() s:get(5) end)
    at_caller("a key is a string, not a nil", function() s:delete() end)
    at_caller("a table cannot be stored, only strings, numbers and booleans: use lash.json.encode", function() s:set("k", {}) end)
    at_caller("a nil cannot be stored, only strings, numbers and booleans: use delete", function() s:set("k", nil) end)
    at_caller("a userdata cannot be stored", function() s:add("k", lash.null) end)
    at_caller("unknown option 'tll' (did you mean 'ttl'?)", function() s:set("k", 1, { tll = 1 }) end)
    at_caller("unknown option 'initial'", function() s:set("k", 1, { initial = 1 }) end)
    at_caller("its options are a table", function() s:set("k", 1, 60) end)
    for _, ttl in ipairs { 0, -1, 0 / 0, math.huge, "x" } do
        at_caller("ttl is a number of seconds", function() s:incr("k", 1, { ttl = ttl }) end)
    end
    at_caller("incr adds a number to a number, not a string to a number", function() s:incr("k", "1") end)
    at_caller("not a number to a string", function() s:incr("k", 1, { initial = "1" }) end)
    at_caller("a table cannot be stored", function() s:swap("k", {}, 1) end)
    at_caller("a number of bytes", function() lash.shared.limit("much") end)
    t.equal(s:size(), 0)
end)

t.case("shared: long use leaves nothing behind", function()
    local s = lash.shared("churn")
    for round = 1, 20 do
        for i = 1, 500 do
            s:set("key" .. i, ("v"):rep(i), { ttl = i % 7 == 0 and 1e-6 or nil })
            if i % 3 == 0 then
                s:delete("key" .. i - round % 3)
            end
        end
    end
    s:clear()
    t.equal({ lash.shared.used(), s:size() }, { 0, 0 })
end)

return t.main(...)
