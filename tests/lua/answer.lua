-- The answer of ask while it comes: what reaches stdout, whatever the pieces are.
local t = require "t"
local system = require "lash.core.system"
local answers = require "lash.cmd.answer"
local text = require "lash.text"

local isatty, kind = system.isatty, system.kind
local AGENT = { tools = {} }

-- An answer whose stdout is a "tty", "pipe" or "file"; the list of what it writes.
local function new(stdout, options)
    options = options or {}
    local writes = {}
    system.isatty = function() return stdout == "tty" end
    system.kind = function() return stdout end
    local answer = answers.new {
        raw = options.raw,
        agent = function() return options.agent or AGENT end,
        screen = {
            out = function(_, piece)
                if piece ~= "" then
                    writes[#writes + 1] = piece
                end
            end,
            end_line = function()
                if writes[1] and writes[#writes]:sub(-1) ~= "\n" then
                    writes[#writes + 1] = "\n"
                end
            end,
        },
    }
    system.isatty, system.kind = isatty, kind
    return answer, writes
end

local function say(answer, turn, pieces, stop)
    answer:event { type = "model.request", turn = turn }
    for _, piece in ipairs(pieces) do
        answer:event { type = "text", delta = piece }
    end
    answer:event { type = "model.end", stop = stop or "end" }
end

local NASTY = "Gr\u{FC}\u{DF}e \u{2713}\r\n\u{1F600}\27[2J a\rb \u{202E}c\u{9B}\tend"

t.case("answer: on a terminal any split of the bytes writes whole characters, all the same", function()
    local want = text.plain(NASTY) .. "\n"
    local function check(pieces)
        local answer, writes = new "tty"
        say(answer, 1, pieces)
        answer:finish(NASTY)
        t.equal(table.concat(writes), want)
        for _, piece in ipairs(writes) do
            t.ok(utf8.len(piece), ("%q is cut"):format(piece))
        end
    end
    for at = 0, #NASTY do
        check { NASTY:sub(1, at), NASTY:sub(at + 1) }
        for to = at, #NASTY do
            check { NASTY:sub(1, at), NASTY:sub(at + 1, to), NASTY:sub(to + 1) }
        end
    end
    local bytes = {}
    for i = 1, #NASTY do
        bytes[i] = NASTY:sub(i, i)
    end
    check(bytes)
end)

t.case("answer: on a terminal nothing is kept back but the pieces of a character", function()
    local answer, writes = new "tty"
    answer:event { type = "model.request", turn = 1 }
    for i, piece in ipairs { "a", "b\xE2", "\x9C", "\x93c", "\r", "\n" } do
        answer:event { type = "text", delta = piece }
        t.equal(table.concat(writes), ({ "a", "ab", "ab", "ab\u{2713}c", "ab\u{2713}c", "ab\u{2713}c\n" })[i])
    end
    answer, writes = new("tty", { raw = true })
    say(answer, 1, { "a\27[1m", "\xFF" })
    answer:finish("a\27[1m\xFF")
    t.equal(table.concat(writes), "a\27[1m\xFF\n")
    answer, writes = new "tty" -- bytes that are no text do not stay
    say(answer, 1, { "a\xFF\xFE", "b\xE2" })
    answer:finish("a\xFF\xFEb\xE2")
    t.equal(table.concat(writes), "a\u{FFFD}\u{FFFD}b\u{FFFD}\n")
end)

t.case("answer: texts of several turns are apart, and none is written twice", function()
    local answer, writes = new "tty"
    say(answer, 1, { "Let me see." }, "calls")
    say(answer, 2, {}, "calls")
    say(answer, 3, { "Do", "ne.\n" })
    answer:finish("Done.\n")
    t.equal(table.concat(writes), "Let me see.\n\nDone.\n")
    answer, writes = new "tty" -- a limit: the last text is the result
    say(answer, 1, { "So far." }, "calls")
    answer:event { type = "model.request", turn = 2 }
    answer:finish("So far.")
    t.equal(table.concat(writes), "So far.\n")
    answer, writes = new "tty" -- more than what was told, as a refusal
    say(answer, 1, { "I would, " })
    answer:finish("I would, but no.")
    t.equal(table.concat(writes), "I would, \nbut no.\n")
    answer, writes = new "tty" -- broken off
    answer:event { type = "model.request", turn = 1 }
    answer:event { type = "text", delta = "Ha" }
    answer:finish("Ha")
    t.equal(table.concat(writes), "Ha\n")
end)

t.case("answer: a pipe gets whole lines, a file everything at the end, as it is", function()
    local answer, writes = new "pipe"
    answer:event { type = "model.request", turn = 1 }
    for i, piece in ipairs { "on", "e\nt", "wo\nthree\n", "\27" } do
        answer:event { type = "text", delta = piece }
        t.equal(table.concat(writes), ({ "", "one\n", "one\ntwo\nthree\n", "one\ntwo\nthree\n" })[i])
    end
    answer:finish("one\ntwo\nthree\n\27")
    t.equal(table.concat(writes), "one\ntwo\nthree\n\27\n")
    for _, case in ipairs { { "file" }, { "pipe", { tools = { 1 } } }, { "pipe", { tools = {}, handoffs = {} } },
        { "pipe", { tools = {}, output = {} } }, { "tty", { tools = {}, output = {} } } } do
        answer, writes = new(case[1], { agent = case[2] })
        t.equal({ answer:wants(), answer:may_want() }, { false, false })
        say(answer, 1, { "one\n", "two" })
        t.equal(#writes, 0)
        answer:finish("one\ntwo")
        t.equal(writes, { "one\ntwo\n" })
    end
    t.equal(new("tty", { agent = { tools = {}, output = {}, handoffs = {} } }):may_want(), true)
    answer, writes = new "pipe"
    answer:finish("")
    t.equal(writes, {})
end)

t.case("answer: a pipe gets long lines in a time that grows with their length, not with its square", function()
    local long = ("x"):rep(64 << 10)
    local answer, writes = new "pipe"
    local started = os.clock()
    for _ = 1, 4 do
        say(answer, 1, { long, "\nnext", "\n" })
    end
    local seconds = os.clock() - started
    answer:finish((long .. "\nnext\n"):rep(4))
    t.equal(#table.concat(writes), 4 * (#long + 6))
    t.ok(seconds < 2 * t.slower, ("%g s"):format(seconds))
end)

return t.main(...)
