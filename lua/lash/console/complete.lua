--- Completion: what could stand where the cursor is. Only what can be seen without running anything: raw fields of
-- tables, of what their metatables name as `__index`, and so on; no metamethod is called.
local editor = require "lash.core.editor"
local lash = require "lash"
local words = require "lash.console.words"

local M = {}

local MOST = 300 -- candidates

local KEYWORDS = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat return then true
    until while]]):gmatch "%a+" do
    KEYWORDS[#KEYWORDS + 1] = word
end

local function is_name(key)
    return type(key) == "string" and key:find "^[%a_][%w_]*$" ~= nil
end

-- Adds the names among the keys of a table, and of those behind it.
local function add_keys(names, value, only_functions)
    for _ = 1, 10 do
        if type(value) ~= "table" then
            return
        end
        for key, field in next, value do
            if is_name(key) and (not only_functions or type(field) == "function") then
                names[key] = true
            end
        end
        local mt = debug.getmetatable(value)
        value = type(mt) == "table" and rawget(mt, "__index") or nil
    end
end

-- A field without metamethods: raw, then where __index points to.
local function field(value, name)
    if rawequal(value, lash) then
        return lash[name] -- its parts are loaded when they are first used
    end
    local mt = debug.getmetatable(value)
    if type(value) ~= "table" then
        value = type(mt) == "table" and rawget(mt, "__index") or nil
    end
    for _ = 1, 10 do
        if type(value) ~= "table" then
            return nil
        end
        local found = rawget(value, name)
        if found ~= nil then
            return found
        end
        mt = debug.getmetatable(value)
        value = type(mt) == "table" and rawget(mt, "__index") or nil
    end
    return nil
end

local function matching(names, prefix, head)
    local list = {}
    for name in pairs(names) do
        if name:sub(1, #prefix) == prefix and (prefix ~= "" or name:sub(1, 2) ~= "__") then
            list[#list + 1] = head .. name
        end
    end
    table.sort(list)
    return table.move(list, 1, math.min(#list, MOST), 1, {})
end

local function of_session(console, prefix)
    local names = {}
    for _, name in ipairs(console.session.locals:names()) do
        names[name] = true
    end
    for _, word in ipairs(KEYWORDS) do
        names[word] = true
    end
    add_keys(names, _G)
    return matching(names, prefix, "")
end

local function value_of(console, path)
    local value, found
    for name in path:gmatch "[%w_]+" do
        if not found then
            value, found = console.session.locals:get(name)
            if not found then
                value, found = rawget(_G, name), true
            end
        else
            value = field(value, name)
        end
        if value == nil then
            return nil
        end
    end
    return value
end

local function fields_of(console, word)
    local path, mark, prefix = word:match "^(.-)([.:])([%w_]*)$"
    local value = path:find "^[%a_][%w_.:]*$" and value_of(console, path)
    if value == nil then
        return {}
    end
    local names = {}
    if rawequal(value, lash) then
        for name in pairs(debug.getmetatable(lash).parts) do
            names[name] = true
        end
    end
    if type(value) == "table" then
        add_keys(names, value, mark == ":")
    end
    local mt = debug.getmetatable(value)
    if type(mt) == "table" and type(value) ~= "table" then
        add_keys(names, rawget(mt, "__index"), mark == ":")
    end
    return matching(names, prefix, path .. mark)
end

--- files(prefix) -> paths that begin with it; folders end in a slash
function M.files(prefix)
    local dir, name = prefix:match "^(.*/)([^/]*)$"
    dir, name = dir or "", name or prefix
    local home = os.getenv "HOME"
    local real = dir:gsub("^~/", home and home .. "/" or "~/")
    local list = {}
    for _, entry in ipairs(editor.files(real == "" and "." or real)) do
        if entry:sub(1, #name) == name and (name ~= "" or entry:sub(1, 1) ~= ".") then
            list[#list + 1] = dir .. entry
        end
    end
    table.sort(list)
    return table.move(list, 1, math.min(#list, MOST), 1, {})
end

-- Whether the end of `text` stands inside a string, and where that begins.
local function open_string(text)
    local quote, from
    local i = 1
    while i <= #text do
        local c = text:sub(i, i)
        if quote then
            if c == "\\" then
                i = i + 1
            elseif c == quote then
                quote = nil
            end
        elseif c == '"' or c == "'" then
            quote, from = c, i + 1
        elseif text:sub(i, i + 1) == "--" then
            return nil
        end
        i = i + 1
    end
    return quote and from or nil
end

local function names_of(list)
    local names = {}
    for _, entry in ipairs(list) do
        names[entry.name] = true
    end
    return names
end

-- Providers; their models are for `lash models` to tell.
local function of_models(line, from, word)
    local names = {}
    if line:sub(1, from - 1):find "^%s*%.model%s+$" then
        for _, name in ipairs(require("lash.provider.registry").names()) do
            names[name == "demo" and name or name .. (name == "script" and ":" or "/")] = true
        end
    end
    return matching(names, word, "")
end

-- Files for the word that ends at `to`, one of several from `first` on.
local function of_words(line, first, from, to)
    local at, typed, quote = words.last(line:sub(first, to))
    local begun = line:sub(first + at - 1, from - 1) -- what stands before readline's word
    local list = {}
    for _, path in ipairs(M.files(typed)) do
        local text = quote and quote .. path or words.escaped(path)
        if text:sub(1, #begun) == begun then
            list[#list + 1] = text:sub(#begun + 1)
        end
    end
    return list
end

-- Behind a command: what its word may be. Readline cuts words at blanks and slashes; `from` is where.
local function of_command(console, line, from, to)
    local word = line:sub(from, to)
    local name, rest = line:match "^%s*(%.%a+)%s+(.*)$"
    if not name then
        local names = {}
        for _, command in ipairs(require("lash.console.commands").names()) do
            names[command:sub(2)] = true
        end
        return matching(names, word:gsub("^%.", ""), ".")
    elseif name == ".load" or name == ".save" then
        local before = #line - #rest
        local head = line:sub(before + 1, from - 1)
        local list = {}
        for i, path in ipairs(M.files(head .. word)) do
            list[i] = path:sub(#head + 1)
        end
        return list
    elseif name == ".attach" then
        return of_words(line, #line - #rest + 1, from, to)
    elseif name == ".call" then
        local names, chosen = names_of(console.workspace:tools()), console.workspace.chosen
        for _, tool in ipairs(chosen and chosen.tools or {}) do
            names[tool.name] = true
        end
        return matching(names, word, "")
    elseif name == ".model" then
        return of_models(line, from, word)
    elseif name == ".agents" then
        return matching(names_of(console.workspace:agents()), word, "")
    end
    return {}
end

--- of(console) -> fn(line, from, to): see completer() of lash.core.editor
function M.of(console)
    return function(line, from, to)
        local word = line:sub(from, to)
        if line:find "^%s*%." then
            return of_command(console, line, from, to)
        elseif line:find "^%s*[>!]" then
            return {}
        end
        local string_from = open_string(line:sub(1, to))
        if string_from then
            local head = line:sub(string_from, from - 1)
            local list = {}
            for i, path in ipairs(M.files(head .. word)) do
                list[i] = path:sub(#head + 1)
            end
            return list
        elseif word:find "[.:]" then
            return fields_of(console, word)
        end
        return of_session(console, word)
    end
end

return M
