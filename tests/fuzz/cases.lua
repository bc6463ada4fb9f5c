-- The checks of whole streams that tests/unit/test_streams.c runs, and the inputs of tests/fuzz/stream.c.
local checks = require "checks"
local conversation = require "lash.conversation"
local json = require "lash.json"
local mutate = require "mutate"
local seeds = require "seeds"
local sizes = require "sizes"
local sse = require "sse"

local M = {}

local SHOW = os.getenv "LASH_FUZZ_SHOW" -- the stream too

-- Calls check(...) and says of which stream a failure is.
local function about(what, check, ...)
    local ok, why = xpcall(check, debug.traceback, ...)
    if not ok then
        error(("%s: %s"):format(what, tostring(why)), 0)
    end
    return why
end

local function streams(name)
    local list = seeds.fixtures(name)
    list[#list + 1] = { path = "the small stream of " .. name, text = seeds.SMALL[name], calls = seeds.CALLS }
    return list
end

local function expect_calls(outcome)
    local calls = conversation.calls(assert(outcome.answer, outcome.err and outcome.err.message))
    assert(#calls == #seeds.CALLS, "not so many calls")
    for i, call in ipairs(calls) do
        checks.same(call.name, seeds.CALLS[i].name, "name")
        checks.same(json.decode(call.args), json.decode(seeds.CALLS[i].args), "args")
    end
    assert(conversation.text(outcome.answer) == seeds.TEXT, "another text")
    assert(table.concat(outcome.told.text) == seeds.TEXT, "another text was told")
    assert(outcome.answer.stop == "calls")
end

--- splits(): every stream split in two at every offset, and into pieces of each length up to 32, gives the same
-- events. @return how many streams there were
function M.splits()
    local count = 0
    for _, name in ipairs(checks.PROTOCOLS) do
        for _, stream in ipairs(streams(name)) do
            local at = sse.unequal(stream.text)
            assert(not at, ("%s: other events when it is split at %s"):format(stream.path, at))
            for size = 1, 32 do
                about(stream.path, checks.same_split, stream.text, size)
            end
            local outcome = about(stream.path, checks.stream, name, stream.text, 1)
            if stream.calls then
                about(stream.path, expect_calls, outcome)
            end
            count = count + 1
        end
    end
    return count
end

-- Where a stream is cut to try it: everywhere, or of the places within a line every n-th, and those within a
-- character or a line end.
local function cuts(text, every)
    local at = 0
    return function()
        repeat
            at = at + 1
        until at > #text or at % every == 0 or text:find("^[\x80-\xbf\r\n]", at)
        return at <= #text and at or nil
    end
end

--- answers(_, runs): the small streams, split at every offset, are read to the same answer.
function M.answers(_, runs)
    local count = 0
    for _, name in ipairs(checks.PROTOCOLS) do
        local text = seeds.SMALL[name]
        local events, stray = sse.parse(text)
        local want = checks.read(name, events, stray)
        for at in cuts(text, runs < 10000 and 37 or 1) do
            events, stray = sse.parse(text, { at })
            checks.same(want, checks.read(name, events, stray), name .. " split at " .. at)
        end
        count = count + 1
    end
    return count
end

--- truncations(_, runs): P6, no stream that was cut before its end marker gives an answer.
function M.truncations(_, runs)
    local count = 0
    for _, name in ipairs(checks.PROTOCOLS) do
        for _, stream in ipairs(streams(name)) do
            for at in cuts(stream.text, runs < 10000 and 97 or 1) do
                about(("%s, the first %d bytes"):format(stream.path, at), function()
                    local events, stray = sse.parse(stream.text:sub(1, at))
                    checks.read(name, events, stray)
                end)
            end
            count = count + 1
        end
    end
    return count
end

-- A copy without line feeds: where JSON text is kept as it came, they are but space.
local function flat(value)
    if type(value) ~= "table" then
        return type(value) == "string" and value:gsub("\n", "") or value
    end
    local copy = {}
    for key, one in pairs(value) do
        copy[key] = flat(one)
    end
    return copy
end

--- disguises(seed, times): other line ends, comments, several data lines: the same answer.
function M.disguises(seed, times)
    local random = mutate.random(seed)
    for _, name in ipairs(checks.PROTOCOLS) do
        for _, stream in ipairs(streams(name)) do
            local events, stray = sse.parse(stream.text)
            local want = flat(checks.read(name, events, stray))
            for i = 1, times do
                local text = mutate.disguise(stream.text, random, name)
                local what = ("%s, disguise %d of seed %d%s"):format(stream.path, i, seed, SHOW and ":\n" .. text or "")
                about(what, function()
                    local other, rest = checks.same_split(text, mutate.pieces(random, #text))
                    checks.same(want, flat(checks.read(name, other, rest)), "outcome")
                end)
            end
        end
    end
end

--- mutations(seed, times) -> answers, errors: streams that were changed at random, in random pieces.
function M.mutations(seed, times)
    local random = mutate.random(seed)
    local names, all = checks.PROTOCOLS, {}
    for _, name in ipairs(names) do
        all[name] = streams(name)
    end
    local answers, errors = 0, 0
    for i = 1, times do
        local name = names[random(#names)]
        local stream = all[name][random(#all[name])]
        local text = mutate.harm(stream.text, random)
        local what = ("%s, mutation %d of seed %d%s"):format(stream.path, i, seed, SHOW and ":\n" .. text or "")
        local outcome = about(what, function()
            local outcome = checks.stream(name, text, mutate.pieces(random, #text), true)
            if outcome.answer then
                checks.follow(names[random(#names)], outcome)
            end
            return outcome
        end)
        answers = answers + (outcome.answer and 1 or 0)
        errors = errors + (outcome.err and 1 or 0)
    end
    return answers, errors
end

M.linear, M.large = sizes.linear, sizes.large

-- ---- inputs of the fuzzer: three bytes of how, then the stream ----

local STATUS = { 200, 400, 429, 500 }

--- input(bytes): one input of the fuzzer.
function M.input(bytes)
    local kind, a, b = bytes:byte(1, 3)
    local name = checks.PROTOCOLS[kind and kind % 4 + 1]
    if not b then
        return
    end
    local text, random = bytes:sub(4), mutate.random(a << 8 | b)
    local status = kind // 4 % 4 == 3 and STATUS[random(#STATUS)]
    about(("%s, %s:\n%s"):format(name, status or "a stream", text), function()
        local outcome = status and checks.read_whole(name, text, status)
            or checks.stream(name, text, mutate.pieces(random, #text), true)
        if outcome.answer then
            checks.follow(checks.PROTOCOLS[kind // 16 % 4 + 1], outcome)
        end
    end)
end

--- change(bytes, seed) -> bytes: another input
function M.change(bytes, seed)
    return bytes:sub(1, 3) .. mutate.harm(bytes:sub(4), mutate.random(seed))
end

--- write_seeds(dir): the first inputs, as files
function M.write_seeds(dir)
    for i, name in ipairs(checks.PROTOCOLS) do
        for n, stream in ipairs(streams(name)) do
            local file = assert(io.open(("%s/%s-%d"):format(dir, name, n), "wb"))
            assert(file:write(string.char(i - 1, 0, n % 256), stream.text))
            assert(file:close())
        end
    end
end

return M
