--- The reference of everything that scripts see: lash.*, its objects, and Lua's own library. It is read off the
-- doc comments of the library itself, so there is one source for `?name`, `lash help NAME` and the annotations
-- for editors.
--
-- An entry is { name = "lash.fs.read", signature = "read(path [, options]) -> text | nil, err", text =, args = {
-- names }, module = }. Methods have names such as "agent:run".
local lash = require "lash"
local near = require "lash.near"
local system = require "lash.core.system"

local M = {}

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

local function lines_of(text)
    local lines = {}
    for line in (text .. "\n"):gmatch "(.-)\n" do
        lines[#lines + 1] = line
    end
    return lines
end

-- { { doc = lines, code = the line behind it }, ... } of a source.
local function blocks_of(text)
    local blocks, lines, i = {}, lines_of(text), 1
    while i <= #lines do
        if lines[i]:sub(1, 4) == "--- " then
            local doc = { lines[i]:sub(5) }
            i = i + 1
            while lines[i] and lines[i]:find "^%-%-" and not lines[i]:find "^%-%-%- " do
                doc[#doc + 1] = lines[i]:gsub("^%-%- ?", "")
                i = i + 1
            end
            blocks[#blocks + 1] = { doc = doc, code = lines[i] or "" }
        else
            i = i + 1
        end
    end
    return blocks
end

local function words_of(args)
    local list = {}
    for word in args:gmatch "[%w_.]+" do
        list[#list + 1] = word
    end
    return list
end

-- owner, mark, name and arguments of what a line of code defines.
local function defined(code)
    local owner, mark, name, args = code:match "^function ([%w_]+)([.:])([%w_]+)%((.-)%)"
    if owner then
        return owner, mark, name, args
    end
    owner, name = code:match "^([%w_]+)%.([%w_]+) = "
    if owner then
        return owner, ".", name, code:match "function%((.-)%)"
    end
    return nil
end

-- The first line may be the signature: `read(path [, options]) -> text | nil, err`.
local function entry_of(full, name, args, doc)
    local short = full:match "[%w_]+$" -- lash.tool is `new` in its module
    if doc[1]:find(short .. "(", 1, true) == 1 then
        name = short
    end
    local signature = doc[1]:match("^" .. name:gsub("%p", "%%%0") .. "%s*%b().*$")
    local text = table.move(doc, signature and 2 or 1, #doc, 1, {})
    if signature then
        local head, rest = signature:match "^(.-): (.+)$"
        if head and head:find "%b()" then
            signature = head
            table.insert(text, 1, rest)
        end
    end
    return {
        name = full,
        signature = signature and short .. signature:sub(#name + 1) or args and ("%s(%s)"):format(short, args) or short,
        text = table.concat(text, "\n"),
        args = words_of(args or ""),
        is_function = args ~= nil or signature ~= nil,
    }
end

local function add(found, entry)
    if not found.by_name[entry.name] then
        found.by_name[entry.name] = entry
        found.list[#found.list + 1] = entry
    end
end

-- `prefix`: what the module's table is called ("lash.fs"), nil when only `only` = { name in it = public name }.
local function add_module(found, module, prefix, only)
    local text = source_of(module)
    for i, block in ipairs(text and blocks_of(text) or {}) do
        local owner, mark, name, args = defined(block.code)
        if i == 1 and not owner and prefix then
            add(found, { name = prefix, signature = prefix, text = table.concat(block.doc, "\n"), args = {},
                is_function = false })
        elseif owner == "M" and mark == "." then
            local full = only and only[name] or prefix and prefix .. "." .. name
            if full and name:sub(1, 1) ~= "_" then
                add(found, entry_of(full, name, args, block.doc))
            end
        elseif owner and mark == ":" and name:sub(1, 2) ~= "__" then
            add(found, entry_of(owner:lower() .. ":" .. name, name, args, block.doc))
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
    add_module(found, "lash.conversation", nil, {})
    add_module(found, "lash.fs.watch", nil, { watch = "lash.fs.watch" })
    add_module(found, "lash.fs.temp", nil, { file = "lash.fs.tempfile", dir = "lash.fs.tempdir" })
end

-- What has no Lua source: made in C, and Lua's own.
local function add_words(found)
    for line in require("lash.reference.words"):gmatch "[^\n]+" do
        local signature, text = line:match "^%s*(.-)  +(.+)$"
        if signature then
            local name = signature:match "^[%w_.:]+"
            local short = name:match "[%w_]+$"
            local args = signature:match "%((.-)%)"
            add(found, {
                name = name,
                signature = signature:gsub("^[%w_.:]+", short, 1),
                text = text,
                args = words_of((args or ""):gsub("[%[%]]", "")),
                is_function = args ~= nil,
                standard = name:sub(1, 5) ~= "lash." or nil,
            })
        end
    end
end

local all

--- all() -> list of entries, sorted by name
function M.all()
    if not all then
        local found = { list = {}, by_name = {} }
        add_words(found)
        add_library(found)
        table.sort(found.list, function(a, b)
            return a.name < b.name
        end)
        all = found
    end
    return all.list
end

--- find(name) -> entry | nil, message with near names. Names may lack what stands before their last dot or colon
-- as long as there is one of that name only.
function M.find(name)
    local list = M.all()
    local entry = all.by_name[name] or all.by_name["lash." .. name]
    if entry then
        return entry
    end
    local hits, names = {}, {}
    for i, one in ipairs(list) do
        names[i] = one.name
        if one.name:match "[%w_]+$" == name then
            hits[#hits + 1] = one
        end
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

--- text(entry) -> what to show of an entry
function M.text(entry)
    local head = entry.name:match "^(.-)[%w_]+$" or ""
    local title = entry.signature:sub(1, #entry.name) == entry.name and entry.signature or head .. entry.signature
    return entry.text ~= "" and title .. "\n" .. entry.text or title
end

-- ---- annotations ----

local function parameter(word)
    return word == "..." and "---@param ... any" or ("---@param %s? any"):format(word)
end

local function comment(out, text)
    for line in (text .. "\n"):gmatch "(.-)\n" do
        out[#out + 1] = "--- " .. line
    end
end

--- annotations() -> the text of an annotation file for the Lua language server (LuaLS, `---@meta`)
function M.annotations()
    local out = { "---@meta lash", "", "---@class lash", "local lash = {}", "" }
    local tables, classes = { lash = true }, {}
    for _, entry in ipairs(M.all()) do
        local owner, mark, name = entry.name:match "^(.-)([.:])([%w_]+)$"
        if owner and not entry.standard then
            if mark == ":" and not classes[owner] then
                classes[owner] = true
                out[#out + 1] = ("---@class lash.%s"):format(owner)
                out[#out + 1] = ("local %s = {}"):format(owner)
            elseif mark == "." and not tables[owner] then
                tables[owner] = true
                out[#out + 1] = owner .. " = " .. owner .. " or {}"
            end
            comment(out, entry.signature .. (entry.text ~= "" and "\n" .. entry.text or ""))
            if entry.is_function then
                for _, word in ipairs(entry.args) do
                    out[#out + 1] = parameter(word)
                end
                out[#out + 1] = "---@return any ..."
                out[#out + 1] = ("function %s%s%s(%s) end"):format(owner, mark, name, table.concat(entry.args, ", "))
            else
                tables[entry.name] = true
                out[#out + 1] = ("%s.%s = {}"):format(owner, name)
            end
            out[#out + 1] = ""
        end
    end
    out[#out + 1] = "return lash"
    return table.concat(out, "\n") .. "\n"
end

return M
