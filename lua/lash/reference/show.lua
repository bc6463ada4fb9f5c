--- An entry of the reference as people read it: in `?name` and `lash help NAME`.
local M = {}

local WIDTH = 80

-- Appends a line, in several where it is too long; these begin with `hang` blanks.
local function add_line(out, line, width, hang)
    while #line > width do
        local at = nil
        for to in line:sub(1, width + 1):gmatch "()%s" do
            at = to > hang + 1 and line:find("%S", 1) < to and to or at
        end
        at = at or line:find("%s", width + 1)
        local rest = at and line:match("^%s*(.*)$", at)
        if not at or rest == "" then
            break
        end
        out[#out + 1] = line:sub(1, at):match "^(.-)%s*$"
        line = (" "):rep(hang) .. rest
    end
    out[#out + 1] = line:match "^(.-)%s*$"
end

-- Where a line of a table or an example goes on: below its last column.
local function column_of(line, width)
    local column = #line:match "^%s*" + 4
    for at in line:gmatch "%S%s%s+()" do
        column = at <= width // 2 and at - 1 or column
    end
    return column
end

-- Lines that begin at the margin flow; others keep their form.
local function add_prose(out, text, width)
    local flowing
    local function flush()
        if flowing then
            add_line(out, flowing, width, 0)
            flowing = nil
        end
    end
    for line in (text .. "\n"):gmatch "(.-)\n" do
        if line == "" or line:find "^%s" then
            flush()
            add_line(out, line, width, column_of(line, width))
        else
            flowing = flowing and flowing .. " " .. line or line
        end
    end
    flush()
end

-- Rows of name, type and text, in columns as far as they are narrow enough.
local function add_fields(out, fields, width)
    local names, kinds = 0, 0
    for _, field in ipairs(fields) do
        names = math.max(names, #field.name + (field.optional and 1 or 0))
    end
    for _, field in ipairs(fields) do
        kinds = math.max(kinds, #field.shown <= math.min(20, 36 - names) and #field.shown or 0)
    end
    for _, field in ipairs(fields) do
        local name = field.name .. (field.optional and "?" or "")
        local line = ("  %s  %s"):format(name .. (" "):rep(names - #name), field.shown)
        local column = names + 4
        if field.text ~= "" then
            if #line <= column + kinds and column + kinds <= width - 30 then
                line, column = line .. (" "):rep(column + kinds - #line), column + kinds + 2
            elseif #line + 2 + #field.text > width then
                add_line(out, line, width, column)
                line = (" "):rep(column - 2)
            end
            line = line .. "  " .. field.text
        end
        add_line(out, line, width, column)
    end
end

-- What an entry is; one that is too long has its results on a line of their own.
local function add_title(out, entry, width, indent)
    local head = entry.name:match "^(.-)[%w_]+$" or ""
    local title = entry.signature:sub(1, #entry.name) == entry.name and entry.signature or head .. entry.signature
    title = (" "):rep(indent) .. title
    local at = #title > width and title:find(" -> ", 1, true)
    local from = #out + 1
    local function add(text)
        add_line(out, text:gsub("([:[],?) ", "%1\0"), width, text:find "%S" + 3)
    end
    add(at and title:sub(1, at - 1) or title)
    if at then
        add((" "):rep(indent + 3) .. title:sub(at))
    end
    for i = from, #out do
        out[i] = out[i]:gsub("%z", " ") -- a name stays with its type
    end
end

local function add_methods(out, class, width)
    if class.methods then
        out[#out + 1] = ""
    end
    for _, entry in ipairs(class.methods or {}) do
        add_title(out, entry, width, 2)
    end
end

local function add_class(out, class, width)
    local of = class.type and " is " .. class.shown:gsub("|", " | ") or class.parent and ": " .. class.parent or ""
    add_line(out, class.name .. of, width, 4)
    if class.text ~= "" then
        add_prose(out, class.text, width)
    end
    if class.fields and #class.fields > 0 then
        out[#out + 1] = ""
        add_fields(out, class.fields, width)
    end
    add_methods(out, class, width)
end

-- The classes that its signature names, or the methods of the one that it makes.
local function add_more(out, entry, classes, width)
    local made = classes[entry.name:match "^lash%.(.*)$" or ""]
    if made then
        add_methods(out, made, width)
    end
    local names = {}
    for name in pairs(entry.names or {}) do
        if classes[name] ~= made and name ~= "error" then
            names[#names + 1] = name
        end
    end
    if #names > 0 then
        table.sort(names)
        out[#out + 1] = ""
        add_line(out, "See also: " .. table.concat(names, ", "), width, 4)
    end
end

--- text(entry, classes [, columns]) -> what to show of an entry or a class
function M.text(entry, classes, columns)
    local width, out = math.min(WIDTH, columns or WIDTH), {}
    if not entry.signature then
        add_class(out, entry, width)
        return table.concat(out, "\n")
    end
    local rest = not entry.is_function and entry.text:match("^" .. entry.name:gsub("%p", "%%%0") .. ": ")
    if not rest then -- the text does not begin with it
        add_title(out, entry, width, 0)
    end
    if entry.text ~= "" then
        add_prose(out, entry.text, width)
    end
    for _, param in ipairs(entry.params) do
        if not param.fields and param.text ~= "" then
            add_line(out, ("  %s  %s"):format(param.name, param.text), width, #param.name + 4)
        end
    end
    if entry.returned then
        add_line(out, "  ->  " .. entry.returned, width, 6)
    end
    for _, param in ipairs(entry.params) do
        if param.fields then
            add_prose(out, ("\n%s%s"):format(param.name, param.text ~= "" and ": " .. param.text or ""), width)
            add_fields(out, param.fields, width)
        end
    end
    if entry.parts then
        out[#out + 1] = ""
        add_line(out, "It has: " .. table.concat(entry.parts, ", "), width, 4)
    end
    add_more(out, entry, classes, width)
    return table.concat(out, "\n")
end

return M
