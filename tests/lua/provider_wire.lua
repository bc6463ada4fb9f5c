-- What holds for all protocols alike.
local json = require "lash.json"
local t = require "t"
local wire = require "support.wire"

local case, equal, has, ok = t.case, t.equal, t.has, t.ok

-- file of the provider -> its name, the field of the history, its status for an answer in tests
local ALL = { openai = "openai", openai_chat = "openai-chat", anthropic = "anthropic", gemini = "gemini" }
local HISTORY = { openai = "input", openai_chat = "messages", anthropic = "messages", gemini = "contents" }

-- For each: fn(its file, its name)
local function each(run)
    for _, file in ipairs { "openai", "openai_chat", "anthropic", "gemini" } do
        run(file, ALL[file])
    end
end

local function asked()
    return wire.conversation { { type = "user", text = "hi" } }
end

local function target_of(file, fields)
    local all = { provider_name = ALL[file], label = ALL[file] .. "/m" }
    for name, value in pairs(fields or {}) do
        all[name] = value
    end
    return wire.target(file, all)
end

local function request(file, view, fields, stream)
    local target = target_of(file, fields)
    return target.provider.request(asked(), view or {}, target, stream)
end

-- ---- the user's own fields ----

case("a field of the user's own stays a field, whatever its name is", function()
    each(function(file, name)
        for _, field in ipairs { 'a":1,"b', "a\0b", "a\\", "a\nb", "\xff" } do
            local made = assert(request(file, { system = "s", settings = { [name] = { [field] = 2 } } }))
            local body, err = json.decode(made.body)
            ok(body, name .. ": " .. tostring(err))
            equal(body[field:gsub("\xff", "\u{FFFD}")], 2)
            equal(#body[HISTORY[file]], file == "openai_chat" and 2 or 1)
            equal({ body.a, body.b }, {})
        end
    end)
end)

case("a field of the user's own that cannot be sent is named", function()
    local round = {}
    round.round = round
    each(function(file, name)
        for _, row in ipairs {
            { { tools = 5 }, "tools must be a list" }, { { tools = "x" }, "tools must be a list" },
            { { tools = { a = 1 } }, "tools must be a list" }, { { tools = { print } }, "tools" },
            { { "x" }, "name of a field" }, { { f = print }, "f" }, { { f = round }, "contains itself" },
            { { model = "other" }, "model is lash's own to send" },
        } do
            local made, err = request(file, { settings = { [name] = row[1] } })
            equal(made, nil)
            equal({ err.code, err.exit }, { "bad_request", 64 })
            has(err.message, name .. ": ")
            has(err.message, row[2])
        end
    end)
    local made, err = request("gemini", { settings = { gemini = { generationConfig = 5 } } })
    equal(made, nil)
    has(err.message, "settings.gemini.generationConfig")
    made, err = request("anthropic", { settings = { anthropic = { betas = "a\r\nx-other: 1" } } })
    equal(made, nil)
    has(err.message, "betas")
end)

case("the tables of the user's own fields stay as they are", function()
    each(function(file, name)
        local settings = { [name] = { a = { x = 1 }, tools = { { type = "x" } } },
            there = { a = { y = 2 }, tools = { { type = "y" } } } }
        local before = json.encode(settings)
        for _ = 1, 2 do
            local body = assert(json.decode(assert(request(file, { settings = settings }, { provider_name = "there" })).body))
            equal(body.a, { x = 1, y = 2 })
            equal(body.tools, json.array { { type = "x" }, { type = "y" } })
            equal(json.encode(settings), before)
        end
        equal(json.decode(assert(request(file, { settings = settings })).body).a, { x = 1 })
    end)
end)

case("Chat Completions: options of a stream are sent with a stream only", function()
    local view = { settings = { ["openai-chat"] = { stream_options = { x = 1 } } } }
    equal(json.decode(assert(request("openai_chat", view)).body).stream_options, nil)
    equal(json.decode(assert(request("openai_chat", view, nil, true)).body).stream_options, { include_usage = true, x = 1 })
end)
