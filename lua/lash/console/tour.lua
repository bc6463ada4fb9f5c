--- `.tour`: five things in two minutes, without a key. Each step says what it shows, and what to type; Enter alone
-- types it.
local read = require "lash.console.read"

local M = {}

local STEPS = {
    { [[
1. Lua. Every line is a task, and its results are shown.]],
        "{ sum = 1 + 1, files = #lash.fs.list('.') }" },
    { [[
2. A tool is a named function with a schema. `sync` runs on a worker thread: it may burn a core.
   Here is one that takes about half a second.]],
        [[local count_primes = lash.tool {
  name = "count_primes", description = "How many primes are below n", params = { n = "integer" },
  sync = function(args)
    local sieve, count = {}, 0
    for i = 2, args.n - 1 do
      if not sieve[i] then
        count = count + 1
        for j = i * i, args.n - 1, i do sieve[j] = true end
      end
    end
    return count
  end,
}]] },
    { [[
3. Try it by hand, as a model's call would run it.]],
        ".call count_primes --n 1000000" },
    { [[
4. Ask. `demo` is a model that needs no key: it asks for every tool that your words name. Two calls in one
   turn run at once. With a key: .model openai/gpt-5-mini]],
        ".model demo", "> count_primes of 3000000 and count_primes of 2000000" },
    { [[
5. What you start goes on while you type; its output stands above your line. ?NAME helps on a name.]],
        "lash.spawn(function() for i = 1, 3 do lash.sleep(0.3) print('tick', i) end end);", "?lash.spawn" },
}

local ENTER = "   Enter types it, q ends the tour: "

local say = require("lash.console.fold").out

local function step(console, lines)
    say("\n" .. lines[1])
    for i = 2, #lines do
        say("\n" .. lines[i]:gsub("^", "   "):gsub("\n", "\n   "))
        local given, taken = read.line(ENTER)
        if not given or taken or given:find "^%s*q" then
            return false
        end
        console.dispatch(given:find "%S" and given or lines[i], true)
    end
    return true
end

--- run(console)
function M.run(console)
    for _, lines in ipairs(STEPS) do
        if not step(console, lines) then
            return
        end
    end
    say "\nThat was all. .save FILE writes what you typed as a script; `lash new NAME` makes one to begin with."
end

return M
