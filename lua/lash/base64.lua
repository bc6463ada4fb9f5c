--- lash.base64: bytes as text and back, RFC 4648.
--
--   local text = lash.base64.encode(bytes)
--   local bytes, err = lash.base64.decode(text)
local core = require "lash.core.codec"
local json = require "lash.json"
local misuse = require "lash.misuse"

local M = {}

local ENCODE_OPTIONS = { "url", "pad" }
local DECODE_OPTIONS = { "url" }

--- encode(bytes: string [, options]) -> text: string
-- @param options
--   url?  boolean  true: the alphabet for URLs and file names, - and _ in place of + and /, without padding
--   pad?  boolean  with or without `=` at the end (false with url, else true)
function M.encode(bytes, options)
    misuse.string("lash.base64.encode", "what is encoded", bytes)
    options = misuse.options("lash.base64.encode", options, ENCODE_OPTIONS)
    local pad = options.pad
    if pad == nil then
        pad = not options.url
    end
    return core.base64_encode(bytes, options.url, pad)
end

--- decode(text: string [, options]) -> bytes: string | nil, err
-- Strict: white space, foreign characters, missing padding and bits that mean nothing are errors, so
-- that no two texts mean the same bytes. err.code is "base64", err.position where it went wrong (in
-- bytes, from 1; one behind the text that ends too early).
-- @param options
--   url?  boolean  true: the alphabet for URLs; padding may be missing there
function M.decode(text, options)
    misuse.string("lash.base64.decode", "what is decoded", text)
    options = misuse.options("lash.base64.decode", options, DECODE_OPTIONS)
    local bytes, position = core.base64_decode(text, options.url)
    if bytes then
        return bytes
    end
    local found = position > #text and "the text ends too early"
        or ("%q does not belong there"):format(text:sub(position, position))
    return nil, setmetatable({ code = "base64", position = position,
        message = ("no Base64%s: position %d: %s"):format(options.url and " for URLs" or "", position, found) },
        json.error_mt)
end

return M
