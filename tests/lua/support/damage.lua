--- What a server sends with one place changed: for the tests that nothing a server can send makes a provider raise.
local json = require "lash.json"
local t = require "t"
local wire = require "support.wire"

local M = {}

--- What may stand instead of a value, as JSON texts.
M.VALUES = { "null", "true", "false", "0", "-1", "-1.5", "7", "1e300", "9007199254740993", "12345678901234567890123",
    '""', '"x"', '"9"', '"\\u0000"', '"{}"', '"<think>"', "[]", "[1]", "[null]", "[[]]", "[[{}]]", "{}", '{"a":1}',
    '{"type":"x"}', '[{"type":"text","text":7}]', '[{"type":"output_text","text":7}]',
    '[{"index":0,"id":"z","function":{"name":"f","arguments":"{}"}}]' }

--- Every path to a value in this JSON text: lists of keys and indexes.
function M.paths(text)
    local all = {}
    local function walk(value, path)
        all[#all + 1] = path
        for key, part in pairs(type(value) == "table" and value or {}) do
            local deeper = table.move(path, 1, #path, 1, {})
            deeper[#path + 1] = key
            walk(part, deeper)
        end
    end
    walk(assert(json.decode(text)), {})
    return all
end

--- The text with the value at that path replaced by a JSON text, or left out without one.
function M.replaced(text, path, with)
    if #path == 0 then
        return with or ""
    end
    local top = assert(json.decode(text))
    local at = top
    for i = 1, #path - 1 do
        at = at[path[i]]
    end
    local key = path[#path]
    if with then
        at[key] = assert(json.verbatim(with))
    elseif math.type(key) == "integer" then
        table.remove(at, key)
    else
        at[key] = nil
    end
    return wire.encode(top)
end

--- Calls visit(text, words) with texts that differ from this one in one place, and words for the place. All of
-- them in `make check-all`, else one of `share` (3) of the values for each place.
-- @return how many
function M.each(text, visit, share)
    local count = 0
    local function change(path, with)
        count = count + 1
        visit(M.replaced(text, path, with), ("%s = %s"):format(table.concat(path, "."), with or "nothing"))
    end
    for turn, path in ipairs(M.paths(text)) do
        for _, with in ipairs(t.part(M.VALUES, turn, share or 3)) do
            change(path, with)
        end
        change(path, nil)
    end
    return count
end

--- Fails unless it is an error as commands and scripts expect it.
function M.check_error(err, words)
    t.equal(type(err), "table", words)
    t.ok(type(err.message) == "string" and err.message ~= "", words)
    t.ok(type(err.code) == "string", words)
    t.equal(math.type(err.exit), "integer", words)
end

local STOPS = { ["end"] = true, calls = true, length = true, filter = true, refusal = true, error = true }

local function check_answer(answer, words)
    t.ok(STOPS[answer.stop], words)
    for _, item in ipairs(answer.items) do
        if item.type == "call" then
            t.ok(type(item.id) == "string" and #item.id > 0 and #item.id <= 64, words)
            t.ok(type(item.name) == "string" and type(item.args) == "string", words)
        elseif item.type ~= "opaque" then
            t.ok(item.type == "text" or item.type == "reasoning" or item.type == "refusal", words)
            t.equal(type(item.text), "string", words)
        end
    end
    for _, count in pairs(answer.usage) do
        t.ok(math.type(count) == "integer" and count >= 0, words)
    end
end

--- Fails unless it is an answer, which can be sent again to each of these targets, or an error.
-- @return the bodies that are sent, decoded; nothing for an error
function M.check(conv, answer, err, targets, words)
    if not answer then
        M.check_error(err, words)
        return nil
    end
    check_answer(answer, words)
    conv:append(answer)
    local results = {}
    for i = 1, #answer.items do
        results[i] = "ok"
    end
    local outcomes = wire.outcomes(answer, results)
    if outcomes.items[1] then
        conv:append(outcomes)
    end
    conv:append { type = "user", text = "y" }
    local bodies = {}
    for i, target in ipairs(targets) do
        local request = assert(target.provider.request(conv, {}, target))
        bodies[i] = assert(json.decode(tostring(request.body)), words)
    end
    return bodies
end

return M
