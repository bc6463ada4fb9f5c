--- lash.exec: other programs. A task waits while others run; a worker waits alone.
--
--   local res, err = lash.exec { "git", "log", "--oneline", timeout = 10 }
--   if not res then error(err) end
--   if res.ok then print(res.stdout) end
--
-- There is no shell between: every argument arrives as it is. `lash.exec { shell = "ls | wc -l" }` asks
-- for one. A status other than 0 is a result; `nil, err` means that there is none. err.code is the system's
-- name of the error ("ENOENT": no such command, "EACCES", "E2BIG", "EMFILE" ...), "cwd" when the directory
-- cannot be entered, or "timeout": then err.stdout and err.stderr are what came until then.
--
-- A command runs in a session of its own, without a terminal, and does not see the keys of model
-- providers. Whatever it started ends with it: at the end of the command, at a cancel, a deadline, the end
-- of the program. SIGTERM goes to all of them, SIGKILL a tenth of a second later to those that are left.

local core = require "lash.core.exec"
local json = require "lash.json"
local misuse = require "lash.misuse"
local outcome = require "lash.outcome"
local size = require "lash.size"
local tasks = require "lash.tasks"

local M = {}

local OPTIONS = {
    "shell", "stdin", "cwd", "env", "clear_env", "timeout", "max_output", "stderr", "detach",
}
local known = {}
for _, name in ipairs(OPTIONS) do
    known[name] = true
end

-- Checks return nil and what is wrong: the public functions raise it where they were called.

local function check_text(value, what)
    if math.type(value) then
        value = tostring(value)
    end
    if type(value) ~= "string" then
        return nil, ("%s must be a string or a number, not a %s"):format(what, type(value))
    elseif value:find("\0", 1, true) then
        return nil, what .. " contains a zero byte"
    end
    return value
end

local function check_names(options)
    for name in pairs(options) do
        if not math.type(name) and not known[name] then
            return nil, misuse.stranger(name, OPTIONS)
        end
    end
    return true
end

-- -> { command, argument, ... }
local function check_command(options)
    local last = 0
    for name in pairs(options) do
        if math.type(name) and (math.type(name) ~= "integer" or name < 1) then
            return nil, ("the command and its arguments are a list, without an element [%s]"):format(name)
        end
        last = math.type(name) and math.max(last, name) or last
    end
    if options.shell ~= nil then
        if last > 0 then
            return nil, "give either a command or shell, not both"
        end
        local text, problem = check_text(options.shell, "shell")
        return text and { "/bin/sh", "-c", "--", text }, problem
    elseif last == 0 then
        return nil, 'the command is missing: lash.exec { "ls", "-l" } or lash.exec { shell = "ls -l" }'
    end
    local argv = {}
    for i = 1, last do
        local what = i == 1 and "the command" or ("argument %d"):format(i - 1)
        if options[i] == nil then
            return nil, what .. " is nil"
        end
        local text, problem = check_text(options[i], what)
        if not text then
            return nil, problem
        end
        argv[i] = text
    end
    return argv
end

