--- Random JSON texts of answers: most often what servers write, now and then something else.
local json = require "lash.json"
local wire = require "support.wire"

local M = {}

local function pick(list)
    return list[math.random(#list)]
end

-- Most often what OpenAI writes, now and then something else.
local function some(usual, ...)
    local odd = { ... }
    return math.random(50) > 1 and usual or pick(odd)
end

-- JSON text of an object, of a list of { name, text }; some fields are missing, come twice or at another place.
local function object(fields)
    local parts = {}
    for _, field in ipairs(fields) do
        local times = some(1, 1, 1, 0, 2)
        for _ = 1, times do
            local name = math.random(400) > 1 and field[1] or ("\\u%04x"):format(field[1]:byte()) .. field[1]:sub(2)
            table.insert(parts, math.random(60) > 1 and #parts + 1 or 1, ('"%s":%s'):format(name, field[2]))
        end
    end
    return "{" .. table.concat(parts, some(",", " ,\n")) .. "}"
end

-- A fault in some texts.
local function broken(body)
    local at = math.random(#body)
    return some(body, body:sub(1, at - 1), body:sub(1, at) .. "\255" .. body:sub(at + 1), body .. "x", "[" .. body .. "]",
        body:sub(1, at - 1) .. body:sub(at + 1))
end

local function conversation()
    return wire.conversation {
        { type = "user", text = "?" },
        { type = "answer", provider = "x", items = { { type = "call", id = "old", name = "noop", args = "{}" } } },
        { type = "outcomes", items = { { type = "outcome", id = "old", name = "noop", status = "ok", output = "1" } } },
    }
end

-- What a reading gives, as a text.
local function shown(answer, err)
    return answer and json.encode(answer, { lossy = true }) or "nil " .. tostring(err)
end

M.pick, M.some, M.object, M.broken, M.conversation, M.shown = pick, some, object, broken, conversation, shown

return M
