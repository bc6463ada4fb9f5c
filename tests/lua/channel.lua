-- lash.channel: order, capacity, closing, and that a cancelled wait loses no value.
local t = require "t"
local engine = require "lash.core.engine"
local lash = require "lash"
local sides = require "support.sides"

local both = sides.both

-- Lets others run until they all wait.
local function settle()
    for _ = 1, 6 do
        lash.sleep(0)
    end
end

local function result(task)
    task:wait()
    return select(2, task:result())
end

both("channel: capacity 0 hands over; send returns when the value was taken", function()
    local ch = lash.channel()
    local log = {}
    local sender = lash.spawn(function()
        for i = 1, 3 do
            log[#log + 1] = "send " .. i
            t.equal(ch:send(i), true)
        end
    end)
    settle()
    t.equal({ #log, #ch }, { 1, 1 })
    for i = 1, 3 do
        t.equal(ch:receive(), i)
    end
    settle()
    t.equal({ #log, #ch, sender:status() }, { 3, 0, "done" })
    local receiver = lash.spawn(ch.receive, ch)
    settle()
    t.equal({ receiver:status(), ch:send("x") }, { "waiting", true })
    t.equal(result(receiver), "x")
end)

both("channel: a full one makes senders wait, in order", function()
    local ch = lash.channel(2)
    t.equal({ ch:send(1), ch:send(2), ch:try_send(0) }, { true, true, nil, "full" })
    local senders = {}
    for i = 3, 6 do
        senders[i] = lash.spawn(ch.send, ch, i)
    end
    settle()
    t.equal({ #ch, senders[3]:status() }, { 6, "waiting" })
    for i = 1, 6 do
        t.equal(ch:receive(), i)
    end
    for i = 3, 6 do
        t.equal(result(senders[i]), true)
    end
    t.equal({ ch:try_receive() }, { nil, "empty" })
end)

both("channel: receivers are served in order", function()
    for capacity = 0, 1 do
        local ch = lash.channel(capacity)
        local got = {}
        local receivers = {}
        for i = 1, 5 do
            receivers[i] = lash.spawn(function()
                local value = ch:receive()
                got[#got + 1] = { i, value }
            end)
        end
        settle()
        for i = 1, 5 do
            ch:send(i * 10)
        end
        settle()
        t.equal(got, { { 1, 10 }, { 2, 20 }, { 3, 30 }, { 4, 40 }, { 5, 50 } })
    end
end)

both("channel: one that waited does not lose its value to one that comes later", function()
    local ch = lash.channel(1)
    local first = lash.spawn(ch.receive, ch)
    settle()
    ch:send("for the first") -- it was woken, but did not run yet
    t.equal({ ch:try_receive() }, { nil, "empty" })
    local second = lash.spawn(ch.receive, ch)
    settle()
    t.equal({ result(first), second:status() }, { "for the first", "waiting" })
    ch:send("for the second")
    t.equal(result(second), "for the second")
end)

both("channel: every value of every kind arrives as it was", function()
    local ch = lash.channel(10)
    local table_, fn = {}, function() end
    for _, value in ipairs { false, 0, 0.0, "", table_, fn, ch } do
        ch:send(value)
        local got = ch:receive()
        t.ok(rawequal(got, value) and math.type(got) == math.type(value))
    end
end)

both("channel: try_send and try_receive do not wait", function()
    local ch = lash.channel()
    t.equal({ ch:try_send(1) }, { nil, "full" })
    local receiver = lash.spawn(ch.receive, ch)
    settle()
    t.equal({ ch:try_send("taken"), ch:try_send("one too many") }, { true, nil, "full" })
    t.equal(result(receiver), "taken")
    local sender = lash.spawn(ch.send, ch, "waits")
    settle()
    t.equal({ ch:try_receive() }, { "waits" })
    t.equal(result(sender), true)
    -- what a sender waits with comes before what is tried later
    local receivers = { lash.spawn(ch.receive, ch), lash.spawn(ch.receive, ch) }
    settle()
    local first = lash.spawn(ch.send, ch, "first")
    lash.sleep(0)
    ch:try_send("second")
    t.equal({ result(receivers[1]), result(receivers[2]), result(first) }, { "first", "second", true })
end)

both("channel: close ends receivers when it is empty, and senders at once", function()
    local ch = lash.channel(1)
    ch:send("stored")
    local sender = lash.spawn(function() return { ch:send("too late") } end)
    settle()
    ch:close()
    ch:close()
    t.equal(result(sender), { nil, "closed" })
    t.equal({ ch:send(1) }, { nil, "closed" })
    t.equal({ ch:try_send(1) }, { nil, "closed" })
    t.equal({ ch:receive() }, { "stored" })
    t.equal({ ch:receive() }, { nil, "closed" })
    t.equal({ ch:try_receive() }, { nil, "closed" })
    local empty = lash.channel()
    local receivers = {}
    for i = 1, 3 do
        receivers[i] = lash.spawn(function() return { empty:receive() } end)
    end
    settle()
    empty:close()
    for i = 1, 3 do
        t.equal(result(receivers[i]), { nil, "closed" })
    end
    local scope
    do
        local own <close> = lash.channel()
        scope = lash.spawn(function() return { own:receive() } end)
        settle()
    end
    t.equal(result(scope), { nil, "closed" })
end)

both("channel: values() until it is closed", function()
    local ch = lash.channel(3)
    lash.spawn(function()
        for i = 1, 10 do
            ch:send(i)
        end
        ch:close()
    end)
    local sum = 0
    for value in ch:values() do
        sum = sum + value
    end
    t.equal(sum, 55)
end)

t.case("T4 channel: a cancelled sender takes its value back, a cancelled receiver loses none", function()
    local ch = lash.channel()
    local senders = {}
    for i = 1, 3 do
        senders[i] = lash.spawn(ch.send, ch, i)
    end
    settle()
    senders[2]:cancel()
    t.equal({ ch:receive(), ch:receive(), #ch }, { 1, 3, 0 })
    local receivers = {}
    for i = 1, 3 do
        receivers[i] = lash.spawn(ch.receive, ch)
    end
    settle()
    receivers[1]:cancel()
    ch:send("a")
    t.equal(result(receivers[2]), "a")
    -- woken, and cancelled before it could take what it was woken for: the next one gets it
    t.equal(ch:try_send("b"), true)
    receivers[3]:cancel()
    t.equal({ ch:receive() }, { "b" })
    for _, task in ipairs { senders[2], receivers[1], receivers[3] } do
        task:wait()
        t.equal(engine.cancel_reason(select(2, task:result())), "user")
    end
    -- the same with others that wait already
    local buffered = lash.channel(5)
    for i = 1, 4 do
        receivers[i] = lash.spawn(buffered.receive, buffered)
    end
    settle()
    buffered:send("x")
    buffered:send("y")
    receivers[1]:cancel()
    receivers[2]:cancel()
    t.equal({ result(receivers[3]), result(receivers[4]), #buffered }, { "x", "y", 0 })
end)

t.case("T4 channel: one that was woken for a sender that is cancelled waits on, before the others", function()
    local ch = lash.channel()
    local first, second = lash.spawn(ch.receive, ch), lash.spawn(ch.receive, ch)
    settle()
    local sender = lash.spawn(ch.send, ch, "taken back") -- it wakes the first, which runs after the next line
    local killer = lash.spawn(function() sender:cancel() end)
    settle()
    t.equal({ killer:status(), sender:cancelled(), first:status(), second:status() },
        { "done", "user", "waiting", "waiting" })
    ch:send("a")
    ch:send("b")
    t.equal({ result(first), result(second), #ch }, { "a", "b", 0 })
    sender:result()
end)

t.case("T4 channel: random cancels lose no value and double none", function()
    local state = 12345
    local function random(n)
        state = (state * 1103515245 + 12345) % 2147483648
        return state // 65536 % n
    end
    for capacity = 0, 3 do
        local ch = lash.channel(capacity)
        local sent, got, count = {}, {}, 0
        local tasks = {}
        local function note_sent(value)
            local mark <close> = setmetatable({}, { __close = function(_, err)
                sent[value] = err == nil or "perhaps" -- cancelled after it was stored, or before
            end })
            ch:send(value)
        end
        local function note_got()
            local value = ch:receive()
            got[#got + 1] = value
        end
        for round = 1, 400 do
            count = count + 1
            tasks[#tasks + 1] = lash.spawn(note_sent, count)
            tasks[#tasks + 1] = lash.spawn(note_got)
            if random(3) == 0 then
                tasks[#tasks - random(2)]:cancel()
            end
            if random(2) == 0 then
                lash.sleep(0)
            end
            if random(3) == 0 then
                tasks[#tasks - random(math.min(#tasks, 6))]:cancel()
            end
        end
        settle()
        for value in function() return (ch:try_receive()) end do -- what is left
            got[#got + 1] = value
        end
        ch:close()
        local seen = {}
        for _, value in ipairs(got) do
            t.ok(not seen[value], "received twice: " .. value)
            t.ok(sent[value], "received, but never sent: " .. value)
            seen[value] = true
        end
        for value = 1, count do
            t.ok(sent[value] ~= true or seen[value], "lost: " .. value)
        end
        t.ok(#got > 100)
        for _, task in ipairs(tasks) do
            task:wait()
        end
    end
end)

t.case("channel: tasks that wait for nobody are told of the standstill", function()
    local ok, err = pcall(function() lash.channel():receive() end)
    t.equal({ ok, engine.cancel_reason(err) }, { false, "stall" })
end)

t.case("misuse is refused, naming the remedy", function()
    local ch = lash.channel()
    t.raises("nil cannot be sent", ch.send, ch, nil)
    t.raises("nil cannot be sent", ch.try_send, ch)
    t.has(t.raises(nil, function() ch:send(nil) end), "tests/lua/channel.lua:")
    t.raises("a capacity is 0", lash.channel, -1)
    t.raises("number", lash.channel, "x")
    t.raises("lash.channel expected", ch.send, {}, 1)
    t.raises("captured local 'ch' is userdata of type 'lash.channel', which cannot travel to a worker: a channel joins "
        .. "tasks, not threads: pass values as arguments and results, or through lash.shared",
        lash.tool, { name = "x", sync = function() return ch end })
    t.raises("cannot wait here", string.gsub, "a", "a", function() ch:receive() end)
    t.raises("cannot wait here", string.gsub, "a", "a", function() ch:send(1) end)
    t.equal(#ch, 0)
end)

t.case("D15 channel: a script that takes it apart with the debug library does no harm", function()
    local ch = lash.channel()
    local sender = lash.spawn(ch.send, ch, 1)
    local receiver = lash.spawn(ch.receive, lash.channel())
    settle()
    debug.setuservalue(ch, 5, 1)
    t.raises("taken away", ch.receive, ch)
    local methods = debug.getmetatable(ch)
    methods.__gc(ch)
    t.equal({ ch:receive() }, { nil, "closed" })
    sender:cancel()
    receiver:cancel()
    sender:wait()
    receiver:wait()
    sender:result()
    receiver:result()
end)

t.case("channels leave nothing behind", function()
    t.keeps_memory(function()
        local ch = lash.channel(4)
        local tasks = {}
        for i = 1, 300 do
            tasks[#tasks + 1] = lash.spawn(ch.send, ch, { i })
            tasks[#tasks + 1] = i % 3 > 0 and lash.spawn(ch.receive, ch) or nil
            lash.sleep(0)
        end
        for _, task in ipairs(tasks) do
            task:cancel()
        end
        for _, task in ipairs(tasks) do
            task:wait()
        end
        for i = 1, 5000 do
            ch:try_send(i)
            ch:try_receive()
        end
    end)
end)

return t.main(...)
