-- lash.hash: the face of what tests/unit/test_sha256.c tries.
local t = require "t"
local fake = require "fake"
local lash = require "lash"

local hash = lash.hash

local ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

local function unhex(text)
    return (text:gsub("..", function(two) return string.char(tonumber(two, 16)) end))
end

t.case("hash sha256 in both forms", function()
    t.equal(hash.sha256("abc"), ABC)
    t.equal(hash.sha256("abc", { binary = true }), unhex(ABC))
    t.equal(hash.sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    t.equal(hash.sha256("\0"), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d")
end)

t.case("hash sha256 piece by piece", function()
    local h = hash.sha256.new()
    t.equal(h:digest(), hash.sha256 "")
    t.equal(h:update("a"):update(""):update("bc"), h)
    t.equal(h:digest(), ABC)
    t.equal(h:digest { binary = true }, unhex(ABC))
    h:update(("x"):rep(1000))
    t.equal(h:digest(), hash.sha256("abc" .. ("x"):rep(1000)))
end)

t.case("hash hmac_sha256", function()
    local want = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    t.equal(hash.hmac_sha256("Jefe", "what do ya want for nothing?"), want)
    t.equal(hash.hmac_sha256("Jefe", "what do ya want for nothing?", { binary = true }), unhex(want))
end)

t.case("hash misuse names the thing", function()
    for _, bad in ipairs { 12, {}, true, print } do
        t.raises("must be a string, not a " .. type(bad), hash.sha256, bad)
        t.raises("the key must be a string, not a " .. type(bad), hash.hmac_sha256, bad, "x")
        t.raises("the text must be a string, not a " .. type(bad), hash.hmac_sha256, "x", bad)
        t.raises("string expected", hash.sha256.new().update, hash.sha256.new(), bad)
    end
    t.raises("did you mean 'binary'?", hash.sha256, "", { binry = true })
    t.has(t.raises(nil, function() hash.sha256(1) end), "hash.lua:")
    local h = hash.sha256.new()
    t.raises("lash.sha256 expected", h.update, io.stdout, "x")
    t.raises("lash.sha256 expected", h.digest, "x")
    t.raises("table expected", h.digest, h, "binary")
end)

t.case("hash in a sync tool, and a state cannot travel", function()
    local sha256 = hash.sha256
    local outside = sha256.new()
    local good = lash.tool {
        name = "good",
        sync = function() return sha256("abc") .. lash.hash.sha256.new():update("abc"):digest() end,
    }
    t.equal(fake.batch({ good }, { { "good" } })[1].output, ABC .. ABC)
    t.raises("'outside' is userdata of type 'lash.sha256'", lash.tool,
        { name = "bad", sync = function() return outside:digest() end })
end)

return t.main(...)