-- -> { "NAME=value", ... }, sorted
local function check_env(options)
    local env = options.env
    if env ~= nil and type(env) ~= "table" then
        return nil, ("env must be a table of names and values, not a %s"):format(type(env))
    end
    local values = {}
    for _, entry in ipairs(options.clear_env and {} or core.environ()) do
        local name, value = entry:match("^([^=]+)=(.*)$")
        if name and not core.is_secret(name) then
            values[name] = value
        end
    end
    for name, value in pairs(env or {}) do
        if type(name) ~= "string" or not name:find("^[^=%z]+$") then
            return nil, ("env must be written as { NAME = value }, found the name %s"):format(tostring(name))
        end
        local problem
        if value == false then
            value = nil
        else
            value, problem = check_text(value, "env." .. name)
        end
        if problem then
            return nil, problem .. " (false removes it)"
        end
        values[name] = value
    end
    local list = {}
    for name, value in pairs(values) do
        list[#list + 1] = name .. "=" .. value
    end
    table.sort(list)
    return list
end

local function check_cwd(options)
    if options.cwd == nil then
        return nil
    end
    local cwd = options.cwd
    if type(cwd) ~= "string" or cwd == "" or cwd:find("\0", 1, true) then
        return nil, ("cwd must be the path of a directory, not %s"):format(cwd == "" and "an empty text" or
            type(cwd) == "string" and "one with a zero byte" or "a " .. type(cwd))
    end
    return cwd
end

local function check_timeout(options)
    local value = options.timeout
    if value == nil or value == false then
        return nil
    end
    if not math.type(value) or not (value > 0 and value <= 1e9) then
        return nil, ("timeout must be a number of seconds above 0 (false: no limit), not %s"):format(tostring(value))
    end
    return value
end

local function check_max(options)
    local bytes = size.bytes(options.max_output == nil and "1M" or options.max_output)
    if not bytes or bytes > 1 << 40 then
        return nil, ('max_output must be a number of bytes or a text like "8M", not %s')
            :format(tostring(options.max_output))
    end
    return bytes
end

local function check_flags(options)
    if options.stderr ~= nil and options.stderr ~= "stdout" then
        return nil, ('stderr can only be "stdout", not %s'):format(tostring(options.stderr))
    end
    for _, name in ipairs { "clear_env", "detach" } do
        if options[name] ~= nil and type(options[name]) ~= "boolean" then
            return nil, ("%s must be true or false, not a %s"):format(name, type(options[name]))
        end
    end
    return true
end

-- What goes to its stdin: a text, or false: nothing.
local function check_stdin(options)
    local value = options.stdin
    if math.type(value) then
        value = tostring(value)
    end
    if value ~= nil and value ~= false and type(value) ~= "string" then
        return nil, ("stdin must be a string, not a %s"):format(type(value))
    end
    return value
end

local CHECKS = {
    { "argv", check_command }, { "env", check_env }, { "cwd", check_cwd }, { "timeout", check_timeout },
    { "max_output", check_max }, { "flags", check_flags }, { "stdin", check_stdin },
}

-- -> what core takes | nil, what is wrong
local function prepare(options)
    if type(options) ~= "table" then
        return nil, ('expected a table such as { "ls", "-l" } or { shell = "ls -l" }, got a %s'):format(type(options))
    end
    local ok, problem = check_names(options)
    if not ok then
        return nil, problem
    end
    local spec = { join = options.stderr == "stdout", detach = options.detach, shell = options.shell }
    for _, check in ipairs(CHECKS) do
        spec[check[1]], problem = check[2](options)
        if problem then
            return nil, problem
        end
    end
    return spec
end

local function show(spec)
    local text = spec.shell or spec.argv[1]
    return #text <= 60 and text or text:sub(1, 60) .. "..."
end

-- -> res | nil, err, from what core.run and core.result tell
local function finish(spec, timed_out, code, number, signal, out, out_total, err, err_total)
    local max = spec.max_output
    local stdout, stderr = outcome.cap(out, max, out_total), outcome.cap(err, max, err_total)
    local truncated = out_total > max or err_total > max
    if timed_out then
        return nil, setmetatable({
            code = "timeout",
            message = ("'%s' was stopped after %g s: its time was up"):format(show(spec), spec.timeout),
            stdout = stdout, stderr = stderr, truncated = truncated,
        }, json.error_mt)
    end
    if not code and number == 0 then
        return nil, setmetatable({
            code = "ECHILD",
            message = ("how '%s' ended is not known: other code of this program took it"):format(show(spec)),
        }, json.error_mt)
    end
    return {
        code = code or 128 + number,
        signal = signal,
        ok = code == 0,
        stdout = stdout, stderr = stderr, truncated = truncated,
    }
end

local function run(spec)
    local input = spec.stdin or nil
    spec.input = input ~= nil
    local results = table.pack(core.run(spec, input))
    if results[1] == nil then
        return nil, results[2]
    end
    return finish(spec, table.unpack(results, 1, results.n))
end

--- @class exec.process  made by lash.exec.start
--   pid  integer
-- @class exec.result
--   code       integer  its status; 128 + n for signal n
--   signal?    string   "SIGTERM" ...
--   ok         boolean  the code is 0
--   stdout     string
--   stderr     string
--   truncated  boolean
-- @class exec.error: error
--   stdout?     string   of a command whose time was up: what came until then
--   stderr?     string   likewise
--   truncated?  boolean
local process = {}
local process_mt = { __index = process, __name = "lash.process" }

function process_mt.__tostring(self)
    return ("lash.process: %d"):format(self.pid)
end

-- Whoever drops it will not stop it any more.
function process_mt.__gc(self)
    core.stop(self.handle)
end

--- The end of a `local p <close> = lash.exec.start { ... }`: stops it, and waits until all that it started
-- is gone.
function process_mt.__close(self)
    core.stop(self.handle)
    self.guard:wait()
end

local function check_self(self, name)
    if getmetatable(self) ~= process_mt then
        error(("process:%s was called without its process: write process:%s(), with a colon"):format(name, name), 3)
    end
    return self
end

--- read([n: integer]) -> string | nil | nil, err: exec.error
-- Without n what has come, at least a byte; with n so many bytes, and fewer only at the end; nil at the end.
function process:read(n)
    check_self(self, "read")
    if n ~= nil and (math.type(n) ~= "integer" or n < 1 or n > 1 << 30) then
        error(("process:read: expected a number of bytes from 1 to 2^30, got %s"):format(tostring(n)), 2)
    end
    if self.waited then
        error("process:read: the rest of its output belongs to process:wait()", 2)
    end
    return core.read(self.handle, n)
end

--- lines() -> fun(): string?
-- for line in process:lines() do: the lines of its stdout without their newlines. Raises an error when the
-- process is stopped for its time, or when a line is longer than max_output.
function process:lines()
    check_self(self, "lines")
    return function()
        if self.waited then
            error("process:lines: the rest of its output belongs to process:wait()", 2)
        end
        local line, err = core.line(self.handle, self.spec.max_output)
        if err then
            error(err, 0)
        end
        return line
    end
end

--- write(data: string) -> true | nil, err: exec.error
-- Waits until it has left. err.code "EPIPE": it reads no more.
function process:write(data)
    check_self(self, "write")
    if math.type(data) then
        data = tostring(data)
    end
    if type(data) ~= "string" then
        error("process:write: expected a string, got a " .. type(data), 2)
    end
    return core.write(self.handle, data)
end

--- close_stdin()
-- No more will come; programs that read to the end go on then.
function process:close_stdin()
    check_self(self, "close_stdin")
    core.close_input(self.handle)
end

--- wait() -> res: exec.result | nil, err: exec.error
-- As of lash.exec, once it has ended; closes its stdin. res.stdout is what nobody has read.
function process:wait()
    check_self(self, "wait")
    if not self.results then
        core.close_input(self.handle)
        core.capture(self.handle)
        self.waited = true
        self.guard:wait()
    end
    if not self.results then
        local results = table.pack(core.result(self.handle))
        if results.n == 0 then
            results = { false, setmetatable({ code = "stopped", message = "the process was stopped" }, json.error_mt) }
        else
            results = table.pack(finish(self.spec, table.unpack(results, 1, results.n)))
        end
        self.results = results
    end
    return self.results[1] or nil, self.results[2]
end

--- kill([signal: string|integer]) -> true | nil, err: exec.error
-- A signal such as "SIGINT" ("SIGTERM") to all that the process started and itself.
function process:kill(signal)
    check_self(self, "kill")
    local kind = type(signal)
    if kind ~= "nil" and kind ~= "string" and math.type(signal) ~= "integer" then
        error("process:kill: expected the name or number of a signal, got a " .. kind, 2)
    end
    local ok, err = core.kill(self.handle, signal or "SIGTERM")
    if ok == false then
        error(("process:kill: there is no signal '%s'"):format(signal), 2)
    end
    return ok, err
end

--- start(options: exec.options) -> exec.process | nil, err: exec.error
-- A command that runs while we go on. Options as of lash.exec; stdin = text is written and closed, false is no stdin;
-- without it process:write writes. It belongs to the task that started it and is stopped when that ends, or at the
-- end of the block with `local process <close> =`. Nobody reading its stdout holds it back; stderr is kept for
-- process:wait(), unless stderr = "stdout" puts it among stdout.
function M.start(options)
    local spec, problem = prepare(options)
    if not spec then
        error("lash.exec.start: " .. problem, 2)
    end
    spec.input = spec.stdin ~= false
    local handle, err = core.start(spec, spec.stdin or nil)
    if not handle then
        return nil, err
    end
    return setmetatable({
        pid = core.pid(handle),
        handle = handle,
        spec = spec,
        guard = tasks.spawn(core.guard, handle),
    }, process_mt)
end

--- lash.exec(options) -> res: exec.result | nil, err: exec.error
-- @param options
--   [integer]    string|number   [1], [2] ...: the command and its arguments
--   shell?       string          or a text for /bin/sh -c
--   stdin?       string|false    what it reads (/dev/null)
--   cwd?         string          its directory
--   env?         table<string, string|false>  added to our environment; false removes one. Keys of providers are
--                never passed on, unless they stand here
--   clear_env?   boolean         true begins with none
--   timeout?     number          seconds (no limit)
--   max_output?  integer|string  bytes, or "8M" ("1M"), of each output: of more head and tail are kept, and a line
--                between tells the size
--   stderr?      "stdout"        puts both together
--   detach?      boolean         true leaves what the command put into the background alone when it ends (not when
--                it is stopped)
return setmetatable(M, {
    __call = function(_, options)
        local spec, problem = prepare(options)
        if not spec then
            error("lash.exec: " .. problem, 2)
        end
        local res, err = run(spec)
        return res, err
    end,
})
