--- Structured answers: the answer of an agent as a JSON value that fits a schema.
--
--   lash.agent { name = "people", output = { name = "string", born = "integer?: the year" } }
--
-- `output` is a JSON Schema or the shorthand of a tool's parameters. A table is a JSON Schema when it has
-- `type` with a JSON type ("object", or a list of these), a list under anyOf, oneOf, allOf or enum, a table
-- under `properties`, or a name that begins with `$`; every other table is shorthand. A text is the
-- shorthand of one value: "string[]", "yes|no".
--
-- Providers ask for the schema in their protocol's own way, or in words; whatever came is checked here. An
-- answer that does not fit gets one more try, with the fault told to the model.
--
-- Some protocols take only objects at the root of a schema. Where the root may be something else, the model
-- is asked for { "value": ... }, and the answer is what stands in there; the bare value counts too.
local json = require "lash.json"
local params = require "lash.params"
local schema = require "lash.schema"
local texts = require "lash.text"

local M = {}

local DATA = 65 -- the exit status of an answer that does not fit

local Output = { __name = "lash.output" }
Output.__index = Output

--- The metatable of outputs.
M.Output = Output

-- Compiled schemas are not part of the output, so that agents can travel to workers.
local compiled = setmetatable({}, { __mode = "k" })

local function checker_of(output)
    if not compiled[output] then
        compiled[output] = assert(schema.compile(output.schema))
    end
    return compiled[output]
end

-- ---- declaring ----

local TYPES = { object = true, array = true, string = true, number = true, integer = true, boolean = true,
    null = true }

local function is_type(value)
    if type(value) ~= "table" then
        return TYPES[value] == true
    end
    for _, name in ipairs(value) do
        if not TYPES[name] then
            return false
        end
    end
    return value[1] ~= nil
end

local function is_list(value)
    return type(value) == "table" and (value[1] ~= nil or getmetatable(value) == json.array_mt)
end

-- The key that makes a JSON Schema of a table, or nil: then it is shorthand.
local function telling_key(spec)
    if is_type(spec.type) then
        return "type"
    end
    for _, key in ipairs { "anyOf", "oneOf", "allOf", "enum" } do
        if is_list(spec[key]) then
            return key
        end
    end
    if type(spec.properties) == "table" then
        return "properties"
    end
    for key in pairs(spec) do
        if type(key) == "string" and key:sub(1, 1) == "$" then
            return key
        end
    end
    return nil
end

local function of_text(text)
    local made, err = params.schema { value = text }
    if not made then
        return nil, (err.message:gsub("^value: ", ""))
    elseif #made.required == 0 then
        return nil, ('"%s" says that the answer may be left out: drop the `?`'):format(text)
    end
    return made.properties.value
end

local function of_shorthand(spec)
    if next(spec) == nil then
        return nil, "it names no field; write { name = \"string\" }, or { type = \"object\" } for any object"
    end
    local made, err = params.schema(spec)
    return made, err and err.message
end

-- ---- what providers are asked for ----

-- Parts of a schema that are values or names of the user's, where `$ref` means nothing.
local VALUES = { const = true, default = true, enum = true, example = true, examples = true }
local NAMED = { properties = true, patternProperties = true, dependentSchemas = true, ["$defs"] = true,
    definitions = true }

-- A reference that holds when its schema stands under `value` of another, and `$defs` beside it.
local function moved_reference(ref)
    if ref == "#" then
        return "#/properties/value"
    elseif ref:find("^#/") and not ref:find("^#/%$defs/") and not ref:find("^#/definitions/") then
        return "#/properties/value" .. ref:sub(2)
    end
    return ref
end

local function moved(node, is_names)
    if type(node) ~= "table" then
        return node
    end
    local copy = setmetatable({}, getmetatable(node))
    for key, value in pairs(node) do
        if not is_names and key == "$ref" and type(value) == "string" then
            copy[key] = moved_reference(value)
        elseif not is_names and VALUES[key] then
            copy[key] = value
        else
            copy[key] = moved(value, not is_names and NAMED[key])
        end
    end
    return copy
end

-- Every protocol takes an object whose fields are told right at the root.
local function is_plain_object(root)
    return root.type == "object" and not (root.anyOf or root.oneOf or root.allOf or root["$ref"])
end

local function wrapper(root)
    local inner = moved(root)
    local whole = { type = "object", properties = { value = inner }, required = json.array { "value" },
        additionalProperties = false }
    for _, key in ipairs { "$defs", "definitions" } do
        whole[key], inner[key] = inner[key], nil
    end
    inner["$schema"], inner["$id"] = nil, nil
    return whole
