-- lash.uuid: forms, order, and workers. The bits are looked at in tests/unit/test_uuid.c.
local t = require "t"
local fake = require "fake"
local lash = require "lash"

local FORM = "^" .. ("x"):rep(8) .. "%-xxxx%-Vxxx%-[89ab]xxx%-" .. ("x"):rep(12) .. "$"

local function has_form(text, version)
    t.ok(text:find((FORM:gsub("[xV]", { x = "[0-9a-f]", V = version }))), text)
end

t.case("uuid version 4 is random", function()
    local seen = {}
    for i = 1, 5000 do
        local id = i % 2 == 0 and lash.uuid() or lash.uuid.v4()
        has_form(id, "4")
        t.ok(not seen[id], "twice: " .. id)
        seen[id] = true
    end
end)

t.case("uuid version 7 tells the time and goes up", function()
    local before = math.floor(lash.now() * 1000) - 1
    local last = lash.uuid.v7()
    has_form(last, "7")
    local ms = tonumber((last:sub(1, 13):gsub("-", "")), 16)
    t.ok(ms >= before and ms <= lash.now() * 1000 + 1, ms)
    for _ = 1, 20000 do
        local id = lash.uuid.v7()
        t.ok(id > last, id .. " after " .. last)
        last = id
    end
end)

t.case("uuid version 7 goes up across workers", function()
    local first = lash.uuid.v7()
    local make = lash.tool {
        name = "make",
        sync = function()
            local list = {}
            for i = 1, 500 do
                list[i] = lash.uuid.v7()
            end
            return table.concat(list, " ")
        end,
    }
    local seen, n = {}, 0
    for _, outcome in ipairs(fake.batch({ make }, { { "make" }, { "make" }, { "make" } })) do
        t.equal(outcome.status, "ok", outcome.output)
        local last = first
        for id in outcome.output:gmatch("%S+") do
            has_form(id, "7")
            t.ok(id > last and not seen[id], id)
            seen[id], last, n = true, id, n + 1
        end
    end
    t.equal(n, 1500)
    for id in pairs(seen) do
        t.ok(lash.uuid.v7() > id)
    end
end)

t.case("uuid called with something is misuse", function()
    local err = t.raises("lash.uuid.v7()", function() lash.uuid(7) end)
    t.has(err, "uuid.lua:")
end)

return t.main(...)
