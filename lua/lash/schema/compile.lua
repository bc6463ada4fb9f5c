-- Compiles a JSON Schema document: checks its shape, gives every subschema a node (see
-- evaluate.lua), resolves references within the document.

local evaluate = require "lash.schema.evaluate"
local keywords = require "lash.schema.keywords"
local near = require "lash.near"
local uri = require "lash.schema.uri"
local value = require "lash.schema.value"

-- `type` first: when it fails, nothing else is said. unevaluated* last: they look at what the
-- others saw.
local ORDER = {
    "type", "enum", "const", "multipleOf", "minimum", "maximum", "exclusiveMinimum",
    "exclusiveMaximum", "minLength", "maxLength", "pattern", "minItems", "maxItems", "uniqueItems",
    "prefixItems", "items", "contains", "minContains", "maxContains", "required", "minProperties",
    "maxProperties", "propertyNames", "properties", "patternProperties", "additionalProperties",
    "dependentRequired", "dependentSchemas", "$ref", "$dynamicRef", "allOf", "anyOf", "oneOf",
    "not", "if", "then", "else", "unevaluatedItems", "unevaluatedProperties",
}

-- Keywords that assert nothing, with the type that their argument has ("any", or as type() says).
local ANNOTATIONS = {
    title = "string", description = "string", default = "any", examples = "table", example = "any",
    deprecated = "boolean", readOnly = "boolean", writeOnly = "boolean", format = "string",
    contentEncoding = "string", contentMediaType = "string", contentSchema = "any",
    ["$comment"] = "string", ["$schema"] = "string", ["$id"] = "string", ["$anchor"] = "string",
    ["$dynamicAnchor"] = "string", ["$defs"] = "table", definitions = "table",
}

local REMEDIES = {
    nullable = 'write type = { "string", "null" }',
    dependencies = "write dependentRequired or dependentSchemas",
    additionalItems = "write prefixItems, and items for the rest",
    id = "write $id",
    ["$recursiveRef"] = "write $dynamicRef",
    ["$recursiveAnchor"] = "write $dynamicAnchor",
    optional = "leave the name out of required",
}

local DIALECTS = {}
for _, draft in ipairs { "draft/2020-12", "draft/2019-09", "draft-07", "draft-06" } do
    DIALECTS["json-schema.org/" .. draft .. "/schema"] = true
end

