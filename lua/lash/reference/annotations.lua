--- The reference as an annotation file of the Lua language server (LuaLS).
local M = {}

local function sorted(map)
    local names = {}
    for name in pairs(map) do
        names[#names + 1] = name
    end
    table.sort(names)
    return names
end

-- Lines that are indented are examples and tables; Markdown would let them flow.
local function add_text(out, text)
    local fenced = {}
    local function flush()
        if #fenced > 0 then
            local code = table.concat(fenced, "\n")
            out[#out + 1] = "--- ```" .. (load(code) and "lua" or "text")
            for _, line in ipairs(fenced) do
                out[#out + 1] = "--- " .. line:gsub("^  ", "")
            end
            out[#out + 1] = "--- ```"
            fenced = {}
        end
    end
    for line in (text ~= "" and text .. "\n" or ""):gmatch "(.-)\n" do
        if line:find "^%s+%S" then
            fenced[#fenced + 1] = line
        else
            flush()
            out[#out + 1] = line == "" and "---" or "--- " .. line
        end
    end
    flush()
end

-- What stands behind a type is no part of it; LuaLS takes a text in quotes for the whole of it.
local function remark(text)
    if not text or text == "" then
        return ""
    end
    return " # " .. (text:find "^[\"'%[]" and "is " .. text or text)
end

local function add_class(out, class)
    add_text(out, class.text)
    if class.type then
        out[#out + 1] = ("---@alias lash.%s %s"):format(class.name, class.type)
    else
        out[#out + 1] = ("---@class lash.%s%s"):format(class.name, class.parent and ": lash." .. class.parent or "")
        for _, field in ipairs(class.fields) do
            out[#out + 1] = ("---@field %s%s %s%s"):format(field.name, field.optional and "?" or "", field.type,
                remark(field.text))
        end
    end
end

local function add_types(out, entry)
    if entry.generics and next(entry.generics) then
        out[#out + 1] = "---@generic " .. table.concat(sorted(entry.generics), ", ")
    end
    for _, param in ipairs(entry.params) do
        out[#out + 1] = ("---@param %s%s %s%s"):format(param.name,
            param.optional and param.name ~= "..." and "?" or "", param.type or "any", remark(param.text))
    end
    for i, one in ipairs(entry.returns) do
        local name = one.rest and " ..." or one.name and " " .. one.name or ""
        out[#out + 1] = ("---@return %s%s%s"):format(one.type, name, i == 1 and remark(entry.returned) or "")
    end
end

local function overload(entry)
    local params, returns = {}, {}
    for i, param in ipairs(entry.params) do
        params[i] = ("%s%s: %s"):format(param.name, param.optional and param.name ~= "..." and "?" or "",
            param.type or "any")
    end
    for i, one in ipairs(entry.returns) do
        returns[i] = one.rest and "...: " .. one.type or one.type
    end
    return ("---@overload fun(%s)%s"):format(table.concat(params, ", "),
        #returns > 0 and ": " .. table.concat(returns, ", ") or "")
end

-- A table, which can perhaps be called.
local function add_table(out, entry)
    if entry.is_function then
        out[#out + 1] = ("---@class %s.module"):format(entry.name)
        out[#out + 1] = overload(entry)
    elseif entry.type then
        out[#out + 1] = "---@type " .. entry.type
    end
    out[#out + 1] = ("%s = %s"):format(entry.name, entry.type and "nil" or "{}")
end

local function add_entry(out, entry, owner, has_parts)
    local mark, name = entry.name:match "([.:])([%w_]+)$"
    add_text(out, entry.text)
    if entry.is_function and not has_parts then
        add_types(out, entry)
        out[#out + 1] = ("function %s%s%s(%s) end"):format(owner, mark, name, table.concat(entry.args, ", "))
    else
        add_table(out, entry)
    end
    out[#out + 1] = ""
end

-- The objects: their classes, each with its methods.
local function add_objects(out, classes)
    for _, name in ipairs(sorted(classes)) do
        add_class(out, classes[name])
        if classes[name].methods then
            local owner = name:gsub("%.", "_")
            out[#out + 1] = ("local %s = {}"):format(owner)
            out[#out + 1] = ""
            for _, entry in ipairs(classes[name].methods) do
                add_entry(out, entry, owner, false)
            end
        else
            out[#out + 1] = ""
        end
    end
end

--- text(list, classes) -> the text of the file
function M.text(list, classes)
    local out = { "---@meta lash", "" }
    add_objects(out, classes)
    out[#out + 1] = "---@class lash"
    out[#out + 1] = "lash = {}" -- scripts see it without require, too
    out[#out + 1] = ""
    local has_parts = {}
    for _, entry in ipairs(list) do
        has_parts[entry.name:match "^(.*)%." or ""] = true
    end
    for _, entry in ipairs(list) do
        if not entry.class and not entry.standard then
            add_entry(out, entry, entry.name:match "^(.*)%.", has_parts[entry.name])
        end
    end
    out[#out + 1] = "return lash"
    return table.concat(out, "\n") .. "\n"
end

return M
