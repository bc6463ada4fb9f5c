-- Conversations over all four protocols, several addresses and models of each: whoever comes next gets a
-- request that its server takes, nothing that another one sealed, and the same bytes every time.
local conversation = require "lash.conversation"
local json = require "lash.json"
local replies = require "support.replies"
local rules = require "support.rules"
local t = require "t"
local wire = require "support.wire"

local case, equal, has, ok = t.case, t.equal, t.has, t.ok

local MODULES = { "openai", "openai_chat", "gemini", "anthropic" }
local MODELS = { gemini = { "gemini-3-pro", "gemini-2.5-flash" } }

local function new_target(module, address, n)
    local url = "http://" .. address
    local models = MODELS[module] or { "m1", "m2" }
    return wire.target(module, { base_url = url, origin = url, shown_url = url, model = models[n],
        provider_name = module:gsub("_", "-") })
end

local TARGETS = {}
for _, module in ipairs(MODULES) do
    for _, address in ipairs { "a", "b" } do
        for n = 1, 2 do
            TARGETS[#TARGETS + 1] = new_target(module, address, n)
        end
    end
end

local VIEW = {
    system = "s", settings = { max_tokens = 512 },
    tools = { { name = "f", description = "d", schema = { type = "object" } }, { name = "g", description = "d" } },
}

-- What a conversation may be sent with, beside its history.
local VIEWS = {
    VIEW,
    { settings = {} },
    { system = "s", tools = VIEW.tools, tool_choice = "none", parallel = false, settings = { effort = "low", reasoning = true } },
    { system = "s", tools = VIEW.tools, tool_choice = { name = "g" }, output = { name = "o", schema = { type = "object",
        properties = { n = { type = "integer" } } } }, settings = { max_tokens = 99 } },
    { output = { name = "o", schema = { type = "array", items = { type = "string" } } } },
}

local function label(target)
    return ("%s at %s (%s)"):format(target.provider.name, target.origin, target.model)
end

-- All strings of a value, joined.
local function strings(value, list)
    list = list or {}
    if type(value) == "string" then
        list[#list + 1] = value
    elseif type(value) == "table" then
        for _, field in pairs(value) do
            strings(field, list)
        end
    end
    return list
end

-- What is in the history is in the request: every call with its arguments, every text.
local function check_whole(conv, target, body)
    local calls = rules.calls(target.provider.name, body)
    local texts, n = table.concat(strings(body), "\0"), 0
    for _, entry in ipairs(conv.entries) do
        for _, item in ipairs(entry.items or {}) do
            if item.type == "call" then
                n = n + 1
                ok(calls[n], "call " .. n .. " is missing")
                local args = item.args == "" and {} or json.decode(item.args)
                if type(args) == "table" and getmetatable(args) == nil then
                    equal(calls[n].args, args, "the arguments of call " .. n)
                end
            elseif item.type == "text" or item.type == "outcome" and item.output and item.output:find "^result" then
                has(texts, item.text or item.output)
            end
        end
        if entry.type == "user" then
            has(texts, entry.text)
        end
    end
    equal(#calls, n, "calls in the request")
end

-- The request of one target: taken by its server, nothing foreign, the earlier one continued.
local function check(conv, target, seen)
    local provider, view = target.provider, VIEWS[#conv.entries % #VIEWS + 1]
    local request = assert(provider.request(conv, view, target, #conv.entries % 2 == 0))
    local body = assert(json.decode(request.body))
    rules.check(provider.name, body)
    equal(replies.foreign(target, request.body), nil, "a mark of another")
    local anew = conversation.new(nil)
    anew.entries = conv.entries
    equal(assert(provider.request(anew, view, target, #conv.entries % 2 == 0)).body, request.body, "J4 the same bytes")
    check_whole(conv, target, body)
    local pieces, before = rules.history(provider.name, request.body), seen[target] or {}
    for i, piece in ipairs(before) do
        equal(pieces[i], piece, "piece " .. i .. " of the history changed")
    end
    seen[target] = pieces
    return request.body
end

local visits = 0

-- Each target, or each time another share of them.
local function check_all(conv, seen, what)
    visits = visits + 1
    for _, target in ipairs(t.part(TARGETS, visits, 4)) do
        local fine, err = xpcall(check, debug.traceback, conv, target, seen)
        if not fine then
            error(("%s, as %s gets it: %s\nhistory: %s"):format(what, label(target), err,
                json.encode(conv:items(), { lossy = true })), 0)
        end
    end
end

local STATUSES = { "ok", "ok", "ok", "error", "timeout", "cancelled", "not_run" }
local OUTPUTS = { "result 1", '{"n":9007199254740993,"l":[]}', "[1,2]", "", "42", "result\n漢\0", "result {broken" }

local function outcomes(answer)
    local results = {}
    for i in ipairs(conversation.calls(answer)) do
        results[i] = { STATUSES[math.random(#STATUSES)], OUTPUTS[math.random(#OUTPUTS)] }
    end
    return wire.outcomes(answer, results)
end

local USERS = {
    { type = "user", text = "hello ü" },
    { type = "user", text = "see this", parts = { { type = "text", text = "see this" },
        { type = "image", mime = "image/png", data = "iVBORw0KGgo=" } } },
    { type = "user", text = "", parts = { { type = "image", url = "https://h/x.jpg" } } },
    { type = "note", text = "a note" },
}

local function user(conv)
    local entry = USERS[math.random(#USERS)]
    conv:append(entry.parts and { type = "user", text = entry.text, parts = entry.parts }
        or { type = entry.type, text = entry.text })
    if math.random(6) == 1 then
        conv:append { type = "user", text = "and another" }
    end
end

local function hear(conv, target, body)
    local answer, err = target.provider.read(wire.answer(body), conv, VIEW, target)
    if answer then
        equal({ answer.provider, answer.origin, answer.model }, { target.provider.name, target.origin, target.model })
        conv:append(answer)
    end
    return answer, err
end

-- A conversation by chance; visit(conv, what) before every request.
local function tell(turns, visit)
    local conv, ids = wire.conversation(), {}
    for turn = 1, turns do
        user(conv)
        for round = 1, math.random(3) do
            local target = TARGETS[math.random(#TARGETS)]
            visit(conv, ("turn %d, round %d"):format(turn, round))
            local answer = hear(conv, target, replies.answer(target, ids, round == 3))
            if not answer or not conv.open_calls then
                break
            end
            conv:append(outcomes(answer))
        end
    end
    return conv
end

local SEEDS = t.slower > 1 and 3 or t.times(15, 8)

for part = 1, 4 do
    case(("P3 P4 J1 J4 D9 histories by chance are valid at each protocol (%d)"):format(part), function()
        for seed = part * 1000 + 1, part * 1000 + SEEDS do
            math.randomseed(seed)
            local seen = {}
            tell(6, function(conv, what)
                check_all(conv, seen, ("seed %d, %s"):format(seed, what))
            end)
        end
    end)
end

local BIG = '{"n":9007199254740993,"x":1.0,"e":[],"o":{}}'

-- A round at one target: two calls, of which the second fails.
local function round(conv, target, seen, what)
    check_all(conv, seen, what)
    local answer = assert(hear(conv, target, replies.simple(target, { { "f", BIG }, { "g", "{}" } })))
    equal(#conversation.calls(answer), 2)
    conv:append(wire.outcomes(answer, { "result of " .. label(target), { "error", "result: it failed" } }))
    check_all(conv, seen, what)
end

local function pairs_of(from)
    for _, to in ipairs(TARGETS) do
        if to.provider ~= from.provider and to.model == from.model or to.provider ~= from.provider and to.origin == "http://a" then
            local conv, seen = wire.conversation { { type = "user", text = "go" } }, {}
            local what = ("from %s to %s"):format(label(from), label(to))
            round(conv, from, seen, what)
            round(conv, to, seen, what)
            round(conv, from, seen, what .. " and back")
            assert(hear(conv, to, replies.simple(to, {})))
            conv:append { type = "user", text = "more" }
            round(conv, to, seen, what .. ", next turn")
        end
    end
end

for i, module in ipairs(MODULES) do
    case("P4 handoffs within a turn from " .. module:gsub("_", "-") .. " to each of the others and back", function()
        pairs_of(TARGETS[i * 4 - 3])
    end)
end

case("P4 P3 a long tour over all protocols, addresses and models and back", function()
    local conv, seen = wire.conversation { { type = "user", text = "go" } }, {}
    for lap = 1, 2 do
        for n = 1, #TARGETS do
            local i = (n * (lap == 1 and 5 or 11)) % #TARGETS + 1 -- another protocol each time
            round(conv, TARGETS[i], seen, ("lap %d, stop %d"):format(lap, n))
            if n % 5 == 0 then
                assert(hear(conv, TARGETS[i], replies.simple(TARGETS[i], {})))
                conv:append { type = "user", text = "on" }
            end
        end
    end
    equal(#conversation.calls(conv.entries[2]), 2)
end)

case("P4 P3 what was sealed is left out once it was refused, and the history stays valid", function()
    for _, module in ipairs(MODULES) do
        local target = new_target(module, "a", 1)
        if target.provider.forget then
            local conv = wire.conversation { { type = "user", text = "go" } }
            round(conv, target, {}, module)
            for _, other in ipairs(TARGETS) do
                round(conv, other, {}, module)
            end
            local before = #conv.entries
            equal(target.provider.forget(conv), true, module)
            equal(target.provider.forget(conv), false, module)
            local body = assert(target.provider.request(conv, VIEW, target)).body
            rules.check(target.provider.name, json.decode(body))
            ok(not body:find "sealed_mk" and not body:find '[sS]ignature":"mk', body)
            -- what comes afterwards goes back whole
            assert(hear(conv, target, replies.simple(target, { { "f", BIG } })))
            conv:append(wire.outcomes(conv.entries[before + 1], { "result" }))
            rules.check(target.provider.name, json.decode(assert(target.provider.request(conv, VIEW, target)).body))
        end
    end
end)

case("J4 the bytes of a conversation over all protocols are the same in another process", function()
    local program = [[
        package.path = os.getenv "LASH_TESTS" .. "/lua/?.lua;" .. package.path
        arg = { [0] = "x", "--bytes" }
        require "provider_cross_random"
    ]]
    local path = t.file(program, ".lua")
    local function run()
        local pipe = assert(io.popen(("'%s' '%s'"):format(os.getenv "LASH", path)))
        local text = pipe:read "a"
        assert(pipe:close())
        return text
    end
    local first = run()
    ok(#first > 20000, #first)
    has(first, '"contents":[')
    has(first, '"messages":[')
    equal(run(), first)
end)

if ... == "provider_cross_random" then -- required by that process
    math.randomseed(42)
    local conv = tell(4, function() end)
    conv:append { type = "user", text = "last" }
    for _, target in ipairs(TARGETS) do
        print((assert(target.provider.request(conv, VIEW, target)).body))
    end
    return true
end

return t.main(...)
