"""The provider that `lash help new-provider` shows, as a reader would copy it, against a server of its protocol."""
import json
import os
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cli import expect, lash, objects, one_line, write
from test_cli_tools import PAGES, shown

TOOLS = """local lash = require "lash"
return { lash.tool { name = "add", description = "d", params = { a = "integer", b = "integer" },
    sync = function(args) return args.a + args.b end },
    lash.tool { name = "fail", description = "d", async = function() error("no luck", 0) end } }"""
CALLS = [{"name": "add", "args": '{"a":9007199254740993,"b":1}'}, {"name": "fail", "args": "{}"}]


def copied(url):
    """config.lua and tiny.lua of the page; the variables for them."""
    for step in shown(os.path.join(PAGES, "new-provider.txt")):
        if isinstance(step, list):
            write(step[0], "\n".join(step[1]) + "\n")
    return {"XDG_CONFIG_HOME": os.getcwd(), "TINY_API_KEY": "k", "TINY_BASE_URL": url, "CORP_BASE_URL": "http://127.0.0.1:1"}


class Tiny:
    """Gives the replies one after the other, streamed if asked: a dict is an answer, a list its raw events, a
    pair (status, body) anything."""

    def __init__(self, *replies):
        self.replies, self.asked = list(replies), []
        tiny = self

        class Handler(BaseHTTPRequestHandler):
            def say(self, status, body, kind="application/json"):
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.end_headers()
                self.wfile.write(body.encode())

            def do_GET(self):
                self.say(200, json.dumps({"models": ["small", "large"]}) if self.path == "/models" else "{}")

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                tiny.asked.append((self.path, self.headers["Authorization"], body))
                reply = tiny.replies.pop(0)
                if isinstance(reply, tuple):
                    return self.say(*reply)
                if isinstance(reply, dict) and not body.get("stream"):
                    return self.say(200, json.dumps(reply))
                if isinstance(reply, dict):
                    parts = [{"text": c} for c in reply.get("text", "")] + [{}]
                    reply = parts + [{"call": c} for c in reply.get("calls", [])] + [{"tokens": reply["tokens"]}]
                self.say(200, "".join("data: %s\n\n" % json.dumps(e) for e in reply), "text/event-stream")

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = "http://127.0.0.1:%d" % self.server.server_port

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


TOKENS = {"input": 7, "output": 3}
TURNS = ({"text": "I add.", "calls": CALLS, "tokens": TOKENS}, {"text": "Done.", "tokens": TOKENS})


def test_runs():
    """a new provider: parallel calls, one failing, whole and streamed, with the same end"""
    write("t.lua", TOOLS)
    ends = []
    for options in ((), ("--no-stream",)):
        with Tiny(*TURNS) as server:
            r = expect(lash("ask", "-m", "tiny/m", "--jsonl", "-s", "Be brief.", "-t", "t.lua", *options, "Add",
                            env=copied(server.url)), 0, None, None)
            end = objects(r)[-1]
            assert (end["text"], end["usage"]["input"], end["usage"]["total"]) == ("Done.", 14, 20), r
            kinds = [e["type"] for e in objects(r)]
            assert kinds.count("text") == (11 if not options else 2), kinds
            assert not server.replies and [a[:2] for a in server.asked] == [("/talk", "Bearer k")] * 2, server.asked
            second = server.asked[1][2]
            assert second["system"].startswith("Be brief.") and second["model"] == "m", second
            assert [t["who"] for t in second["talk"]] == ["user", "model", "tools"], second
            assert second["talk"][1]["calls"] == CALLS, second
            assert second["talk"][2]["outputs"] == ["9007199254740994", "Error: no luck"], second
            assert [t["name"] for t in second["tools"]] == ["add", "fail"], second
            second.pop("stream", None)
            ends.append((end["calls"] if "calls" in end else None, second))
    assert ends[0] == ends[1]


def test_errors():
    """a new provider: what goes wrong has its sentence and status"""
    def ask(status, *parts, replies, options=()):
        with Tiny(*replies) as server:
            r = expect(lash("ask", "-m", "tiny/m", "-q", *options, "Hi", env=copied(server.url)), status, "", list(parts))
            one_line(r)
            assert not server.replies, server.replies
    ask(78, "tiny: the key in TINY_API_KEY was refused", "no entry", replies=[(401, '{"error":"no entry"}')])
    ask(69, "tiny", "refused", replies=[(400, "nonsense")])
    ask(76, "is no answer", replies=[(200, "[]")])
    ask(76, "is no answer", replies=[(200, "<html>")])
    ask(76, "a call that is none", replies=[(200, '{"calls":[{"name":5}]}')], options=("--no-stream",))
    ask(76, "a part that is none", replies=[[{"call": {}}]])
    ask(75, "before its end", "after 3 attempts", replies=[[{}]] * 3)
    ask(75, "busy", "after 3 attempts", replies=[[{"error": "busy"}]] * 3)
    write("p.txt", "x")
    env = copied("http://127.0.0.1:1")
    one_line(expect(lash("ask", "-q", "-m", "tiny/m", "Hi", env=dict(env, TINY_BASE_URL="nonsense")), 78, "",
                    "TINY_BASE_URL"))


def test_listed():
    """a new provider: lash models and lash doctor know it"""
    with Tiny() as server:
        env = copied(server.url)
        expect(lash("models", "tiny", env=env), 0, "tiny/large\ntiny/small\n", "")
        found = [p for p in json.loads(lash("doctor", "--json", "-m", "tiny/small", env=env).out)["providers"]
                 if p["name"] == "tiny"]
        assert found[0]["state"] == "ok" and found[0]["models"] == 2, found
        assert found[0]["key"]["from"] == "TINY_API_KEY", found


def test_same_bytes():
    """P3 a new provider: the same request in another process, byte for byte"""
    write("t.lua", TOOLS)
    env = copied("http://127.0.0.1:1")
    args = ("ask", "-m", "tiny/m", "-t", "t.lua", "--dry-run", "Hello")
    assert expect(lash(*args, env=env), 0, ["POST http://127.0.0.1:1/talk", "****"]).out == lash(*args, env=env).out


def test_in_the_library():
    """a new provider: one file in lua/lash/provider is all that lash needs to know it"""
    library = os.path.join(os.path.dirname(os.environ["LASH_TESTS"]), "lua")
    shutil.copytree(library, "library")
    env = copied("http://127.0.0.1:1")
    os.rename("lash/tiny.lua", "library/lash/provider/tiny.lua")
    os.remove("lash/config.lua")
    env["LASH_LUA"] = os.path.abspath("library")
    expect(lash("ask", "-m", "tiny/m", "--dry-run", "Hello", env=env), 0, "POST http://127.0.0.1:1/talk")
    expect(lash("ask", "-m", "tinny/m", "--dry-run", "Hello", env=env), 64, "", ["'tiny'", "there are: anthropic"])
    one_line(expect(lash("models", "tiny", env=env), 75, "", "tiny: no connection"))
    write("s.lua", """local lash = require "lash"
        return lash.agent { name = "a", model = "tiny/m", settings = { tiny = { x = 1 } } }""")
    expect(lash("check", "s.lua", env=env), 0)
