--- The reference of everything that scripts see: lash.*, its objects, and Lua's own library. It is read off the
-- doc comments of the library itself, so there is one source for `?name`, `lash help NAME` and the annotations
-- for editors. How these are written is told in lash.reference.read.
--
-- An entry is { name = "lash.fs.read", signature = "read(path: string [, options]) -> text: string | nil, err",
-- text =, args = { names }, params =, returns = (as of lash.reference.types, and `text` of params), type = of a
-- value, is_function, class = of a method, standard = true for what is Lua's own }. Methods have names such as
-- "agent:run".
local lash = require "lash"
local near = require "lash.near"
local read = require "lash.reference.read"
local system = require "lash.core.system"
local types = require "lash.reference.types"

local M = {}

-- Modules that declare objects and tables of others, beside those that `lash` has.
local MORE = { "lash.context", "lash.conversation", "lash.events", "lash.http.stream" }

local function source_of(module)
    local path = module:gsub("%.", "/")
    local dir = os.getenv "LASH_LUA"
    for _, name in ipairs { path .. ".lua", path .. "/init.lua" } do
        if dir and dir ~= "" then
            local file = io.open(dir .. "/" .. name, "rb")
            if file then
                local text = file:read "a"
                file:close()
                return text
            end
        else
            local text = system.embedded(name)
            if text then
                return text
            end
        end
    end
    return nil
end

local function words_of(args)
    local list = {}
    for word in args:gmatch "[%w_.]+" do
        list[#list + 1] = word
    end
    return list
end

local function fault(found, name, text)
    found.faults[#found.faults + 1] = name .. ": " .. text
end

local function use(found, name, names)
    for class in pairs(names or {}) do
        found.uses[#found.uses + 1] = { by = name, class = class }
    end
end

local function add(found, entry)
    if not found.by_name[entry.name] then
        found.by_name[entry.name] = entry
        found.list[#found.list + 1] = entry
    end
end

local function add_class(found, class)
    if found.classes[class.name] then
        fault(found, class.name, "it is declared twice")
    end
    found.classes[class.name] = class
    use(found, class.name, class.names)
    if class.parent then
        use(found, class.name, { [class.parent] = true })
    end
    for _, field in ipairs(class.fields or {}) do
        use(found, class.name, field.names)
    end
end

local function add_declared(found, parsed, where)
    for _, text in ipairs(parsed.faults) do
        fault(found, where, text)
    end
    for _, class in ipairs(parsed.classes) do
        add_class(found, class)
    end
    for _, alias in ipairs(parsed.aliases) do
        add_class(found, alias)
    end
end

-- Splits off the signature, the first line and those that are indented far: name, signature from its parenthesis,
-- the other lines; or for a value name, nil, lines, its type.
local function head_of(doc)
    local first, n = doc[1], 2
    local name = first:match "^([%w_.:]+)%("
    while name and doc[n] and doc[n]:find "^    +%S" do
        first = first .. " " .. doc[n]:match "^%s*(.*)$"
        n = n + 1
    end
    local rest = table.move(doc, n, #doc, 1, {})
    if name then
        return name, first:sub(#name + 1), rest
    end
    local at
    name, at = first:match "^([%w_.]+): ()"
    local of, p = nil, nil
    if name then
        of, p = types.type(first, at)
    end
    local text = of and (first:match("^%s%s+(.+)$", p.pos) or first:match("^%s*$", p.pos))
    if text then
        if text ~= "" then
            table.insert(rest, 1, text)
        end
        return name, nil, rest, { type = of, names = p.names, shown = first:sub(at, p.pos - 1) }
    end
    return nil, nil, doc
end

-- The parameters as the doc comment tells of them; fields make a class.
local function describe(found, entry, parsed)
    local known = {}
    for _, param in ipairs(entry.params) do
        known[param.name] = true
        local told = parsed.params[param.name]
        if told and #told.fields > 0 then
            local owner = entry.class and entry.class .. "." .. entry.name:match "[%w_]+$" or entry.name:sub(6)
            local class = { name = owner .. "." .. param.name, fields = told.fields, text = told.text }
            add_class(found, class)
            if param.type then
                fault(found, entry.name, param.name .. " has a type and fields")
            end
            param.type, param.fields = "lash." .. class.name, told.fields
        end
        param.text = told and told.text or ""
        if not param.type then
            fault(found, entry.name, param.name .. " has no type")
        end
    end
    for name in pairs(parsed.params) do
        if not known[name] then
            fault(found, entry.name, "it has no parameter " .. name)
        end
    end
end

-- `names`: what the doc comment may call it.
local function entry_of(found, full, names, args, doc)
    local name, rest, lines, value = head_of(doc)
    local short = full:match "[%w_]+$"
    local entry = { name = full, args = words_of(args or ""), is_function = args ~= nil, params = {}, returns = {} }
    if not names[name] then
        name, rest, lines, value = nil, nil, doc, nil
    end
    local parsed = read.parse(lines)
    add_declared(found, parsed, full)
    entry.text = table.concat(parsed.prose, "\n")
    entry.returned = parsed.returned and parsed.returned.text
    if rest then
        local made, p = types.signature(rest)
        entry.is_function, entry.signature = true, short .. rest
        if made then
            entry.params, entry.returns = made.params, made.returns
            entry.generics, entry.names = p.generics, p.names
            entry.args = {}
            for i, param in ipairs(made.params) do
                entry.args[i] = param.name
            end
            use(found, full, p.names)
        else
            fault(found, full, p)
        end
    elseif value then
        entry.type, entry.signature = value.type, ("%s: %s"):format(short, value.shown)
        use(found, full, value.names)
    else
        entry.signature = args and ("%s(%s)"):format(short, args) or short
        if args then
            fault(found, full, "it has no signature")
        end
    end
    return entry, parsed
end

local function add_entry(found, full, names, args, doc, class)
    local entry, parsed = entry_of(found, full, names, args, doc)
    entry.class = class
    describe(found, entry, parsed)
    add(found, entry)
end

-- What the module's table is, and how it is called, if it can be.
local function add_prefix(found, prefix, doc)
    local parsed = read.parse(doc)
    add_declared(found, parsed, prefix)
    add(found, { name = prefix, signature = prefix, text = table.concat(parsed.prose, "\n"), args = {}, params = {},
        returns = {}, is_function = false, is_module = true })
end

local function add_call(found, prefix, doc)
    local entry, parsed = entry_of(found, prefix, { [prefix] = true }, nil, doc)
    describe(found, entry, parsed)
    local module = found.by_name[prefix]
    entry.text = module and table.concat({ module.text, entry.text ~= "" and entry.text or nil }, "\n\n") or entry.text
    for key, value in pairs(entry) do
        module[key] = value
    end
end

-- `prefix`: what the module's table is called ("lash.fs"), nil when only `only` = { name in it = public name }.
local function add_module(found, module, prefix, only)
    local text = source_of(module)
    local owners = {}
    for i, block in ipairs(text and read.blocks(text) or {}) do
        local owner, mark, name, args = read.defined(block.code)
        local full = owner == "M" and mark == "." and name:find "^%l"
            and (only and only[name] or prefix and prefix .. "." .. name)
        if i == 1 and not owner and prefix then
            add_prefix(found, prefix, block.doc)
        elseif prefix and block.doc[1]:sub(1, #prefix + 1) == prefix .. "(" then
            add_call(found, prefix, block.doc)
        elseif full then
            add_entry(found, full, { [name] = true, [full:match "[%w_]+$"] = true }, args, block.doc)
        elseif owner and mark == ":" and name:sub(1, 2) ~= "__" then
            local class = owners[owner] or owner:lower()
            add_entry(found, class:match "[%w_]+$" .. ":" .. name, { [name] = true }, args, block.doc, class)
        else
            local parsed = read.parse(block.doc)
            local class = parsed.classes[1]
            local bound = block.code:match "^local ([%w_]+) = " or block.code:match "^M%.(%u[%w_]*) = "
            if class and bound then
                owners[bound] = class.name
            end
            if class or #parsed.aliases > 0 then
                add_declared(found, parsed, module)
            end
        end
    end
end

local function add_library(found)
    local modules, names = {}, {}
    for name, part in pairs(getmetatable(lash).parts) do
        local module = part[1]
        if not modules[module] then
            modules[module] = { only = {} }
            names[#names + 1] = module
        end
        if part[2] then
            modules[module].only[part[2]] = "lash." .. name
        else
            modules[module].prefix = "lash." .. name
        end
    end
    table.sort(names)
    for _, module in ipairs(names) do
        local about = modules[module]
        add_module(found, module, about.prefix, not about.prefix and about.only or nil)
    end
    for _, module in ipairs(MORE) do
        add_module(found, module, nil, {})
    end
    add_module(found, "lash.fs.watch", nil, { watch = "lash.fs.watch" })
    add_module(found, "lash.fs.temp", nil, { file = "lash.fs.tempfile", dir = "lash.fs.tempdir" })
end

-- What is made in C, and has the doc comments of the library in one line each.
local function add_made(found, words)
    for line in words:gsub("\n  +", "  "):gmatch "[^\n]+" do
        local head, text = line:match "^(.-)  +(.+)$"
        local full = head:match "^[%w_.:]+%f[^%w_.:]":gsub(":$", "")
        local class = full:match "^(.*):"
        add_entry(found, class and full:match "[%w_]+:[%w_]+$" or full, { [full] = true },
            head:find("(", 1, true) and "" or nil, { head, text }, class)
    end
end

-- Lua's own.
local function add_words(found, words)
    for line in words:gmatch "[^\n]+" do
        local signature, text = line:match "^%s*(.-)  +(.+)$"
        local name = signature:match "^[%w_.:]+"
        local args = signature:match "%((.-)%)"
        add(found, {
            name = name,
            signature = signature:gsub("^[%w_.:]+", name:match "[%w_]+$", 1),
            text = text,
            args = words_of((args or ""):gsub("[%[%]]", "")),
            params = {}, returns = {},
            is_function = args ~= nil,
            standard = true,
        })
    end
end

-- Tells tables of their parts and classes of their methods, and looks whether all classes are there.
local function connect(found)
    for _, entry in ipairs(found.list) do
        local owner = found.by_name[entry.name:match "^(lash%..*)%." or ""]
        if owner then
            owner.parts = owner.parts or {}
            table.insert(owner.parts, entry.name:match "[%w_]+$")
        elseif entry.class then
            local class = found.classes[entry.class] or { name = entry.class, text = "", fields = {} }
            found.classes[entry.class] = class
            class.methods = class.methods or {}
            table.insert(class.methods, entry)
        end
    end
    for _, used in ipairs(found.uses) do
        if not found.classes[used.class] then
            fault(found, used.by, "there is no class " .. used.class)
        end
    end
end

local all

local function everything()
    if not all then
        local found = { list = {}, by_name = {}, classes = {}, faults = {}, uses = {} }
        local words = require "lash.reference.words"
        add_made(found, words.lash)
        add_words(found, words.lua)
        add_library(found)
        table.sort(found.list, function(a, b)
            return a.name < b.name
        end)
        connect(found)
        all = found
    end
    return all
end

--- all() -> list of entries, sorted by name
function M.all()
    return everything().list
end

--- faults() -> list of texts: what the doc comments lack, for the tests
function M.faults()
    return everything().faults
end

--- find(name) -> entry or class | nil, message with near names. Names may lack what stands before their last dot or
-- colon as long as there is one of that name only.
function M.find(name)
    local found = everything()
    local entry = found.by_name[name] or found.by_name["lash." .. name] or found.classes[name:gsub("^lash%.", "")]
    if entry then
        return entry
    end
    local hits, names = {}, {}
    for i, one in ipairs(found.list) do
        names[i] = one.name
        if one.name:match "[%w_]+$" == name then
            hits[#hits + 1] = one
        end
    end
    for class in pairs(found.classes) do
        names[#names + 1] = class
    end
    if #hits == 1 then
        return hits[1]
    elseif #hits > 1 then
        for i, one in ipairs(hits) do
            hits[i] = one.name
        end
        return nil, ("'%s' is several: %s"):format(name, table.concat(hits, ", "))
    end
    return nil, ("nothing is known of '%s'%s"):format(name, near.hint(name, names))
end

--- text(entry [, columns]) -> what to show of an entry
function M.text(entry, columns)
    return require("lash.reference.show").text(entry, everything().classes, columns)
end

--- annotations() -> the text of an annotation file for the Lua language server (LuaLS, `---@meta`)
function M.annotations()
    local found = everything()
    return require("lash.reference.annotations").text(found.list, found.classes)
end

return M
