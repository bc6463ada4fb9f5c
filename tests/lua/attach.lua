-- Images and documents in messages: what is taken, what is refused, and what a conversation makes of it.
local t = require "t"
local fake = require "fake"
local attach = require "lash.attach"
local lash = require "lash"

local PNG = "\x89PNG\r\n\x1A\n" .. ("\0"):rep(20)
local PDF = "%PDF-1.7\n%\xE2\xE3\n"
-- A file whose name ends in that, with this content.
local function file(name, content)
    return t.file(content, "-" .. name)
end

local KINDS = {
    ["image/png"] = PNG, ["image/jpeg"] = "\xFF\xD8\xFF\xE0....", ["image/gif"] = "GIF89a....",
    ["image/webp"] = "RIFF\x1A\0\0\0WEBPVP8 ", ["application/pdf"] = PDF,
}

t.case("attach: the first bytes say what a file is, not its name", function()
    for mime, bytes in pairs(KINDS) do
        local path = file("thing.txt", bytes)
        local make = mime == "application/pdf" and lash.document or lash.image
        local part = assert(make(path))
        t.equal({ part.type, part.mime, part.name, lash.base64.decode(part.data) },
            { mime == "application/pdf" and "file" or "image", mime, path:match("[^/]*$"), bytes })
    end
    t.has(tostring(lash.image(file("a.png", PNG))), "-a.png (image/png, 28 bytes)")
    t.equal(lash.image(file("a.png", PNG), { detail = "low" }).detail, "low")
    t.equal(attach.mime("GIF88a"), nil)
end)

t.case("attach: what is in memory, and URLs", function()
    t.equal(tostring(lash.image { data = PNG }), "image (image/png, 28 bytes)")
    t.equal(lash.image({ data = PNG, name = "shot.png" }, { detail = "high" }).name, "shot.png")
    t.equal(lash.document({ data = PDF }).name, "document.pdf")
    local part = lash.image("https://example.org/a.png?x=1", { detail = "auto" })
    t.equal({ part.type, part.url, part.detail, part.data }, { "image", "https://example.org/a.png?x=1", "auto", nil })
    t.equal(tostring(part), "image https://example.org/a.png?x=1")
    t.equal(select(2, lash.image("https://example.org/a b.png")).code, "url")
end)

t.case("attach: what is none says why", function()
    local function refused(code, part, value, err)
        t.equal({ value, err.code }, { nil, code })
        t.has(tostring(err), part)
    end
    refused("ENOENT", "nosuch.png", lash.image(t.path("-nosuch.png")))
    refused("EISDIR", "directory", lash.image("/"))
    refused("image", "no image (PNG, JPEG, GIF, WebP) and no PDF", lash.image(file("a.bmp", "BM....")))
    refused("image", "is empty", lash.image(file("empty.png", "")))
    refused("image", "use lash.document", lash.image(file("a.pdf", PDF)))
    refused("document", "for lash.image", lash.document(file("b.png", PNG)))
    refused("document", "lash.fs.read gives it", lash.document(file("a.txt", "text")))
    refused("ENOENT", "nosuch.pdf", lash.document(t.path("-nosuch.pdf")))
    refused("EINVAL", "zero byte", lash.image("a\0b"))
    local limit = attach.MAX
    attach.MAX = 1 << 20
    refused("EFBIG", "larger than 1 MiB", lash.image(file("big.png", PNG .. ("x"):rep(1 << 20))))
    refused("EFBIG", "larger than 1 MiB", lash.image { data = PNG .. ("x"):rep(1 << 20) })
    refused("EFBIG", "larger than 1 MiB", lash.document(file("big.pdf", PDF .. ("x"):rep(1 << 20))))
    attach.MAX = limit
    for _, case in ipairs {
        { "must be a string", 5 }, { "detail must be", "a.png", { detail = "medium" } },
        { "unknown option 'detal' (did you mean 'detail'?)", "a.png", { detal = "low" } },
        { "`data` must be a string", {} }, { "unknown option 'path'", { path = "a.png" } },
    } do
        t.has(tostring(t.raises(case[1], lash.image, case[2], case[3])), "lash.image")
    end
    t.raises("lash.document: the path must be a string", lash.document)
end)

