-- The reference that is read off the doc comments, and the annotation file for editors that is made of it: it tells
-- of everything, in the grammar of the Lua language server, and what it tells is so.
local debug = require "debug"
local lash = require "lash"
local luals = require "support.luals"
local read = require "lash.reference.read"
local reference = require "lash.reference"
local start_server = require "support.serve"
local system = require "lash.core.system"
local t = require "t"
local types = require "lash.reference.types"

local case, equal, has, ok = t.case, t.equal, t.has, t.ok

local function file()
    return luals.read(reference.annotations())
end

-- ---- how it is written ----

local function shown(list)
    local words = {}
    for i, one in ipairs(list) do
        words[i] = ("%s%s:%s%s"):format(one.name or "", one.optional and "?" or "", one.type or "",
            one.rest and "..." or "")
    end
    return table.concat(words, " ")
end

case("reference: signatures give types, optional parameters and results for all ways to return", function()
    for _, one in ipairs {
        { "()", "", "" },
        { "(path: string [, options]) -> text: string | nil, err", "path:string options?:",
            "text:string? err:lash.error?" },
        { "(a: integer [, b: string [, ...]])", "a:integer b?:string ...?:any", "" },
        { "([a: any,] b: any)", "a?:any b:any", "" },
        { "() -> true | false | nil, err: schema.error", "", ":boolean? err:lash.schema.error?" },
        { "() -> true | nil, \"full\"|\"closed\"", "", ":true? :\"full\"|\"closed\"?" },
        { "(fn: fun(item: T, i?: integer): (any, ...: any), n: {a: b?, [string]: c[]}) -> fun(): string?",
            "fn:fun(item: T, i?: integer): (any, ...: any) n:{ a: lash.b?, [string]: lash.c[] }",
            ":fun(): string?" },
        { "() -> fun(): string | nil", "", ":(fun(): string)?" },
        { "() -> ... | nil, err", "", ":any..." },
        { "() -> boolean, ...", "", ":boolean :any..." },
        { "() -> a: number, b: x? | nil, err", "", "a:number? :lash.x|lash.error?" },
        { "(x: table<string, y.z|false>)", "x:table<string, lash.y.z|false>", "" },
    } do
        local found, p = types.signature(one[1])
        equal(found and shown(found.params) or p, one[2])
        equal(found and shown(found.returns), one[3])
    end
    for _, text in ipairs { "(", "(a: )", "(a b)", "() -> ", "() -> a b", "(a: fun(b)", "(a: b|)", "(a: {b})",
        "(a: c<d)", "(a: \"b)", "() nothing", "(1)" } do
        local found, why = types.signature(text)
        equal(found, nil)
        has(why, "expected ")
    end
end)

