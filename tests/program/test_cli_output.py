"""lash ask: answers bound to a schema, images and documents."""
import base64
import json

import modeld
from cli import Terminal, expect, lash, objects, one_line, tools, write

PERSON = {"type": "object", "properties": {"name": {"type": "string"}, "born": {"type": "integer"}},
          "required": ["name", "born"], "additionalProperties": False}
ADA = '{"name": "Ada", "born": 1815}'
PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
PDF = b"%PDF-1.7\n%\xe2\xe3\n"


def play(*turns):
    return "script:" + write("play.json", json.dumps(list(turns)))


def schema(value=None, name="person.json"):
    return write(name, json.dumps(PERSON if value is None else value))


def data(name, content):
    with open(name, "wb") as file:
        file.write(content)
    return name


def test_schema():
    """ask --schema: the JSON text without its fence; value in --json and run.end; --out gets the same"""
    model = play({"text": "```json\n%s\n```" % ADA})
    expect(lash("ask", "-m", model, "--schema", schema(), "--out", "out.json", "who"), 0, ADA + "\n", "")
    with open("out.json", encoding="utf-8") as file:
        assert file.read() == ADA
    one = objects(expect(lash("ask", "-m", model, "--json", "--schema=person.json", "who"), 0))[0]
    assert one["value"] == {"name": "Ada", "born": 1815} and one["text"] == ADA, one
    last = objects(expect(lash("--schema", "person.json", "ask", "-m", model, "--jsonl", "who"), 0))[-1]
    assert last["type"] == "run.end" and last["value"]["born"] == 1815, last
    expect(lash("--schema", "person.json", "-m", model, "-p", "who"), 0, ADA + "\n", "")


def test_schema_root():
    """ask --schema: a root that is no object; exact numbers; the bare value counts too"""
    schema({"type": "array", "items": {"type": "integer"}}, "list.json")
    for text in ("[1, 9223372036854775807]", '{"value": [1, 9223372036854775807]}'):
        r = expect(lash("ask", "-m", play({"text": text}), "--schema", "list.json", "hi"), 0, None, "")
        assert r.out == "[1, 9223372036854775807]\n", r
    r = lash("ask", "-m", play({"text": "null"}), "--schema", schema({"type": "null"}), "--json", "hi")
    assert objects(expect(r, 0))[0]["value"] is None, r


def test_schema_repair():
    """ask --schema: one more try with the fault told; then 65 in all formats"""
    fault = {"text": '{"name": "Ada"}'}
    told = {"expect": {"contains": "expected a property 'born'"}, "text": ADA}
    model = play(fault, dict(told, expect={"contains": "born"}))
    expect(lash("ask", "-m", model, "--schema", schema(), "who"), 0, ADA + "\n", "")
    text, status = Terminal("ask", "-m", model, "--schema", "person.json", "who").rest()
    assert (text, status) == (ADA + "\r\n", 0), repr(text)
    model = play(fault, fault)
    one_line(expect(lash("ask", "-m", model, "--schema", "person.json", "who"), 65, '{"name": "Ada"}\n', "born"))
    for form in ("json", "jsonl"):
        last = objects(expect(lash("ask", "-m", model, "-o", form, "--schema", "person.json", "who"), 65))[-1]
        assert last["reason"] == "output" and last["exit"] == 65 and "value" not in last, last
        assert "does not fit its schema: /" in last["error"], last
    expect(lash("ask", "-m", play({"text": "{", "stop": "length"}), "--schema", "person.json", "x"), 80)


def test_schema_files():
    """ask --schema: files that are none: missing 66, no JSON or no schema 65"""
    write("bad.json", '{"type": }')
    for value, status, part in (("nosuch.json", 66, "nosuch.json"), (".", 66, "directory"),
                                ("bad.json", 65, "--schema bad.json is no JSON: position 10"),
                                (schema({"type": "objekt"}, "kind.json"), 65, "--schema kind.json: #/type: "),
                                (schema([1], "list.json"), 65, "a JSON Schema is an object"),
                                (schema(False, "none.json"), 65, "no value fits")):
        one_line(expect(lash("ask", "-m", "demo", "--schema", value, "hi"), status, "", part))
    data("bytes.json", b'{"title":"\xff"}')
    one_line(expect(lash("ask", "-m", "demo", "--schema", "bytes.json", "hi"), 65, "", "no UTF-8"))
    one_line(expect(lash("ask", "-m", "demo", "--schema"), 64, "", "--schema needs a value: --schema FILE"))
    one_line(expect(lash("call", "--schema", "x.json", "t.lua"), 64, "", "--schema is an option of ask, tools"))


def test_schema_of_tools():
    """tools --schema is a switch, before and behind the command"""
    tools()
    for args in (("tools", "--schema", "tools.lua"), ("--schema", "tools", "tools.lua")):
        assert "additionalProperties" in expect(lash(*args), 0).out
    one_line(expect(lash("--schema", "x.json", "tools", "tools.lua"), 64, "", "takes no value"))
    one_line(expect(lash("tools", "--schema=x.json", "tools.lua"), 64, "", "takes no value"))


def test_schema_agent():
    """ask: `output` of an agent from -t counts; --schema goes before it"""
    write("agent.lua", """return require("lash").agent { name = "people", output = { name = "string" } }""")
    assert objects(lash("ask", "-m", play({"text": '{"name":"Ada"}'}), "-t", "agent.lua", "--json", "hi"))[0]["value"] \
        == {"name": "Ada"}
    expect(lash("ask", "-m", play({"text": ADA}), "-t", "agent.lua", "--schema", schema(), "hi"), 0, ADA + "\n")
    r = lash("ask", "-m", "demo", "-t", "agent.lua", "--dry-run", "--json", "hi")
    assert objects(expect(r, 0))[0]["body"]["output"]["schema"]["required"] == ["name"], r


