-- Runs a compiled schema over a value.
--
-- A node of the compiled schema has `checks`, a list of functions check(ctx, value, kind, seen) ->
-- ok. ctx knows the path to the value and collects errors; while ctx.quiet > 0 only the answer
-- counts. `seen`, nil unless the document has unevaluated* keywords, says what of the value was
-- looked at so far: { props = {name = true}, all_props =, items = n, all_items =, places = {index
-- = true} }.

local uri = require "lash.schema.uri"
local value = require "lash.schema.value"

local kind_of = value.kind

local M = {}

local ERRORS = 5
local STEPS = 10000000
local DEPTH = 1100 -- json.decode() goes less deep: only a table that contains itself gets there

function M.new_seen()
    return { props = {}, items = 0, places = {} }
end

local function merge_seen(into, from)
    for k in next, from.props do
        into.props[k] = true
    end
    for k in next, from.places do
        into.places[k] = true
    end
    into.items = math.max(into.items, from.items)
    into.all_props = into.all_props or from.all_props
    into.all_items = into.all_items or from.all_items
end

function M.pointer(ctx)
    local parts = {}
    for i = 1, ctx.depth do
        parts[i] = uri.token(tostring(ctx.path[i]))
    end
    return "/" .. table.concat(parts, "/")
end

--- fail(ctx, message [, found]) -> false: notes an error at the current path; with `found` it says
-- what that is.
function M.fail(ctx, message, ...)
    if ctx.quiet > 0 then
        return false
    end
    local errors = ctx.errors
    if #errors >= ERRORS then
        ctx.more = ctx.more + 1
        return false
    end
    if select("#", ...) > 0 then
        message = message .. ", found " .. value.describe((...))
    end
    local path = M.pointer(ctx)
    for _, e in ipairs(errors) do
        if e.path == path and e.message == message then -- two schemas may ask for the same
            return false
        end
    end
    errors[#errors + 1] = { path = path, message = message }
    return false
end

local function run(ctx, node, v, kind, seen)
    local steps = ctx.steps - 1
    ctx.steps = steps
    if steps < 0 then
        return false
    end
    if node.always ~= nil then
        return node.always or M.fail(ctx, "no value is allowed here", v)
    end
    local scope = ctx.scope
    local entered = scope and node.resource ~= scope[#scope]
    if entered then
        scope[#scope + 1] = node.resource
    end
    local ok = true
    local checks = node.checks
    for i = 1, #checks do
        if not checks[i](ctx, v, kind, seen) then
            ok = false
            -- a value of the wrong type needs no further comment
            if ctx.quiet > 0 or (i == 1 and node.typed) then
                break
            end
        end
    end
    if entered then
        scope[#scope] = nil
    end
    return ok
end

--- here(ctx, node, value, kind, seen) -> ok: applies a node to the same value.
function M.here(ctx, node, v, kind, seen)
    if not seen then
        return run(ctx, node, v, kind, nil)
    end
    local mine = M.new_seen()
    local ok = run(ctx, node, v, kind, mine)
    if ok then
        merge_seen(seen, mine)
    end
    return ok
end

--- below(ctx, node, value, step) -> ok: applies a node to a part of the value, whose step is added
-- to the path.
function M.below(ctx, node, v, step)
    local depth = ctx.depth + 1
    if depth > DEPTH then
        ctx.steps = -1
        return false
    end
    ctx.depth = depth
    ctx.path[depth] = step
    local ok = run(ctx, node, v, kind_of(v), ctx.tracks and M.new_seen() or nil)
    ctx.depth = depth - 1
    return ok
end

--- apart(ctx, f, ...) -> ok, errors: like f(ctx, ...), with its errors in a list of their own.
function M.apart(ctx, f, ...)
    local errors, more = ctx.errors, ctx.more
    ctx.errors = {}
    local ok = f(ctx, ...)
    local mine = ctx.errors
    ctx.errors, ctx.more = errors, more
    return ok, mine
end

--- quietly(ctx, f, ...) -> ok, without errors.
function M.quietly(ctx, f, ...)
    ctx.quiet = ctx.quiet + 1
    local ok = f(ctx, ...)
    ctx.quiet = ctx.quiet - 1
    return ok
end

--- evaluate(document, value, steps) -> nil | errors, how many more
function M.evaluate(document, v, steps)
    local ctx = {
        depth = 0, path = {}, errors = {}, more = 0, quiet = 0, steps = steps or STEPS,
        tracks = document.tracks, scope = document.dynamic and {} or nil,
    }
    local seen = ctx.tracks and M.new_seen() or nil
    local ok = run(ctx, document.root, v, kind_of(v), seen)
    if ctx.steps < 0 then
        local message = "the value is nested too deeply, or takes too many steps to check"
        return { { path = "/", message = message } }, 0
    elseif ok then
        return nil
    end
    return ctx.errors, ctx.more
end

return M
