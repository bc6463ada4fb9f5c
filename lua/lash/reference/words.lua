--- What has no doc comment to be read: functions made in C, and Lua's own library. A line each: its
-- signature, two blanks or more, what it does. Those of lash have types as in doc comments, and may go on
-- with lines that are indented.
local M = {}

M.lash = [==[
lash.sleep(seconds: number)  Waits; other tasks go on. 0 lets them run once.
lash.now() -> seconds: number  Seconds since 1970-01-01 UTC, as a float with the parts of a second.
lash.hrtime() -> integer  Nanoseconds of a clock that only goes forward, for measuring.
lash.channel([n: integer]) -> channel
    A queue that passes values from task to task, for at most n values. See: lash help channel
lash.hash.sha256.new() -> hash.state  A digest that is made piece by piece.
lash.http.get(url: string [, options: http.options]) -> res: http.answer | nil, err: http.error  Fetches.
lash.http.head(url: string [, options: http.options]) -> res: http.answer | nil, err: http.error
    Asks for the headers only.
lash.http.delete(url: string [, options: http.options]) -> res: http.answer | nil, err: http.error  Deletes.
lash.http.post(url: string [, options: http.options]) -> res: http.answer | nil, err: http.error
    Sends options.body, json, form, multipart or file.
lash.http.put(url: string [, options: http.options]) -> res: http.answer | nil, err: http.error
    Sends options.body, json, form, multipart or file.
lash.http.patch(url: string [, options: http.options]) -> res: http.answer | nil, err: http.error
    Sends options.body, json, form, multipart or file.
lash.log.error(...)  The values on stderr, separated by spaces, with "error:" before them.
lash.log.warn(...)  Likewise with "warn:".
lash.log.info(...)  The values on stderr, separated by spaces; -q hides them.
lash.log.debug(...)  Likewise with "debug:", for -v only.
lash.main: boolean  true while the file runs as a script, false while a command loads it for what it declares.
lash.null: lightuserdata  The value of JSON null.
lash.version: string  The version of lash.
lash.in_worker() -> boolean  Whether this code runs in a sync tool, on a worker thread.
lash.loading: boolean  Whether a command loads the file for what it declares.

channel:send(value: any) -> true | nil, "closed"  Waits while it is full.
channel:receive() -> value: any | nil, "closed"  Waits while it is empty.
channel:values() -> fun(): any  for value in ch:values() do, until it is closed and empty.
channel:try_send(value: any) -> true | nil, "full"|"closed"  Never waits.
channel:try_receive() -> value: any | nil, "empty"|"closed"  Never waits.
channel:close()  No more values; what is in it can still be received.
hash.state:update(text: string) -> hash.state  Adds a piece; gives the state.
hash.state:digest([options: hash.options]) -> string  The digest of all so far, after which the state can go on.
lock.held:close()  Gives the lock back; so does the end of the scope of `local held <close> =`.
task:wait()  Waits for its end.
task:result() -> boolean, ...  Of a task that has ended: true and its results, or false and the error.
task:cancel([reason: cancel.reason])  Ends it at its next wait, or while it waits.
]==]