def test_schema_native():
    """ask --schema: the protocol's own field has it, and a stream that is repaired is never half printed"""
    script = [{"reply": {"text": "Ada, born 1815", "pieces": 3}}, {"expect": {"contains": "no JSON value"},
                                                                   "reply": {"text": ADA, "pieces": 3}}]
    schema()
    with modeld.Server(script) as server:
        t = Terminal("ask", "-m", "openai/gpt-5", "--schema", "person.json", "who", env=server.env)
        assert t.rest() == (ADA + "\r\n", 0)
        form = server.requests()[0]["json"]["text"]["format"]
        assert form["type"] == "json_schema" and form["schema"]["required"] == ["name", "born"], form


def test_handoff_holds():
    """ask on a terminal: text of an agent without schema comes as it comes, that of the one bound to it at the end"""
    write("agents.lua", """local lash = require "lash"
        local counter = lash.agent { name = "counter", output = "integer" }
        return lash.agent { name = "front", handoffs = { counter } }""")
    model = play({"text": "One moment.", "calls": [{"name": "handoff", "args": {"agent": "counter"}}]},
                 {"text": "five"}, {"text": '{"value": 5}'})
    text, status = Terminal("-q", "ask", "-m", model, "-t", "agents.lua", "count").rest()
    assert (text, status) == ("One moment.\r\n\r\n5\r\n", 0), repr(text)


# ---- images and documents ----


def test_image():
    """ask -f: an image or a PDF becomes a part of the message, text stays material, in their order"""
    data("photo.jpg", PNG)  # the bytes count, not the name
    data("a.pdf", PDF)
    write("notes.md", "some notes")
    files = ("-f", "notes.md", "-f", "photo.jpg", "-f", "a.pdf")
    r = expect(lash("ask", "-m", "demo", *files, "What is this?"), 0)
    assert "cannot look at the image photo.jpg (image/png, 28 bytes)" in r.out and "file a.pdf" in r.out, r
    model = play({"expect": {"parts": ["image/png", "application/pdf"], "contains": ["some notes", "What is this?"]},
                  "text": "seen"})
    expect(lash("ask", "-m", model, *files, "What is this?"), 0, "seen\n", "")
    shown = objects(lash("ask", "-m", "demo", "--dry-run", "--json", *files, "What?"))[0]["body"]["entries"][0]
    kinds = [(p["type"], p.get("bytes")) for p in shown["parts"]]
    assert kinds == [("text", None), ("image", 28), ("file", len(PDF)), ("text", None)], shown
    assert shown["text"] == '<file name="notes.md">\nsome notes\n</file>\n\nWhat?', shown


def test_image_stdin():
    """ask: an image on stdin is material too, but no prompt"""
    model = play({"expect": {"parts": ["image/png"]}, "text": "seen"})
    for args in (("What?",), ("-f", "-", "What?")):
        expect(lash("ask", "-m", model, *args, stdin=PNG, text=False), 0)
    r = lash("ask", "-m", model, stdin=PNG, text=False)
    assert r.status == 64 and "there is no prompt" in r.err, r


def test_image_faults():
    """ask -f: other bytes than text, images and PDFs are 65, too large ones too"""
    data("a.bmp", b"BM\xff\xff")
    data("big.png", PNG + bytes(20 << 20))
    one_line(expect(lash("ask", "-m", "demo", "-f", "a.bmp", "hi"), 65, "",
                    ["a.bmp is no UTF-8 text (byte 3)", "no image (PNG, JPEG, GIF, WebP) or PDF"]))
    one_line(expect(lash("ask", "-m", "demo", "-f", "big.png", "hi"), 65, "", "big.png is larger than 20 MiB"))


MODELS = ("openai/gpt-5", "openai-chat/gpt-4.1", "anthropic/claude-sonnet-4-5", "gemini/gemini-2.5-flash")


def test_schema_protocols():
    """ask --schema: the same on each protocol, streamed or not, with tools or not; the fault is told, then it fits"""
    tools()
    schema({"type": "array", "items": {"$ref": "#/$defs/n"}, "$defs": {"n": {"type": "integer"}}}, "list.json")
    script = [{"expect": {"lacks": "no JSON value"}, "reply": {"text": "one and two", "pieces": 3}},
              {"expect": {"contains": ["one and two", "no JSON value"]},
               "reply": {"text": '{"value": [1, 2]}', "pieces": 3}}]
    for model in MODELS:
        for more in ((), ("--no-stream",), ("-t", "tools.lua")):
            with modeld.Server(script) as server:
                r = lash("ask", "-m", model, "--schema", "list.json", "--json", *more, "hi", env=server.env)
                assert not server.stats()["problems"] + server.stats()["refused"], (model, server.stats())
            one = objects(expect(r, 0))[0]
            assert one["value"] == [1, 2] and one["text"] == "[1, 2]" and one["turns"] == 2, (model, r)


def test_image_protocols():
    """ask -f: an image and a PDF go over the wire on each protocol"""
    data("photo.png", PNG)
    data("a.pdf", PDF)
    inside = [base64.b64encode(PNG).decode(), base64.b64encode(PDF).decode(), "What are these?"]
    for model in MODELS:
        for more in ((), ("--no-stream",)):
            with modeld.Server([{"expect": {"contains": inside}, "reply": {"text": "two files"}}]) as server:
                r = lash("ask", "-m", model, "-f", "photo.png", "-f", "a.pdf", *more, "What are these?", env=server.env)
                assert not server.stats()["problems"] + server.stats()["refused"], (model, server.stats())
            expect(r, 0, "two files\n", "")
