-- lash.template: texts with gaps.
local t = require "t"
local fake = require "fake"
local lash = require "lash"

local template = lash.template

local function gives(source, values, want, options)
    local text, err = template.render(source, values, options)
    t.equal(text, want, tostring(err) .. " " .. source:sub(1, 100))
end

local function fails(source, values, code, line, words, options)
    local text, err = template.render(source, values, options)
    t.equal(text, nil, source:sub(1, 100))
    t.equal({ err.code, err.line }, { code, line }, tostring(err))
    t.has(tostring(err), words)
    t.has(tostring(err), "line " .. line .. ": ")
    t.ok(#tostring(err) < 400)
end

t.case("template values", function()
    gives("", {}, "")
    gives("plain } text { here }}", {}, "plain } text { here }}")
    gives("{{a}}{{ b }}{{\tc\n}}", { a = "x", b = 1, c = true }, "x1true")
    gives("{{a}} {{b}} {{c}} {{d}}", { a = 1.0, b = -0.5, c = math.maxinteger, d = false }, "1.0 -0.5 9223372036854775807 false")
    gives("{{a.b.c}}", { a = { b = { c = "deep" } } }, "deep")
    gives("{{l.2}} {{l.1.n}}", { l = { { n = "one" }, "two" } }, "two one")
    gives("{{m.1}}", { m = { ["1"] = "text" } }, "text")
    gives("{{größe}} {{a-b}} {{_x1}}", { ["größe"] = "L", ["a-b"] = 1, _x1 = 2 }, "L 1 2")
    gives("{{else1}} {{if}} {{each}}", { else1 = 1, ["if"] = 2, each = 3 }, "1 2 3")
    gives('{"a":{{b}}}', { b = 1 }, '{"a":1}')
    gives("{{a}}", { a = "\0\xFF" }, "\0\xFF")
end)

t.case("template values are not read as a template", function()
    gives("{{a}}{{b}}", { a = "{{b}}", b = "{{#each x}}{{! y }}\\{{" }, "{{b}}{{#each x}}{{! y }}\\{{")
    gives("{{#each l}}{{this}}{{/each}}", { l = { "{{", "l}}" } }, "{{l}}")
    gives("{{a}}", { a = "%1 $1 \\0" }, "%1 $1 \\0")
    gives("{{a}}", {}, "{{b}}", { missing = "{{b}}" })
end)

t.case("template comments and braces", function()
    gives("a{{! c }}b", {}, "ab")
    gives("a{{!-- {{x}} }} --}}b", {}, "ab")
    gives("a{{!}}b{{!----}}c", {}, "abc")
    gives("\\{{x}} {{x}}", { x = 1 }, "{{x}} 1")
    gives("\\\\{{x}}", { x = 1 }, "\\1")
    gives("\\{{#if}}\\{{", {}, "{{#if}}{{")
    gives("a\\b {{x}}", { x = 1 }, "a\\b 1")
end)

t.case("template if and else", function()
    local source = "{{#if a}}yes{{else}}no{{/if}}"
    for _, yes in ipairs { true, 0, "0", " ", { 1 }, { x = 1 }, 0 / 0 } do
        gives(source, { a = yes }, "yes")
    end
    gives(source, {}, "no")
    for _, no in ipairs { false, "", {}, lash.null } do
        gives(source, { a = no }, "no")
    end
    gives("{{#if a.b.c}}x{{/if}}", { a = 1 }, "")
    gives("{{#if a}}{{#if b}}1{{else}}2{{/if}}{{else}}3{{/if}}", { a = 1, b = false }, "2")
end)

t.case("template each", function()
    gives("{{#each l}}{{@index}}{{this}}{{#if @last}}.{{else}},{{/if}}{{/each}}", { l = { "a", "b", "c" } }, "1a,2b,3c.")
    gives("{{#each l}}{{#if @first}}[{{/if}}{{n}}{{/each}}]", { l = { { n = 1 }, { n = 2 } } }, "[12]")
    gives("{{#each l}}x{{else}}none{{/each}}", { l = {} }, "none")
    gives("{{#each l}}{{#each this}}{{this}}{{@index}}{{/each}};{{/each}}", { l = { { "a", "b" }, { "c" } } }, "a1b2;c1;")
    gives("{{#each l}}{{this.n}}{{n}}{{m}} {{/each}}", { l = { { n = 1 }, { n = false } }, n = "out", m = "m" }, "11m falsefalsem ")
    gives("{{#each l}}{{n}} {{/each}}", { l = { {}, { n = 2 } }, n = "outer" }, "outer 2 ")
    gives("{{#each a.b}}{{c.d}}{{/each}}", { a = { b = { { c = { d = 5 } } } } }, "5")
    gives("{{#each l}}{{#each m}}{{x}}{{y}}{{/each}}{{/each}}", { l = { { x = 1 }, { x = 2 } }, m = { { y = 8 }, { y = 9 } } },
        "18192829")
end)

t.case("template tags alone on a line take it with them", function()
    gives("a\n{{#if x}}\nb\n{{else}}\nc\n{{/if}}\nd\n", { x = 1 }, "a\nb\nd\n")
    gives("a\n{{#if x}}\nb\n{{else}}\nc\n{{/if}}\nd\n", {}, "a\nc\nd\n")
    gives("  {{#each l}}  \n- {{this}}\n\t{{/each}}\nend", { l = { 1, 2 } }, "- 1\n- 2\nend")
    gives("a\r\n{{! c }}\r\nb", {}, "a\r\nb")
    gives("{{! only }}", {}, "")
    gives("  {{! c }}  ", {}, "")
    gives("x {{! c }}\ny", {}, "x \ny")
    gives("{{! c }} x\ny", {}, " x\ny")
    gives("{{! a }}{{! b }}\nx", {}, "\nx")
    gives("  {{x}}\ny", { x = 1 }, "  1\ny")
    gives("a\n\n{{#if x}}\n\nb{{/if}}\n", { x = 1 }, "a\n\n\nb\n")
end)

t.case("template what is missing is named with its line", function()
    fails("a\nb {{x.y}}", { x = {} }, "missing", 2, "'x.y'")
    fails("{{x}}", { x = lash.null }, "missing", 1, "'x'")
    fails("{{x.y}}", { x = "text" }, "missing", 1, "'x.y'")
    fails("{{this}}{{@index}}", {}, "missing", 1, "'this'")
    fails("{{@index}}", {}, "missing", 1, "'@index'")
    fails("{{! \n }}\n{{#each l}}\n\n{{this.z}}\n{{/each}}", { l = { {} } }, "missing", 5, "'this.z'")
    fails("\n{{#each l}}{{/each}}", {}, "missing", 2, "'l'")
    fails("{{" .. ("x"):rep(900) .. "}}", {}, "missing", 1, "xxx...'")
    gives("[{{x}}|{{#each y}}{{/each}}|{{z.z}}]", { z = 1 }, "[||]", { missing = "" })
    gives("{{x}}", {}, "?", { missing = "?" })
end)

t.case("template values without a text", function()
    fails("\n{{x}}", { x = {} }, "value", 2, "'x' is a table")
    fails("{{x}}", { x = print }, "value", 1, "'x' is a function")
    fails("{{x}}", { x = 1 / 0 }, "value", 1, "inf")
    fails("{{#each x}}{{/each}}", { x = "text" }, "value", 1, "#each takes a list")
    fails("{{#each x}}{{/each}}", { x = { a = 1 } }, "value", 1, "a table with names")
end)

t.case("template what is wrong is told with its line", function()
    local function wrong(source, line, words)
        fails(source, {}, "template", line, words)
        local fill, err = template.compile(source)
        t.equal(fill, nil)
        t.equal(err.line, line)
    end
    wrong("a\n{{x", 2, "not closed by }}")
    wrong("{{", 1, "not closed by }}")
    wrong("{{!-- x }}", 1, "--}}")
    wrong("{{}}", 1, "'' is no name")
    wrong("{{a b}}", 1, "'a b' is no name")
    wrong("{{a..b}}", 1, "no name")
    wrong("{{.a}}", 1, "no name")
    wrong("{{a.}}", 1, "no name")
    wrong("{{{a}}}", 1, "'{a' is no name")
    wrong("{{a()}}", 1, "no name")
    wrong("{{@foo}}", 1, "no name")
    wrong("{{> partial}}", 1, "no name")
    wrong("\n\n{{#if x}}\n{{! y }}\n", 3, "{{#if x}} is not closed by {{/if}}")
    wrong("{{#if x}}\n{{#each y}}\n{{/if}}", 3, "{{/if}} where the #each of line 2")
    wrong("a{{/if}}", 1, "{{/if}} closes nothing")
    wrong("\n{{else}}", 2, "outside")
    wrong("{{#if x}}\n{{else}}\n{{else}}\n{{/if}}", 3, "a second {{else}} in the #if of line 1")
    wrong("{{#unless x}}{{/unless}}", 1, "there is no {{#unless}}")
    wrong("{{#if}}{{/if}}", 1, "needs a name")
    wrong("{{#each}}", 1, "needs a name")
    wrong("{{" .. (" "):rep(2000) .. "x}}", 1, "longer than 1000 bytes")
end)

t.case("template hostile sources end soon", function()
    local started = os.clock()
    local n = t.times(50000, 20000)
    for _, source in ipairs { ("{"):rep(n), ("{{"):rep(n), ("{{#if x}}"):rep(n), ("{{#each x}}"):rep(n), ("{{/if}}"):rep(n),
        ("{{else}}"):rep(n), ("{{x"):rep(n), ("{{!--"):rep(n), ("{{! }}"):rep(n), ("\\{{"):rep(n), ("\\"):rep(n) .. "{{x}}",
        (" "):rep(n) .. "{{! }}", ("{{! }}  "):rep(n), ("\n{{! }}"):rep(n), "{{" .. ("a."):rep(n) .. "}}",
        ("{{" .. (" "):rep(990) .. "x}}"):rep(200), ("{{x}}"):rep(n), ("}}"):rep(n), "{{#if " .. (" "):rep(n) .. "}}" } do
        template.render(source, { x = "" })
    end
    t.ok(os.clock() - started < 8 * t.slower)
    local deep = ("{{#if x}}"):rep(64) .. "in" .. ("{{/if}}"):rep(64)
    gives(deep, { x = 1 }, "in")
    fails("\n{{#if x}}" .. deep .. "{{/if}}", { x = 1 }, "template", 2, "more than 64 blocks")
end)

t.case("template output and work are bounded", function()
    local list = {}
    for i = 1, 1000 do
        list[i] = i
    end
    local nested = ("{{#each l}}"):rep(6) .. "%s" .. ("{{/each}}"):rep(6)
    fails(nested:format(("x"):rep(10000)), { l = list }, "too_large", 1, "beyond 16777216 bytes")
    local started = os.clock()
    fails(nested:format(""), { l = list }, "too_large", 1, "steps")
    fails(nested:format("{{#if no}}{{/if}}"), { l = list }, "too_large", 1, "steps")
    t.ok(os.clock() - started < 5 * t.slower)
    gives("{{x}}{{x}}", { x = "12345" }, "1234512345", { max = 10 })
    fails("{{x}}\n{{x}}", { x = "12345" }, "too_large", 2, "beyond 10 bytes", { max = 10 })
    gives("{{x}}", { x = ("y"):rep(1024) }, ("y"):rep(1024), { max = "1K" })
end)

t.case("template runs no code of values", function()
    local function never() error("ran") end
    local trap = setmetatable({}, { __index = never, __tostring = never, __len = never, __pairs = never, __eq = never,
        __concat = never, __name = "trap" })
    fails("{{a}}", { a = trap }, "value", 1, "a table")
    fails("{{a.b}}", { a = trap }, "missing", 1, "a.b")
    fails("{{b}}", trap, "missing", 1, "'b'")
    gives("{{#each a}}x{{else}}none{{/each}}{{#if a}}yes{{/if}}", { a = trap }, "none")
    local cycle = {}
    cycle.c = cycle
    fails("{{" .. ("c."):rep(100) .. "c}}", cycle, "value", 1, "a table")
end)

t.case("template compiled once, filled often", function()
    local fill = assert(template.compile "{{#each l}}{{this}}{{/each}}{{x}}")
    for i = 1, 3 do
        t.equal(fill { l = { i, i }, x = "." }, i .. "" .. i .. ".")
    end
    local text, err = fill { l = {} }
    t.equal(text, nil)
    t.equal(err.code, "missing")
    t.equal(fill({ l = {} }, { missing = "-" }), "-")
end)

t.case("template misuse names the thing", function()
    for _, bad in ipairs { 12, {}, true } do
        t.raises("the template must be a string", template.render, bad, {})
        t.raises("the template must be a string", template.compile, bad)
    end
    local fill = template.compile ""
    for _, bad in ipairs { 12, "x", true } do
        t.raises("the values must be a table", template.render, "", bad)
        t.raises("the values must be a table", fill, bad)
    end
    t.raises("the values must be a table", template.render, "")
    t.raises("did you mean 'missing'?", template.render, "", {}, { mising = "" })
    t.raises("missing must be a string", fill, {}, { missing = true })
    for _, bad in ipairs { 0, -1, "x", {}, true } do
        t.raises("max must be", template.render, "", {}, { max = bad })
    end
    t.has(t.raises(nil, function() fill(1) end), "template.lua:")
    t.has(t.raises(nil, function() template.render("", {}, { max = 0 }) end), "template.lua:")
end)

t.case("template in a sync tool, compiled before and there", function()
    local fill = assert(template.compile "{{#each l}}{{this}} {{/each}}")
    local tool = lash.tool {
        name = "x",
        sync = function() return fill { l = { 1, 2 } } .. lash.template.render("{{a}}", { a = "b" }) end,
    }
    t.equal(fake.batch({ tool }, { { "x" } })[1].output, "1 2 b")
end)

return t.main(...)