M.lua = [==[
assert(v [, message])  Raises message when v is false or nil; else returns all its arguments.
collectgarbage([opt [, arg]])  Runs the garbage collector, or tells ("count": KiB) and sets how it works.
dofile([filename])  Runs a file and returns what it returns.
error(message [, level])  Raises an error; level 2 blames who called the function.
getmetatable(object)  The metatable of object, or its field __metatable.
ipairs(t)  For loops: 1, t[1]; 2, t[2]; ... until the first nil.
load(chunk [, chunkname [, mode [, env]]])  Compiles text, or what a function gives; nil and a message when it cannot.
loadfile([filename [, mode [, env]]])  Compiles a file.
next(t [, key])  The key behind key, and its value; without key the first one; nil at the end.
pairs(t)  For loops: all keys and values, in no order.
pcall(f [, arg1, ...])  Calls f; true and its results, or false and the error.
print(...)  Writes its arguments as texts, with tabs between and a line end behind.
rawequal(v1, v2)  Whether they are the same, without metamethods.
rawget(t, key)  t[key] without metamethods.
rawlen(v)  The length of a table or string without metamethods.
rawset(t, key, value)  t[key] = value without metamethods; returns t.
require(modname)  Loads a module once; what it returned, and where it was found.
select(n, ...)  The arguments from the n-th on; select("#", ...) is how many there are.
setmetatable(t, metatable)  Sets the metatable of a table; returns the table.
tonumber(e [, base])  e as a number, or nil.
tostring(v)  v as text.
type(v)  "nil", "number", "string", "boolean", "table", "function", "thread" or "userdata".
warn(msg1, ...)  Emits a warning.
xpcall(f, msgh [, arg1, ...])  pcall with a handler for the error, called where it was raised.
_G  The table of all globals.
_VERSION  The version of Lua, "Lua 5.4".

coroutine.close(co)  Closes a coroutine and its to-be-closed variables.
coroutine.create(f)  A coroutine that will run f.
coroutine.isyieldable([co])  Whether it can yield.
coroutine.resume(co [, val1, ...])  Starts or continues it; true and what it yields or returns, or false and the error.
coroutine.running()  The running coroutine, and whether it is the main one.
coroutine.status(co)  "running", "suspended", "normal" or "dead".
coroutine.wrap(f)  A function that resumes a coroutine that runs f; errors are raised.
coroutine.yield(...)  Suspends the coroutine; its resume returns these values.

debug.debug()  Reads lines from stdin and runs them, until one is `cont`.
debug.gethook([thread])  The hook, its mask and count.
debug.getuservalue(u, n)  The n-th user value of a userdata, and whether it has that one.
debug.setuservalue(u, value, n)  Sets the n-th user value of a userdata.
debug.getinfo([thread,] f [, what])  What is known of a function or a level of the stack.
debug.getlocal([thread,] f, local)  Name and value of a local variable.
debug.getmetatable(value)  The metatable, whatever __metatable says.
debug.getupvalue(f, up)  Name and value of an upvalue.
debug.sethook([thread,] hook, mask [, count])  Calls hook at lines, calls, returns, or every so many instructions.
debug.setlocal([thread,] level, local, value)  Sets a local variable.
debug.setmetatable(value, table)  Sets the metatable of any value.
debug.setupvalue(f, up, value)  Sets an upvalue.
debug.traceback([thread,] [message [, level]])  The stack as text.
debug.upvalueid(f, n)  What tells whether closures share an upvalue.
debug.upvaluejoin(f1, n1, f2, n2)  Makes f1's upvalue the one of f2.

io.close([file])  Closes a file, or the default output.
io.flush()  Writes what waits in the buffer of the default output.
io.input([file])  The default input; sets it.
io.lines([filename, ...])  For loops: the lines of a file.
io.open(filename [, mode])  Opens a file: "r" "w" "a" "r+" "w+" "a+", with "b"; nil and a message when it cannot.
io.output([file])  The default output; sets it.
io.popen(prog [, mode])  Starts a program; a file to read from ("r") or write to ("w"). lash.exec does not block.
io.read(...)  Reads from the default input: "l" line, "n" number, "a" all, or a number of bytes.
io.tmpfile()  A temporary file that goes away with the program.
io.type(obj)  "file", "closed file", or nil.
io.write(...)  Writes to the default output.
file:close()  Closes the file.
file:flush()  Writes what is buffered.
file:lines(...)  For loops: its lines.
file:read(...)  Reads: "l" line, "L" with its end, "n" number, "a" all, or a number of bytes.
file:seek([whence [, offset]])  Moves in the file: "set", "cur" or "end"; returns the position.
file:setvbuf(mode [, size])  "no", "full" or "line" buffering.
file:write(...)  Writes texts and numbers; returns the file.

math.abs(x)  The absolute value.
math.acos(x)  The arc cosine, in radians.
math.asin(x)  The arc sine, in radians.
math.atan(y [, x])  The arc tangent of y/x, in radians.
math.ceil(x)  The smallest integer that is not below x.
math.cos(x)  The cosine of x radians.
math.deg(x)  Radians as degrees.
math.exp(x)  e to the power of x.
math.floor(x)  The largest integer that is not above x.
math.fmod(x, y)  The rest of x/y, rounded towards zero.
math.huge  Infinity.
math.log(x [, base])  The logarithm; natural without base.
math.max(x, ...)  The largest argument.
math.maxinteger  The largest integer, 2^63-1.
math.min(x, ...)  The smallest argument.
math.mininteger  The smallest integer, -2^63.
math.modf(x)  The whole and the fractional part.
math.pi  3.14159...
math.rad(x)  Degrees as radians.
math.random([m [, n]])  A float in [0,1), an integer in [1,m] or in [m,n].
math.randomseed([x [, y]])  Begins another series of random numbers.
math.sin(x)  The sine of x radians.
math.sqrt(x)  The square root.
math.tan(x)  The tangent of x radians.
math.tointeger(x)  x as an integer, or nil.
math.type(x)  "integer", "float", or nil.
math.ult(m, n)  Whether m is below n as unsigned integers.

os.clock()  Seconds of processor time of the program.
os.date([format [, time]])  A time as text, or with "*t" as a table; "!" before it for UTC.
os.difftime(t2, t1)  Seconds between two times.
os.execute([command])  Runs a command of the shell and waits. lash.exec does not block.
os.exit([code [, close]])  Ends the program.
os.getenv(varname)  A variable of the environment, or nil.
os.remove(filename)  Deletes a file or an empty directory.
os.rename(oldname, newname)  Renames a file.
os.setlocale([locale [, category]])  Sets the locale of the program.
os.time([table])  Seconds since 1970; of the table's date and time.
os.tmpname()  A name for a temporary file.

package.config  How paths are written on this system.
package.cpath  Where require looks for C modules.
package.loaded  What require has loaded, by name.
package.loadlib(libname, funcname)  Links a C library.
package.path  Where require looks for Lua modules.
package.preload  Loaders of modules, by name.
package.searchers  How require finds modules.
package.searchpath(name, path [, sep [, rep]])  The file of that name in a path.

string.byte(s [, i [, j]])  The codes of the bytes i to j.
string.char(...)  A string of these byte codes.
string.dump(function [, strip])  A function as bytes, for load.
string.find(s, pattern [, init [, plain]])  Where pattern is found: start, end, captures; nil without.
string.format(formatstring, ...)  Formats: %d %s %q %5.2f %x %g %c %i %u %a %%.
string.gmatch(s, pattern [, init])  For loops: the captures of each match.
string.gsub(s, pattern, repl [, n])  Replaces matches by a string, a field or a result; also how many.
string.len(s)  How many bytes.
string.lower(s)  In lower case.
string.match(s, pattern [, init])  The captures of the first match, or the match itself; nil without.
string.pack(fmt, v1, v2, ...)  Values as binary data.
string.packsize(fmt)  The size of what pack makes.
string.rep(s, n [, sep])  s n times, with sep between.
string.reverse(s)  Its bytes backwards.
string.sub(s, i [, j])  The bytes i to j; negative ones count from the end.
string.unpack(fmt, s [, pos])  The values in binary data, and the position behind.
string.upper(s)  In upper case.

table.concat(list [, sep [, i [, j]]])  Its texts and numbers as one string.
table.insert(list, [pos,] value)  Inserts at pos, or at the end.
table.move(a1, f, e, t [, a2])  Copies a1[f..e] to a2 (a1) from t on; returns a2.
table.pack(...)  A table of the arguments, with their number in n.
table.remove(list [, pos])  Takes out the value at pos, or the last one.
table.sort(list [, comp])  Sorts in place; comp(a, b) says whether a stands before b.
table.unpack(list [, i [, j]])  The values list[i] to list[j].

utf8.char(...)  The characters with these codes.
utf8.charpattern  The pattern of one UTF-8 character.
utf8.codepoint(s [, i [, j [, lax]]])  The codes of the characters in bytes i to j.
utf8.codes(s [, lax])  For loops: position and code of each character.
utf8.len(s [, i [, j [, lax]]])  How many characters; nil and the position of the first bad byte.
utf8.offset(s, n [, i])  Where the n-th character begins.
]==]

return M
