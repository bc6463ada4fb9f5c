--- Makes a request to a page of tests/program/httpd.py that answers with what it was asked.
-- @param options of lash.http.request
-- @return what it was asked: its JSON, and `header` by name in lower case; the answer
local lash = require "lash"

return function(options)
    local res = assert(lash.http.request(options))
    local asked = assert(res:json())
    asked.header = {}
    for _, pair in ipairs(asked.headers) do
        asked.header[pair[1]:lower()] = pair[2]
    end
    return asked, res
end
