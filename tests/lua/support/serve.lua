--- Starts tests/program/httpd.py; it ends with the case's process group, or after five minutes. The first of a case is
-- the one that tests/run keeps ready, which costs less.
-- @param options more words for its command line
-- @return its base URL
local ready = os.getenv "LASH_TEST_SERVER"

return function(options)
    if ready and not options then
        local port = ready
        ready = nil
        return "http://127.0.0.1:" .. port
    end
    local tests = os.getenv "LASH_TESTS" or "tests"
    local python = io.open("/usr/bin/python3") and "/usr/bin/python3" or "python3"
    local pipe = assert(io.popen(("%s -S '%s/program/httpd.py' %s --for 300 </dev/null 2>/dev/null &"):format(
        python, tests, options or "")))
    return "http://127.0.0.1:" .. assert(pipe:read("l"), "the server did not start")
end