end

--- of_schema(root) -> output | nil, message: answers that fit a JSON Schema, whatever it looks like.
function M.of_schema(root)
    if root == true then
        root = {}
    elseif type(root) ~= "table" or is_list(root) or root == json.null then
        return nil, root == false and "no value fits the schema `false`" or "a JSON Schema is an object"
    end
    local checker, err = schema.compile(root)
    if not checker then
        return nil, err.message
    end
    local wrapped = not is_plain_object(root)
    local output = setmetatable({
        schema = root,
        wrapped = wrapped,
        view = { name = "answer", schema = wrapped and wrapper(root) or root }, -- as of lash.model
    }, Output)
    compiled[output] = checker
    return output
end

--- new(spec) -> output | nil, message
-- spec: `output` of an agent: a JSON Schema, shorthand, or an output made before.
function M.new(spec)
    if getmetatable(spec) == Output then
        return spec
    end
    local root, err, key
    if type(spec) == "string" then
        root, err = of_text(spec)
    else
        key = telling_key(spec)
        root, err = spec, nil
        if not key then
            root, err = of_shorthand(spec)
        end
    end
    if not root then
        return nil, err
    end
    local output
    output, err = M.of_schema(root)
    if not output and key then
        err = ("%s (`%s` makes it a JSON Schema; see: lash help output)"):format(err, key)
    end
    return output, err
end

-- ---- reading ----

-- One code fence around it and white space are all that an answer may have besides.
local function bare(text)
    text = texts.trim(text)
    if #text < 6 or text:sub(1, 3) ~= "```" or text:sub(-3) ~= "```" then
        return text
    end
    local inside = text:sub(4, -4)
    return texts.trim(inside:sub(inside:match("^%a*%s+()") or 1))
end

local function is_wrapper(value)
    local key, inner = nil, nil
    if type(value) == "table" and getmetatable(value) == nil then
        key, inner = next(value)
    end
    return key == "value" and next(value, key) == nil, inner
end

--- read(text) -> true, value, its JSON text | false, what is wrong with it
function Output:read(text)
    text = bare(text)
    local value, err = json.decode(text)
    if err then
        return false, "it is no JSON value: " .. err.message:gsub("^JSON: ", "")
    end
    if self.wrapped then
        local is_whole, inner = is_wrapper(value)
        if is_whole and checker_of(self):check(inner) then
            return true, inner, json.raw(text, "value")
        end
    end
    local fits
    fits, err = checker_of(self):check(value)
    if fits then
        return true, value, text
    end
    if self.wrapped then -- told by the schema that the model has seen
        err = select(2, schema.check(self.view.schema, value)) or err
    end
    return false, err.message
end

function Output:__tostring()
    return "output"
end

-- ---- in a run ----

-- The last text of the last answer, if it has several: before it stands commentary.
local function last_of_several(conv)
    local n, last = 0, nil
    for _, item in ipairs(conv.entries[#conv.entries].items or {}) do
        if item.type == "text" then
            n, last = n + 1, item.text
        end
    end
    return n > 1 and last or nil
end

-- read() of the last answer: all its text, or else the last of its texts.
local function read_answer(run, output, text)
    local fits, value, clean = output:read(text)
    local last = not fits and last_of_several(run.conv)
    if last then
        return output:read(last)
    end
    return fits, value, clean
end

local AGAIN = "Your answer does not fit the JSON Schema that it must follow: %s. Answer again with one JSON value that "
    .. "fits: no other text, no code fence."

--- judge(run, text): what a final answer is worth, of an agent that binds it to a schema.
-- @return "done" and the text of the answer, with run.value set |
--   "empty" and the text | "output", the text and { code, exit, message } when the second try did not fit
--   either | nil: the model has been told what is wrong, and is to be asked once more
function M.judge(run, text)
    local output = run.current.agent.output
    if not text:find("%S") then
        return "empty", text
    end
    local fits, value, clean = read_answer(run, output, text)
    if fits then
        run.value = value
        return "done", clean
    elseif run.repair then
        return "output", text, { code = "output", exit = DATA,
            message = ("the answer of '%s' does not fit its schema: %s"):format(run.current.agent.name, value) }
    end
    run.repair = run.turn + 1
    run.conv:append { type = "note", text = AGAIN:format(value) }
    return nil
end

--- salvage(run, text) -> text: of a run that a limit ends, a last answer that fits has its value too.
function M.salvage(run, text)
    local output = run.current.agent.output
    if output and text:find("%S") then
        local fits, value, clean = output:read(text)
        if fits then
            run.value = value
            return clean
        end
    end
    return text
end

return M