case("reference: fields, classes and what a comment says of parameters", function()
    local found = read.parse {
        "It does.", "@param opts  all of it", "  max?  integer|string  bytes,", "        or a text",
        "  [1]  fun(): any",
        '  ["set-cookie"]?  string', "@return so", "  many", "More.", "@class a.b: c { d?: integer, e: \"x\" }  said",
        "@alias f  \"a\"|", "  \"b\"",
    }
    equal(found.faults, {})
    equal(found.prose, { "It does.", "More." })
    equal(found.returned.text, "so many")
    local opts = found.params.opts
    equal(opts.text, "all of it")
    equal(shown(opts.fields), "max?:integer|string [1]:fun(): any [\"set-cookie\"]?:string")
    equal(opts.fields[1].text, "bytes, or a text")
    equal(shown(found.classes[1].fields), "d?:integer e:\"x\"")
    equal(found.classes[1].parent, "c")
    equal(found.aliases[1].type, "\"a\"|\"b\"")
    for _, doc in ipairs { { "@param a", "  b  fun(" }, { "@param a", "  b  integer and more" }, { "@class a { b }" },
        { "@alias a  |" }, { "@returns x" } } do
        equal(#read.parse(doc).faults, 1)
    end
end)

case("reference: no doc comment of a public function lacks a type, and none names a class that is not there", function()
    equal(reference.faults(), {})
end)

case("reference: what is shown of an entry fits 80 columns, and 40", function()
    local show = require "lash.reference.show"
    for _, entry in ipairs(reference.all()) do
        for _, width in ipairs { 80, 40 } do
            for line in reference.text(entry, width):gmatch "[^\n]+" do
                ok(#line <= width or not line:match "^%s*(.*)$":find "%s%S" or width == 40, entry.name .. ": " .. line)
            end
        end
    end
    equal(reference.text(assert(reference.find "lash.log")), "lash.log(...)\nlash.log: messages for people, on stderr, "
        .. "one line each.\n\nThe same as lash.log.info(...).\n\nIt has: debug, error, info, warn")
    has(reference.text(assert(reference.find "lash.fs")), "lash.fs: files")
    has(reference.text(assert(reference.find "lash.fs"), 40), "\nIt has: append, chmod, copy, escape,\n    exists, ")
    has(reference.text(assert(reference.find "mutex")), "\n\n  mutex:lock() -> lock.held\n  mutex:run(")
    has(reference.text(assert(reference.find "agent:run")), "\n\nSee also: message, result, run.options")
    has(reference.text(assert(reference.find "result")), "\n  conversation  conversation\n")
    has(reference.text(assert(reference.find "lash.reason")), "reason is \"done\" | \"empty\" | ")
    has(select(2, reference.find "resutl"), "result")
    local fields = { { name = "b", optional = true, shown = "integer", text = "the b" } }
    local out = show.text({ name = "lash.x.y", signature = "y(a: string [, opts]) -> string", returned = "it",
        text = "One\nsentence.\n\n  code()  -- as it is",
        params = { { name = "a", text = "the a" }, { name = "opts", text = "", fields = fields } } }, {}, 30)
    equal(out, "lash.x.y(a: string [, opts])\n    -> string\nOne sentence.\n\n  code()  -- as it is\n"
        .. "  a  the a\n  ->  it\n\nopts\n  b?  integer  the b")
end)

-- ---- the annotations ----

case("annotations: valid Lua, and every line in the grammar of the language server", function()
    local stub = assert(load(reference.annotations(), "=annotations", "t", {}))()
    equal(type(stub), "table")
    local found = file()
    ok(found.functions["lash.fs.read"] and found.functions["agent:run"] and found.classes["lash.result"])
    for name in pairs(found.functions) do
        local value = stub
        for word in name:match "^lash%.(.*)$" and name:sub(6):gmatch "[%w_]+" or ("x"):gmatch "y" do
            value = value[word]
        end
        ok(name:sub(1, 5) ~= "lash." or type(value) == "function", name)
    end
end)

case("annotations: the reader of the tests refuses what the language server would misread", function()
    local head, foot = "---@meta x\n\n---@class x\nlocal x = {}\n", "\nreturn x\n"
    ok(luals.read(head .. "--- text\n---@param a? string|\"b\" # said\n---@param ... any\n---@return (fun(): x)?\n"
        .. "---@return any ... # all\nfunction x.f(a, ...) end\n---@type x[]\nx.y = nil\n" .. foot))
    for why, text in pairs {
        ["there is no type y"] = "---@param a y\nfunction x.f(a) end",
        ["@param tells of (a)"] = "---@param a any\nfunction x.f(a, b) end",
        ["@param tells of (b, a)"] = "---@param b any\n---@param a any\nfunction x.f(a, b) end",
        ["@param tells of ()"] = "function x.f(a) end",
        ["'the' is too much"] = "---@param a any the a\nfunction x.f(a) end",
        ["LuaLS reads a remark"] = "---@param a any # \"b\" or so\nfunction x.f(a) end",
        ["'|' is too much"] = "---@param a string?|x\nfunction x.f(a) end",
        ["expected '>'"] = "---@param a table<string, x\nfunction x.f(a) end",
        ["expected ')'"] = "---@param a (string\nfunction x.f(a) end",
        ["no token"] = "---@param a string = 5\nfunction x.f(a) end",
        ["a parameter behind"] = "---@return any\n---@param a any\nfunction x.f(a) end",
        ["without what they belong to"] = "---@param a any\n\nfunction x.f(a) end",
        ["is there twice"] = "function x.f() end\nfunction x.f() end",
        ["y is nothing yet"] = "function y.f() end",
        ["x is declared twice"] = "---@class x",
        ["the field a is there twice"] = "---@class y\n---@field a x\n---@field a x",
        ["a field without its class"] = "---@class y\n\n---@field a x",
        ["@params is not known"] = "---@params a x\nfunction x.f(a) end",
        ["reads this as no comment"] = "--- | b\nfunction x.f() end",
        ["a tag is written"] = "--- @return x\nfunction x.f() end",
        ["a class stands above"] = "---@class y\nfunction x.f() end",
        ["what is this"] = "print(1)",
        ["a value needs"] = "x.y = nil",
        ["an overload without"] = "---@overload fun(): x\nx.y = {}",
    } do
        local fine, err = pcall(luals.read, head .. text .. foot)
        ok(not fine, text)
        has(err, why)
    end
end)

-- The functions of a table of lash, by their full names.
local function functions_of(prefix, value, found)
    for name, field in next, value do
        local callable = type(field) == "table" and (getmetatable(field) or {}).__call
        if type(name) == "string" and name:find "^%l" then
            local full = prefix .. "." .. name
            if type(field) == "function" or callable then
                found[full] = field
            end
            if type(field) == "table" and (prefix == "lash" or callable) then
                functions_of(full, field, found)
            end
        end
    end
    return found
end

local function all_of_lash()
    local parts = { in_worker = lash.in_worker }
    for name in pairs(getmetatable(lash).parts) do
        parts[name] = lash[name]
    end
    return parts
end

-- The names of a function's parameters, as the line says where it begins: the compiled library does not have them.
local function parameters(info)
    local text = system.embedded(info.source:match "^@(.*)")
    local line = 0
    for code in text:gmatch "([^\n]*)\n" do
        line = line + 1
        if line == info.linedefined then
            local colon, list = code:match "function%s*[%w_.]*(:?)[%w_]*%((.-)%)"
            list = (colon == ":" and "self " or "") .. list:gsub(",", "")
            equal(select(2, list:gsub("%S+", "")), info.nparams)
            return list
        end
    end
end

case("annotations: every public function of lash is there, with its parameters", function()
    local found, count = file(), 0
    local hidden = { ["lash.fs.watch"] = 0 } -- its parameters are those of the function that loads it
    for full, fn in pairs(functions_of("lash", all_of_lash(), {})) do
        count = count + 1
        local made = found.functions[full]
        local overload = found.classes[full .. ".module"]
        ok(made or overload and #overload.overloads > 0, full .. " is not there")
        local params = made and made.params
        local info = type(fn) == "function" and debug.getinfo(fn, "uS")
        if params and info.what ~= "C" and not info.isvararg and not hidden[full] then
            local told = {}
            for i, param in ipairs(params) do
                told[i] = param.name
            end
            equal(full .. " " .. table.concat(told, " "), full .. " " .. parameters(info))
        end
    end
    ok(count > 90, count)
    for _, value in ipairs { "main", "null", "version", "loading" } do
        ok(found.owners["lash." .. value], value)
    end
end)

-- What scripts have no use for.
local INTERNAL = { ["conversation:append"] = true, ["task:deadline"] = true, ["task:status"] = true,
    ["task:traceback"] = true, ["task:mark_call"] = true, ["task:lost"] = true, ["task:tag"] = true,
    ["task:cancelled"] = true, ["task:told"] = true, ["task:begun"] = true }

local function check_methods(found, object, name)
    local class = found.classes["lash." .. name]
    ok(class, name)
    local meta = debug.getmetatable(object)
    local methods = type(meta.__index) == "table" and meta.__index or meta
    local count = 0
    for method, fn in pairs(methods) do
        if type(fn) == "function" and method:find "^%l" then
            count = count + 1
            ok(class.methods[method] or INTERNAL[name .. ":" .. method], name .. ":" .. method)
        end
    end
    for method in pairs(class.methods) do
        ok(methods[method], ("%s:%s is told of, but is not there"):format(name, method))
    end
    return count
end

case("annotations: every method of every object is there", function()
    local found = file()
    local base = start_server()
    local agent = lash.agent { name = "a", model = "demo" }
    local mutex = lash.mutex()
    local held <close> = mutex:lock()
    local temp <close> = assert(lash.fs.tempdir())
    local watcher <close> = assert(lash.fs.watch(temp.path))
    local process <close> = assert(lash.exec.start { "true" })
    local group <close> = lash.group()
    local stream <close> = assert(lash.http.stream { url = base .. "/echo" })
    local task = lash.spawn(function() end)
    for name, object in pairs {
        agent = agent, conversation = agent:conversation(), mutex = mutex, ["lock.held"] = held,
        limit = lash.limit(1), shared = lash.shared "reference", channel = lash.channel(), group = group,
        ["fs.temp"] = temp, ["fs.watcher"] = watcher, ["exec.process"] = process, ["http.stream"] = stream,
        ["http.answer"] = assert(lash.http.get(base .. "/echo")), ["hash.state"] = lash.hash.sha256.new(),
        ["schema.compiled"] = assert(lash.schema.compile {}), task = task,
    } do
        ok(check_methods(found, object, name) > 0, name)
    end
    task:wait()
    local count = 0
    for name, class in pairs(found.classes) do
        local is_object = name ~= "lash" and not name:find "%.module$" and next(class.methods) ~= nil
        count = count + (is_object and 1 or 0)
    end
    equal(count, 16) -- none beside those above
end)

-- ---- what is told is so ----

local function fits(found, value, name)
    equal(luals.fault(found, value, "lash." .. name), nil)
end

case("annotations: results, events, answers and errors are as their classes tell", function()
    local found = file()
    local kinds = {}
    local add = lash.tool { name = "add", params = { a = "integer", b = "integer" }, async = function(args, ctx)
        fits(found, ctx, "context")
        ctx.progress(0.5, "half")
        return args.a + args.b
    end }
    local agent = lash.agent { name = "helper", model = "demo", tools = { add } }
    fits(found, add, "tool")
    fits(found, agent, "agent")
    local events = {}
    local result = agent:run("add 2 and 3", { on_event = function(event)
        events[#events + 1] = event
    end })
    for _, event in ipairs(events) do
        kinds[event.type] = true
        fits(found, event, "event")
        fits(found, event, "event." .. event.type)
    end
    local _ = result.items
    fits(found, result, "result")
    equal(#result.calls, 1)
    equal(result.calls[1].output, "5") -- its context was right, too
    for _, name in ipairs { "run.start", "run.end", "model.request", "model.end", "text", "call.start", "call.end",
        "call.progress" } do
        ok(kinds[name], name)
    end
    for event in agent:stream "add 1 and 1" do
        fits(found, event, "event." .. event.type)
    end
    local fine, err = pcall(agent.run, agent, "x", { model = "nosuch/model" })
    ok(not fine)
    fits(found, err, "run.error")

    local base = start_server()
    fits(found, assert(lash.http.get(base .. "/headers")), "http.answer")
    local stream <close> = assert(lash.http.stream { url = base .. "/headers" })
    fits(found, stream, "http.stream")
    local dir <close> = assert(lash.fs.tempdir())
    fits(found, dir, "fs.temp")
    fits(found, assert(lash.http.download(base .. "/headers", dir.path .. "/file")), "http.download")
    fits(found, assert(lash.fs.stat(dir.path .. "/file")), "fs.info")
    fits(found, assert(lash.fs.list(dir.path))[1], "fs.entry")
    fits(found, select(2, lash.fs.read(dir.path .. "/nosuch")), "error")
    fits(found, assert(lash.exec { "true" }), "exec.result")
    fits(found, select(2, lash.exec { "sleep", "60", timeout = 0.01 }), "exec.error")
    fits(found, assert(lash.url.parse "http://a@b:1/c?d#e"), "url.parts")
    fits(found, select(2, lash.time.parse "1985-04-12T23:20:50.52Z"), "time.exact")
    fits(found, select(2, lash.time.parse "1985"), "error")
    fits(found, select(2, lash.schema.check({ type = "string" }, 1)), "schema.error")
    fits(found, lash.gather({ function() return 1 end, function() error "x" end })[2], "gather.result")
    fits(found, assert(lash.image { data = "\x89PNG\r\n\x1a\n" .. ("\0"):rep(24) }), "part")
    for _, wrong in ipairs { { { code = 1, message = "x" }, "error" }, { { code = "x" }, "error" },
        { { kind = "new", path = "x" }, "fs.event" }, { { kind = "change", path = "x", more = 1 }, "fs.event" },
        { { "a", {} }, "message" }, { "on", "mark" } } do
        ok(luals.fault(found, wrong[1], "lash." .. wrong[2]), wrong[2])
    end
end)

-- The names that a declaration takes, of the sentence that refuses another one.
local function names_taken(fn, spec)
    spec.nosuchfield = 1
    local fine, err = pcall(fn, spec)
    ok(not fine)
    return (tostring(err):match "; the %a+ are (.*)$"):gsub(" and ", ", ")
end

local function names_told(found, name, less)
    local list = {}
    for field in pairs(found.classes["lash." .. name].fields) do
        list[#list + 1] = field ~= 1 and not (less or {})[field] and field or nil
    end
    table.sort(list)
    return table.concat(list, ", ")
end

case("annotations: what tools, agents, prompts and runs may be told is told, and nothing else", function()
    local found = file()
    local function nothing() end
    equal(names_told(found, "tool.spec"), names_taken(lash.tool, { name = "x" }))
    equal(names_told(found, "agent.spec"), names_taken(lash.agent, { name = "x" }))
    equal(names_told(found, "prompt.spec"), names_taken(lash.prompt, { name = "x" }))
    local agent = lash.agent { name = "a", model = "demo" }
    local function run(opts)
        agent:run("x", opts)
    end
    equal(names_told(found, "run.options"), (names_taken(run, {}):gsub("no_raise, ", "")))
    equal(names_told(found, "limits"), names_taken(function(limits)
        run { limits = limits }
    end, {}))
    equal(names_told(found, "retries"), names_taken(function(retry)
        lash.tool { name = "x", idempotent = true, retry = retry, async = nothing }
    end, {}))
    equal(names_told(found, "retry.spec"), names_taken(lash.retry, { nothing }))
    equal(names_told(found, "group.opts"), names_taken(lash.group, {}))
    local hits = lash.shared "reference"
    equal(names_told(found, "shared.options"), names_taken(function(opts) hits:set("a", 1, opts) end, {}))
    equal(names_told(found, "shared.incr.opts"), names_taken(function(opts) hits:incr("a", 1, opts) end, {}))
end)

case("annotations: every option that is told of is known", function()
    local found = file()
    for name, fn in pairs {
        ["http.request.options"] = lash.http.request, ["http.stream.options"] = lash.http.stream,
        ["http.options"] = lash.http.request, ["http.configure.options"] = lash.http.configure,
        ["exec.options"] = lash.exec, ["url.build.fields"] = lash.url.build,
        ["fs.read.options"] = function(o) lash.fs.read("x", o) end,
        ["fs.write.options"] = function(o) lash.fs.write("x", "", o) end,
        ["fs.append.options"] = function(o) lash.fs.append("x", "", o) end,
        ["fs.list.options"] = function(o) lash.fs.list("x", o) end,
        ["fs.glob.options"] = function(o) lash.fs.glob("x", o) end,
        ["fs.stat.options"] = function(o) lash.fs.stat("x", o) end,
        ["fs.mkdir.options"] = function(o) lash.fs.mkdir("x", o) end,
        ["fs.remove.options"] = function(o) lash.fs.remove("x", o) end,
        ["fs.watch.options"] = function(o) lash.fs.watch("x", o) end,
        ["fs.tempfile.options"] = lash.fs.tempfile, ["fs.tempdir.options"] = lash.fs.tempdir,
        ["base64.encode.options"] = function(o) lash.base64.encode("", o) end,
        ["base64.decode.options"] = function(o) lash.base64.decode("", o) end,
        ["json.encode.options"] = function(o) lash.json.encode(1, o) end,
        ["json.decode.options"] = function(o) lash.json.decode("1", o) end,
        ["time.format.options"] = function(o) lash.time.format(0, o) end,
        ["template.options"] = function(o) lash.template.render("", {}, o) end,
        ["hash.options"] = function(o) lash.hash.sha256("", o) end,
        ["gather.options"] = function(o) lash.gather({}, o) end,
        ["race.opts"] = function(o) lash.race({ function() end }, o) end,
        ["image.options"] = function(o) lash.image("x", o) end,
        ["attach.data"] = lash.document,
    } do
        local class = found.classes["lash." .. name]
        ok(class, name)
        for field in pairs(class.fields) do
            local given = { url = name:find "^http" and field ~= "per_host" and "http://127.0.0.1:1/" or nil }
            if type(field) == "string" then
                given[field] = print -- of no use anywhere, but not unknown
                local _, err = pcall(fn, given)
                ok(not tostring(err):find "unknown", ("%s.%s: %s"):format(name, field, tostring(err)))
            end
        end
        local taken = pcall(fn, { url = name:find "^http" and "http://127.0.0.1:1/" or nil, nosuchoption = true })
        ok(not taken or name:find "^json" or name == "url.build.fields", name)
    end
end)

return t.main(...)
