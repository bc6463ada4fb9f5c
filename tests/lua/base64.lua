-- lash.base64: the face of what tests/unit/test_base64.c tries.
local t = require "t"
local fake = require "fake"
local lash = require "lash"

local base64 = lash.base64

local function refused(text, position, words, options)
    local bytes, err = base64.decode(text, options)
    t.equal(bytes, nil, text)
    t.equal({ err.code, err.position }, { "base64", position }, text)
    t.has(tostring(err), words)
end

t.case("base64 the vectors of RFC 4648", function()
    for bytes, text in pairs { [""] = "", f = "Zg==", fo = "Zm8=", foo = "Zm9v", foob = "Zm9vYg==", fooba = "Zm9vYmE=",
        foobar = "Zm9vYmFy" } do
        t.equal(base64.encode(bytes), text)
        t.equal(base64.decode(text), bytes)
        t.equal(base64.encode(bytes, { pad = false }), (text:gsub("=", "")))
    end
    t.equal(base64.encode("\xFB\xFF\xFE\xFF"), "+//+/w==")
    t.equal(base64.encode("\xFB\xFF\xFE\xFF", { url = true }), "-__-_w")
    t.equal(base64.encode("\xFB\xFF\xFE\xFF", { url = true, pad = true }), "-__-_w==")
    t.equal(base64.decode("-__-_w", { url = true }), "\xFB\xFF\xFE\xFF")
    t.equal(base64.decode("-__-_w==", { url = true }), "\xFB\xFF\xFE\xFF")
end)

t.case("base64 what is wrong is told with its place", function()
    refused("Zm9v YmFy", 5, [[" " does not belong there]])
    refused("Zm8", 4, "ends too early")
    refused("Zm8=\n", 4, [["=" does not belong]])
    refused("Zm8=\0", 4, [["=" does not belong]])
    refused("-__-", 1, [["-" does not]])
    refused("+//+", 1, "for URLs", { url = true })
    refused("Zh==", 2, [["h" does not]])
end)

t.case("base64 random bytes come back", function()
    for i = 0, 300 do
        local bytes = {}
        for k = 1, i do
            bytes[k] = string.char(math.random(0, 255))
        end
        bytes = table.concat(bytes)
        for _, options in ipairs { {}, { url = true } } do
            t.equal(base64.decode(base64.encode(bytes, options), options), bytes)
        end
    end
end)

t.case("base64 many megabytes take a moment", function()
    local bytes = ("0123456789abcdef"):rep(t.times(100, 25) * 1024 * 1024 // 16)
    local started = os.clock()
    local text = base64.encode(bytes)
    t.ok(base64.decode(text) == bytes)
    t.ok(os.clock() - started < 3 * t.slower)
end)

t.case("base64 misuse names the thing", function()
    for _, fn in ipairs { base64.encode, base64.decode } do
        for _, bad in ipairs { 12, {}, true, print } do
            t.raises("must be a string, not a " .. type(bad), fn, bad)
        end
        t.raises("must be a string, not a nil", fn)
        t.raises("options must be a table", fn, "", "url")
        t.raises("did you mean 'url'?", fn, "", { urls = true })
    end
    t.has(t.raises(nil, function() base64.encode(1) end), "base64.lua:")
end)

t.case("base64 in a sync tool", function()
    local tool = lash.tool { name = "x", sync = function() return base64.decode(lash.base64.encode "lash") end }
    t.equal(fake.batch({ tool }, { { "x" } })[1].output, "lash")
end)

return t.main(...)