local known_names = {}
for name in pairs(ANNOTATIONS) do
    known_names[#known_names + 1] = name
end
table.move(ORDER, 1, #ORDER, #known_names + 1, known_names)
table.sort(known_names)

-- The compiler. `at` is the list of steps to the present place, `node` the node of the present
-- schema.
local Compiler = {}
Compiler.__index = Compiler

function Compiler:refuse(message)
    error({ refusal = ("#%s: %s"):format(self:pointer(), message) }, 0)
end

function Compiler:pointer()
    local parts = {}
    for i, step in ipairs(self.at) do
        parts[i] = "/" .. uri.token(step)
    end
    return table.concat(parts)
end

-- Runs f(self, ...) with steps added to the present place.
function Compiler:at_steps(steps, f, ...)
    local at, n = self.at, #self.at
    for i, step in ipairs(steps) do
        at[n + i] = step
    end
    local result = f(self, ...)
    for i = #at, n + 1, -1 do
        at[i] = nil
    end
    return result
end

--- Compiles a subschema that stands at these steps below the present place.
function Compiler:sub(schema, ...)
    return self:at_steps({ ... }, self.build, schema, self.node.resource)
end

--- Compiles a subschema that stands under another keyword of the same schema.
function Compiler:sibling(keyword, schema)
    local own = table.remove(self.at)
    local node = self:sub(schema, keyword)
    self.at[#self.at + 1] = own
    return node
end

--- Notes nodes that the present schema applies to the same value. Returns them.
function Compiler:inplace(nodes)
    local list = self.node.inplace
    for _, node in ipairs(nodes) do
        list[#list + 1] = node
    end
    return nodes
end

-- ---- identity: $id, $anchor, $dynamicAnchor, $schema ----

local function new_resource(self, id, schema)
    local resource = { uri = id, schema = schema, anchors = {}, dynamic = {}, nodes = {} }
    if self.resources[id] then
        self:refuse(("the $id %s is used twice"):format(value.show(id)))
    end
    self.resources[id] = resource
    return resource
end

local function check_dialect(self, schema)
    local dialect = schema["$schema"]
    if dialect ~= nil then
        local plain = tostring(dialect):gsub("^https?://", ""):gsub("#$", "")
        if not DIALECTS[plain] then
            self.at[#self.at + 1] = "$schema"
            self:refuse(("the dialect %s is not supported"):format(value.show(dialect)))
        end
    end
end

local function resource_of(self, schema, resource)
    local id = schema["$id"]
    if type(id) ~= "string" then
        return resource
    end
    local base, fragment = uri.cut(id)
    if fragment ~= "" then
        self:refuse("$id must not have a fragment; write $anchor")
    end
    return new_resource(self, uri.resolve(resource and resource.uri or "", base), schema)
end

local function note_anchors(self, schema, node)
    for _, keyword in ipairs { "$anchor", "$dynamicAnchor" } do
        local name = schema[keyword]
        if type(name) == "string" then
            local anchors = node.resource.anchors
            if anchors[name] and anchors[name] ~= node then
                self:refuse(("the anchor %s is used twice"):format(value.show(name)))
            end
            anchors[name] = node
            if keyword == "$dynamicAnchor" then
                node.resource.dynamic[name] = node
                self.document.dynamic = true
            end
        end
    end
end

-- ---- keywords ----

local function check_names(self, schema)
    for _, name in ipairs(value.sorted_keys(schema)) do
        local annotation = ANNOTATIONS[name]
        self.at[#self.at + 1] = name
        if annotation then
            if annotation ~= "any" and type(schema[name]) ~= annotation then
                self:refuse(("must be %s, found %s"):format(
                    annotation == "table" and "a table" or "a " .. annotation,
                    value.describe(schema[name])))
            end
        elseif not keywords[name] and name ~= "$ref" and name ~= "$dynamicRef"
            and name:sub(1, 2) ~= "x-" or name == "TYPES" then
            local hint = REMEDIES[name] and "; " .. REMEDIES[name] or near.hint(name, known_names)
            self:refuse("the keyword is not supported" .. hint)
        end
        self.at[#self.at] = nil
    end
end

local function build_definitions(self, schema, keyword)
    local definitions = schema[keyword]
    if definitions == nil then
        return
    end
    if value.kind(definitions) ~= "object" then
        self.at[#self.at + 1] = keyword
        self:refuse("must be an object, found " .. value.describe(definitions))
    end
    for _, name in ipairs(value.sorted_keys(definitions)) do
        self:sub(definitions[name], keyword, name)
    end
end

-- References are resolved when all of the document was read.
local function add_reference(self, node, keyword, reference)
    if type(reference) ~= "string" then
        self:refuse("must be a URI reference in a string")
    end
    local link = { keyword = keyword, reference = reference, node = node, at = self:pointer() }
    self.links[#self.links + 1] = link
    node.checks[#node.checks + 1] = function(ctx, v, kind, seen)
        local target = link.target
        if link.dynamic then -- the outermost schema resource that has the anchor decides
            for _, resource in ipairs(ctx.scope) do
                if resource.dynamic[link.dynamic] then
                    target = resource.dynamic[link.dynamic]
                    break
                end
            end
        end
        return evaluate.here(ctx, target, v, kind, seen)
    end
end

local function build_keyword(self, node, schema, name)
    local argument = schema[name]
    if name == "$ref" or name == "$dynamicRef" then
        add_reference(self, node, name, argument)
        return
    end
    local check = keywords[name](self, node, argument, schema)
    node.checks[#node.checks + 1] = check
end

-- Fills the node of a schema that is a table.
local function fill(self, node, schema)
    local outer = self.node
    self.node = node
    note_anchors(self, schema, node)
    check_names(self, schema)
    build_definitions(self, schema, "$defs")
    build_definitions(self, schema, "definitions")
    for _, name in ipairs(ORDER) do
        if schema[name] ~= nil then
            self:at_steps({ name }, build_keyword, node, schema, name)
        end
    end
    if #node.checks == 0 then
        node.always = true
    end
    self.node = outer
end

--- Gives the node of a schema that stands in a resource; makes it on first sight.
function Compiler:build(schema, resource)
    if type(schema) == "boolean" then
        return { always = schema, inplace = {}, resource = resource, at = self:pointer() }
    end
    if value.kind(schema) ~= "object" then
        self:refuse("expected a schema (an object or a boolean), found " .. value.describe(schema))
    end
    if #self.at > 1000 or self.active[schema] then
        self:refuse("the schema contains itself; write $ref")
    end
    local known = resource and resource.nodes[schema]
    if known then
        return known
    end
    check_dialect(self, schema)
    local own = resource_of(self, schema, resource) or new_resource(self, "", schema)
    local node = { checks = {}, inplace = {}, resource = own, at = self:pointer() }
    own.nodes[schema] = node
    if resource then
        resource.nodes[schema] = node
    end
    self.active[schema] = true
    fill(self, node, schema)
    self.active[schema] = nil
    return node
end

-- ---- references ----

-- Walks a JSON pointer from a resource's schema: the node there, nil if nothing is there.
local function find_pointer(self, resource, text)
    local schema, at = resource.schema, {}
    for step in text:gmatch("/([^/]*)") do
        step = uri.untoken(step)
        if type(schema) ~= "table" then
            return nil
        end
        if value.kind(schema) == "array" then
            schema = rawget(schema, (math.tointeger(tonumber(step)) or -1) + 1)
        else
            schema = rawget(schema, step)
        end
        at[#at + 1] = step
        local id = type(schema) == "table" and rawget(schema, "$id")
        if type(id) == "string" then
            resource = self.resources[uri.resolve(resource.uri, (uri.cut(id)))] or resource
        end
    end
    if schema == nil then
        return nil
    end
    return self:at_steps(at, self.build, schema, resource)
end

local function resolve(self, link)
    local base, fragment = uri.cut(link.reference)
    local home = link.node.resource
    local id = base == "" and home.uri or uri.resolve(home.uri, base)
    local resource = self.resources[id]
    local where = ("#%s: "):format(link.at)
    if not resource then
        error({ refusal = ("%s%s is not part of this schema; only references within it are "
            .. "supported"):format(where, value.show(link.reference)) }, 0)
    end
    fragment = uri.decode(fragment)
    if fragment == "" or fragment:sub(1, 1) == "/" then
        link.target = find_pointer(self, resource, fragment)
    else
        link.target = resource.anchors[fragment]
        if link.keyword == "$dynamicRef" and resource.dynamic[fragment] then
            link.dynamic = fragment
        end
    end
    if not link.target then
        error({ refusal = where .. "there is nothing at " .. value.show(link.reference) }, 0)
    end
end

local function link_all(self)
    local i = 1
    while self.links[i] do -- a target that no keyword led to may bring more
        resolve(self, self.links[i])
        i = i + 1
    end
    for _, link in ipairs(self.links) do
        local list = link.node.inplace
        list[#list + 1] = link.target
        for _, resource in pairs(link.dynamic and self.resources or {}) do
            list[#list + 1] = resource.dynamic[link.dynamic]
        end
    end
end

-- Refuses schemas that would be applied to the same value for ever.
local function check_loops(node, state)
    state[node] = "open"
    for _, target in ipairs(node.inplace) do
        if state[target] == "open" then
            error({ refusal = ("#%s: the schema leads back to itself without going into the value")
                :format(target.at) }, 0)
        elseif not state[target] then
            check_loops(target, state)
        end
    end
    state[node] = "done"
end

--- compile(schema) -> document | nil, message
-- The document has root, tracks (unevaluated* is used), dynamic ($dynamicAnchor is used).
return function(schema)
    local self = setmetatable({
        at = {}, active = {}, resources = {}, links = {}, document = {},
    }, Compiler)
    local ok, err = pcall(function()
        self.document.root = self:build(schema, nil)
        link_all(self)
        local state = {}
        check_loops(self.document.root, state)
        for _, link in ipairs(self.links) do
            if not state[link.node] then
                check_loops(link.node, state)
            end
        end
    end)
    if ok then
        return self.document
    elseif type(err) == "table" and err.refusal then
        return nil, err.refusal
    end
    error(err, 0)
end
