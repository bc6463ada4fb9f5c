--- lash.hash: SHA-256 and codes made with it.
--
--   lash.hash.sha256("abc")                              64 digits
--   lash.hash.sha256("abc", { binary = true })           32 bytes
--   lash.hash.hmac_sha256(key, text)
--   local h = lash.hash.sha256.new()                     piece by piece
--   for piece in io.lines(path, 65536) do h:update(piece) end
--   print(h:digest())
--
-- Nothing here waits: 10 MB take about 50 ms, in which no other task goes on. A tool that hashes more
-- should be `sync`.
local core = require "lash.core.codec"
local misuse = require "lash.misuse"

local M = {}

local OPTIONS = { "binary" }

--- sha256(text: string [, options: hash.options]) -> string
-- 64 hexadecimal digits in lower case, or 32 bytes.
-- @class hash.options
--   binary?  boolean  true: 32 bytes
M.sha256 = setmetatable({ new = core.sha256_new }, {
    __call = function(_, text, options)
        misuse.string("lash.hash.sha256", "what is hashed", text)
        options = misuse.options("lash.hash.sha256", options, OPTIONS)
        return core.sha256(text, options.binary)
    end,
})

--- hmac_sha256(key: string, text: string [, options: hash.options]) -> string
-- The code of RFC 2104, in the forms of sha256().
function M.hmac_sha256(key, text, options)
    misuse.string("lash.hash.hmac_sha256", "the key", key)
    misuse.string("lash.hash.hmac_sha256", "the text", text)
    options = misuse.options("lash.hash.hmac_sha256", options, OPTIONS)
    return core.hmac_sha256(key, text, options.binary)
end

return M
