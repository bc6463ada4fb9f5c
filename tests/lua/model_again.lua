-- Deltas that are like the one before but for their text take a shorter way: whoever listens hears the same.
local engine = require "lash.core.engine"
local json = require "lash.json"
local kept = require "support.kept"
local lash = require "lash"
local t = require "t"
local timer = require "lash.core.timer"

local case, equal, ok = t.case, t.equal, t.ok

-- @param shorter whether the shorter way may be taken
-- @return what stream.answer gave, how often that way was taken
local function ask(name, text, shorter, tell)
    local taken = 0
    local function watch(reader)
        local plain, again = reader.plain, reader.again
        function reader.plain(...)
            local what, more = plain(...)
            return what, shorter and more or nil
        end
        reader.again = again and function(...)
            taken = taken + 1
            return again(...)
        end
    end
    local answer, err, words = kept.ask(name, { kept.CHUNKED, kept.chunk(text), kept.END }, watch, tell)
    if answer then
        answer.origin = nil
    end
    return { answer = answer, err = err and { err.code, words } }, taken
end

-- Both ways. @return what is told, how often the shorter one was taken
local function same(name, text, what)
    local results, told, count = {}, { {}, {} }, nil
    for way = 1, 2 do
        results[way], count = ask(name, text, way == 2, function(kind, value)
            table.insert(told[way], { kind, value })
        end)
        ok(way == 2 or name == "openai" or count == 0, count) -- the reader of that one calls it by itself
    end
    equal(results[2], results[1], what)
    equal(told[2], told[1], what)
    return told[2], count
end

case("P2 every stream of the fixtures is told alike", function()
    local root, count = os.getenv "LASH_TESTS" .. "/fixtures/", {}
    for _, pattern in ipairs { "captures/*/*/*.sse", "quirks/*/*.sse" } do
        lash.map(assert(lash.fs.glob(root .. pattern)), function(path)
            local file <close> = assert(io.open(path, "rb"))
            local name = kept.NAMES[path:match "fixtures/%w+/([^/]+)"]
            local _, taken = same(name, file:read "a", path)
            count[name] = (count[name] or 0) + taken
        end, { raise = true, limit = 8 })
    end
    ok(count.openai > 0 and count.openai_chat > 0 and count.anthropic > 0, json.encode(count))
end)

local function event(value)
    return "data: " .. assert(json.encode(value)) .. "\n\n"
end

local function delta(text, more)
    local value = { type = "response.output_text.delta", item_id = "m", output_index = 0, content_index = 0, delta = text }
    for name, field in pairs(more or {}) do
        value[name] = field
    end
    return event(value)
end

local function last(text)
    return event { type = "response.completed", response = { status = "completed", output = json.array {
        { type = "message", id = "m", role = "assistant", content = json.array {
            { type = "output_text", text = text, annotations = json.array {} } } } } } }
end

case("only what is alike in all but its text is taken for that", function()
    local long = ("i"):rep(200)
    local changes = { { output_index = 1 }, { item_id = "n" }, { item_id = long }, { item_id = json.null }, { type = "response.refusal.delta" },
        { type = "response.reasoning_summary_text.delta", summary_index = 0 }, { type = "response.reasoning_summary_text.delta", summary_index = 1 },
        { error = json.null },
        { error = { message = "no" } }, { delta = "" }, { delta = json.null }, { delta = 7 }, { delta = 'a\\"\n\u{e9}\u{1f600}' } }
    for _ = 1, 150 do
        local parts, change = {}, nil
        for i = 1, math.random(20) do
            change = math.random(3) == 1 and changes[math.random(#changes)] or math.random(4) > 1 and change or nil
            parts[i] = math.random(20) == 1 and ": x\n\n"
                or math.random(20) == 1 and event { type = "response.in_progress" } or delta("t" .. i, change)
        end
        local text = table.concat(parts)
        same("openai", text .. (math.random(3) > 1 and last "all" or ""), text)
    end
    local taken = 0
    for _ = 1, 100 do -- a text with escapes goes back as it came
        local parts = { event { type = "message_start", message = { id = "m", role = "assistant", content = json.array {}, usage = {} } },
            event { type = "content_block_start", index = 0, content_block = { type = "text", text = "" } } }
        for i = 1, math.random(10) do
            local piece = ({ "a", "a", "\n", "\n", "b\\" })[math.random(5)] .. (math.random(2) == 1 and i or "")
            parts[#parts + 1] = event { type = "content_block_delta", index = 0, delta = { type = "text_delta", text = piece } }
        end
        parts[#parts + 1] = event { type = "content_block_stop", index = 0 }
        parts[#parts + 1] = event { type = "message_delta", delta = { stop_reason = "end_turn" }, usage = { output_tokens = 1 } }
        parts[#parts + 1] = event { type = "message_stop" }
        local _, count = same("anthropic", table.concat(parts), table.concat(parts))
        taken = taken + count
    end
    ok(taken > 10, taken) -- as a rule 60 and more
    taken = 0
    for _ = 1, 100 do
        local parts = {}
        for i = 1, math.random(12) do
            local piece = { content = ({ "a", "b", "<think>", "</think>", "<", "" })[math.random(6)],
                reasoning = math.random(5) == 1 and "r" or nil }
            parts[i] = event { id = "c" .. i, object = "chat.completion.chunk",
                choices = json.array { { index = math.random(9) == 1 and 1 or 0, delta = piece } } }
        end
        parts[#parts + 1] = event { object = "chat.completion.chunk",
            choices = json.array { { index = 0, delta = {}, finish_reason = "stop" } } } .. "data: [DONE]\n\n"
        local _, count = same("openai_chat", table.concat(parts), table.concat(parts))
        taken = taken + count
    end
    ok(taken > 10, taken) -- as a rule 60 and more
end)

case("T4 a listener that cancels hears no more", function()
    local text = delta("a") .. delta("b") .. delta("c") .. delta("d") .. last "abcd"
    for _, shorter in ipairs { false, true } do
        local heard = {}
        local group <close> = engine.group()
        local task = group:spawn(function()
            ask("openai", text, shorter, function(_, what)
                table.insert(heard, what)
                if #heard == 2 then
                    engine.current():cancel()
                end
            end)
        end)
        pcall(group.wait, group)
        equal(task:result(), false)
        equal(heard, { "a", "b" })
    end
end)

case("a listener may wait, and may raise", function()
    local text = delta("a") .. delta("b") .. delta("c") .. delta("d") .. last "abcd"
    local heard = {}
    local result, taken = ask("openai", text, true, function(_, what)
        timer.sleep(0.002)
        table.insert(heard, what)
    end)
    equal({ result.answer.items[1].text, table.concat(heard, ","), taken }, { "abcd", "a,b,c,d", 4 })
    heard = {}
    local good, err = pcall(ask, "openai", text, true, function(_, what)
        table.insert(heard, what)
        if what == "c" then
            error("oh", 0)
        end
    end)
    equal({ good, err, table.concat(heard, ",") }, { false, "oh", "a,b,c" })
end)

return t.main(...)