t.case("attach: other tasks go on while a file is read", function()
    local path, ran = file("a.png", PNG), false
    lash.spawn(function() ran = true end)
    t.equal(lash.image(path) ~= nil, true)
    t.equal(ran, true)
end)

-- ---- messages ----

t.case("attach: a message is a text, or a list of texts and parts in order", function()
    local seen
    local function model(conv)
        seen = conv.entries[#conv.entries]
        return "ok"
    end
    local agent = fake.agent({}, { model, model, model, model })
    local image = lash.image { data = PNG, name = "a.png" }
    local result = agent:run { "Look:", image, "What is it?", { type = "text", text = "And why?" } }
    t.equal({ seen.type, seen.text }, { "user", "Look:\n\nWhat is it?\n\nAnd why?" })
    t.equal({ seen.parts[1].text, seen.parts[2].mime, seen.parts[3].text, #seen.parts },
        { "Look:", "image/png", "What is it?", 4 })
    t.equal(lash.base64.decode(seen.parts[2].data), PNG)
    local shown = result.items[1]
    t.equal({ shown.parts[2].name, shown.parts[2].bytes, shown.parts[2].data }, { "a.png", 28, nil })
    agent:run { image }
    t.equal({ seen.text, #seen.parts }, { "", 1 })
    agent:run { "only", "texts" }
    t.equal({ seen.text, seen.parts }, { "only\n\ntexts", nil })
    agent:run { { type = "image", mime = "image/png", data = lash.base64.encode(PNG) }, "by hand" }
    t.equal(seen.parts[1].mime, "image/png")
end)

t.case("attach: messages that cannot be sent say which part is wrong, before anything happens", function()
    local conv = fake.agent({}, {}):conversation()
    local image = lash.image { data = PNG }
    for _, case in ipairs {
        { {}, "empty list" },
        { 5, "must be a string" },
        { image, "put it into a list" },
        { { "a", 5 }, "part 2: expected a text or a part, got a number" },
        { { "a", "\xff" }, "part 2: it is not valid UTF-8" },
        { { "a", nil, "b" }, "part 2: it is nil" },
        { { "a", lash.image(t.path "-nosuch.png") }, "part 2: cannot read" },
        { { lash.image(t.path "-nosuch.png"), "a" }, "part 1: it is nil" },
        { { text = "a" }, "unknown field 'text'" },
        { { "a", { type = "video" } }, "part 2: its `type`" },
        { { { type = "image", path = "a.png" } }, "unknown field 'path'" },
        { { { type = "image" } }, "part 1: its `data` is no Base64 text" },
        { { { type = "image", mime = "image/png", data = "%" } }, "part 1: its `data` is no Base64" },
        { { { type = "image", mime = "image/gif", data = image.data } }, "is not what" },
        { { { type = "file", mime = "image/png", data = image.data } }, "is not what" },
        { { { type = "image", url = "file:///etc/passwd" } }, "no http or https URL" },
        { { { type = "image", url = "http://x/", data = image.data } }, "keep one" },
        { { { type = "image", detail = 5, url = "http://x/" } }, "detail" },
        { { { type = "text", text = 5 } }, "no UTF-8 text" },
    } do
        t.raises(case[2], conv.send, conv, case[1])
        t.equal({ #conv.entries, conv.busy }, { 0, false })
    end
end)

t.case("attach: a part can be sent again, and nobody's change of it reaches what was said", function()
    local image = lash.image { data = PNG }
    local conv = fake.agent({}, { "one", "two" }):conversation()
    local own = { type = "text", text = "first" }
    conv:send { own, image }
    own.text = "changed"
    conv:send { "second", image }
    t.equal({ conv.entries[1].parts[1].text, #conv.entries[3].parts }, { "first", 2 })
end)

return t.main(...)
