--- Streamed answers of a server that sends what it is given, as lash.provider.stream reads them.
local json = require "lash.json"
local lash = require "lash"
local start_server = require "support.serve"
local stream = require "lash.provider.stream"
local wire = require "support.wire"

local M = {}

--- The head and the end of an answer in chunks.
M.CHUNKED = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
M.END = "0\r\n\r\n"

--- Folder of fixtures -> module of the provider.
M.NAMES = { ["openai-responses"] = "openai", ["openai-chat"] = "openai_chat", gemini = "gemini", anthropic = "anthropic" }

--- A chunk of an answer's body; nothing for an empty text.
function M.chunk(text)
    local bytes = text:gsub("[\x80-\xff]", function(c) return utf8.char(c:byte()) end)
    return text == "" and "" or ("%x\r\n%s\r\n"):format(#text, bytes)
end

local base
local asked = 0

--- The server's base URL.
function M.base()
    base = base or start_server()
    return base
end

--- Asks for an answer.
-- @param name of the provider's module
-- @param steps what the server sends, list of texts
-- @param watch fn(reader): may replace its functions
-- @param tell, limits, quiet as of lash.provider.stream
-- @return answer, nil, nil | nil, err, its text without the address
function M.ask(name, steps, watch, tell, limits, quiet)
    asked = asked + 1
    local id = asked -- others may ask meanwhile
    assert(lash.http.post(M.base() .. "/keep/" .. id, { json = json.array(steps) }))
    local target = wire.target(name, { base_url = base .. "/kept/" .. id, shown_url = "URL", quirks = {}, headers = {} })
    local provider = target.provider
    target.provider = setmetatable({ reader = function(...)
        local reader = provider.reader(...)
        watch(reader)
        return reader
    end }, { __index = provider })
    local conv = wire.conversation { { type = "user", text = "x" } }
    local view = { agent = "a", settings = {}, tools = wire.tools() }
    local request = assert(target.provider.request(conv, view, target, true))
    local answer, err = stream.answer(target, conv, view, request, limits or {}, tell, nil, quiet)
    return answer, err, err and (err.message:gsub("/kept/%d+", "/kept"))
end

return M
