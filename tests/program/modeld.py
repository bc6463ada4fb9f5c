#!/usr/bin/env python3
"""A scripted model server for tests: OpenAI Responses and Gemini generateContent, buffered, on 127.0.0.1.

    modeld.py SCRIPT.json [--log FILE] [--seconds 120] [--port 0]

The first line on stdout is `PORT n`. The server ends when its stdin reaches end of file or after --seconds, so nothing
is left behind; its exit status is 1 when the script was not followed (see `problems`) or turns stayed unused.

    POST /v1/responses                          needs `Authorization: Bearer KEY`
    POST /v1beta/models/NAME:generateContent    needs `x-goog-api-key: KEY` (v1 too)
    GET  /stats      {connections, open, requests, waiting, problems, refused, unused}
    POST /release    lets answers go that wait with `"hold": true`, these and all later ones
    GET  /...        what the script's "get" says, for tools that fetch something

The key `bad-key` and the model `no-such-model` are refused as the services do. Every request is checked as strictly as
the real service would (wire_responses.py, wire_gemini.py); what they refuse is listed in `refused` and uses no turn.

SCRIPT is a list of turns, used one after the other (one conversation), or an object

    {"rules": [{"when": {"user_contains": TEXT, "model": NAME, "protocol": "openai|gemini", "tools": [..]},
                "turns": [TURN, ...]}],
     "get": {"/path": {"text": BODY, "status": 200, "headers": {}, "delay_ms": 0}}}

where the first rule whose `when` fits serves the request, and the turn is the number of answers in its history: any
number of conversations may run at once. `user_contains` looks at all texts of the user. A TURN is

    {"expect": {"outputs": 3, "outputs_contain": ["a", "b", "c"], "contains": TEXT or [TEXTS], "lacks": the same,
                "tools": ["a"], "model": NAME, "protocol": NAME, "turn": N},
     "first": [REPLY, ...],         replies to the first attempts at this turn, e.g. {"status": 429}
     "delay_ms": 0, "hold": true,   when the answer goes
     "together": 3,                 the answer waits until 3 requests wait at such turns (proof that they ran at once)
     "repeat": true,                a rule's last turn serves all later ones, a list's turn all that follow
     "reply": REPLY}

and a REPLY is written in neutral words and rendered as the protocol of the request has it:

    {"text": "...", "calls": [{"name": .., "args": {..} or "args_text": "raw", "id": optional, null = none}],
     "stop": "end|length|filter|refusal|failed", "usage": {"input", "output", "cached", "reasoning"},
     "reasoning": true}             reasoning item (default: when there are calls)
    {"raw": {..}}                   a verbatim JSON body     {"body_text": "<html>"}   any body
    "status": 429                   with the service's error body, or raw, or body_text; "message", "code", "details"
    "headers": {..}, "cut": true    half the body, then the connection ends;  "hang": true   never an answer
    "gzip": true, "chunked": true, "close": true or "silent"   (without saying so)   how the body and connection go

Tests in Python use `with modeld.Server(script) as server:` and server.env, server.stats(), server.requests().
"""

import argparse
import asyncio
import base64
import gzip
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from modelwire import Refused, compact, strings  # noqa: E402
from wire_gemini import Gemini                   # noqa: E402
from wire_responses import Responses             # noqa: E402

CONTROL = ("/stats", "/release")
MAX_BODY = 256 << 20
TURN_KEYS = set("expect first delay_ms hold together repeat reply".split())
REPLY_KEYS = set("""text calls stop usage reasoning raw body_text status message code details headers cut hang gzip
    chunked close""".split())
EXPECT_KEYS = set("outputs outputs_contain contains lacks tools model protocol turn".split())
RULE_KEYS = set("when turns".split())


class ScriptError(Exception):
    """The script file itself is wrong."""


def known(value, allowed, what):
    if not isinstance(value, dict):
        raise ScriptError("%s is not an object" % what)
    for key in value:
        if key not in allowed:
            raise ScriptError("%s has an unknown field '%s'; there are: %s" % (what, key, " ".join(sorted(allowed))))


def as_list(value):
    return value if isinstance(value, list) else [value]


class Script:
    """Which turn answers a request, and whether the request is what the script expects."""

    def __init__(self, value):
        self.by_list = isinstance(value, list)
        if self.by_list:
            value = {"rules": [{"turns": value}]}
        known(value, ("rules", "get"), "the script")
        self.rules, self.get = value.get("rules", []), value.get("get", {})
        self.position = 0
        self.attempts = {}      # (rule, turn, conversation) -> number of tries seen
        self.used = set()
        for r, rule in enumerate(self.rules):
            known(rule, RULE_KEYS, "rule %d" % r)
            for t, turn in enumerate(rule["turns"]):
                what = "turn %d of rule %d" % (t, r)
                known(turn, TURN_KEYS, what)
                known(turn.get("expect", {}), EXPECT_KEYS, "expect of " + what)
                for reply in turn.get("first", []) + [turn.get("reply", {})]:
                    known(reply, REPLY_KEYS, "reply of " + what)

    def fits(self, when, view):
        users = "\n".join(view.users)
        return (when.get("user_contains", "") in users and when.get("model", view.model) == view.model
                and when.get("protocol", view.protocol) == view.protocol
                and sorted(when.get("tools", view.tools)) == sorted(view.tools))

    def pick(self, view):
        """(turn, reply, its number) for a request. ValueError when the script has none."""
        for r, rule in enumerate(self.rules):
            if not self.fits(rule.get("when", {}), view):
                continue
            turns = rule["turns"]
            number = self.position if self.by_list else view.answers
            if number >= len(turns) and turns and turns[-1].get("repeat"):
                place = len(turns) - 1
            elif number >= len(turns):
                raise ValueError("unexpected request: the script has %d turns, this is turn %d" % (
                    len(turns), number + 1))
            else:
                place = number
            turn = turns[place]
            self.used.add((r, place))
            key = (r, number, view.users[0] if view.users else "")
            tried = self.attempts[key] = self.attempts.get(key, 0) + 1
            if tried <= len(turn.get("first", [])):
                return turn, turn["first"][tried - 1], view.answers
            self.position += 1
            return turn, turn.get("reply", {}), view.answers
        raise ValueError("unexpected request: no rule fits the user text %r" % (view.users[-1:],))

    def unused(self):
        return ["rule %d turn %d" % (r, t) for r, rule in enumerate(self.rules)
                for t in range(len(rule["turns"])) if (r, t) not in self.used]


def unmet(expect, view):
    """The expectations of a turn that a request does not meet, as sentences."""
    texts, wrong = list(strings(view.body)), []
    for text in as_list(expect.get("contains", [])):
        if not any(text in s for s in texts):
            wrong.append("the request does not contain %r" % text)
    for text in as_list(expect.get("lacks", [])):
        if any(text in s for s in texts):
            wrong.append("the request contains %r" % text)
    for key, got in (("outputs", len(view.outputs)), ("model", view.model), ("protocol", view.protocol),
                     ("turn", view.answers)):
        if key in expect and expect[key] != got:
            wrong.append("%s: expected %r, got %r" % (key, expect[key], got))
    if "tools" in expect and sorted(expect["tools"]) != sorted(view.tools):
        wrong.append("tools: expected %r, got %r" % (sorted(expect["tools"]), sorted(view.tools)))
    if "outputs_contain" in expect:
        wanted = expect["outputs_contain"]
        if len(wanted) != len(view.outputs) or not all(w in o for w, o in zip(wanted, view.outputs)):
            wrong.append("outputs: expected in order %r, got %r" % (wanted, view.outputs))
    return wrong


def unique_keys(pairs):
    seen = {}
    for key, value in pairs:
        if key in seen:
            raise ValueError("duplicate key %r" % key)
        seen[key] = value
    return seen


def no_constant(text):
    raise ValueError("%s is not JSON" % text)


def gone(ahead):
    """Whether the read ahead found the client's end of the connection."""
    return ahead.done() and (ahead.exception() is not None or not ahead.result())


class Answer:
    """One HTTP answer on its way: status, body bytes, and how to send them."""

    def __init__(self, status, value, how=None):
        self.status, self.how = status, how or {}
        self.body = value if isinstance(value, bytes) else compact(value).encode()


class Daemon:
    def __init__(self, script, log=None):
        self.script, self.log = script, log
        self.wires = {"openai": Responses(), "gemini": Gemini()}
        self.connections = self.open = self.requests = self.waiting = 0
        self.problems, self.refused = [], []
        self.released = asyncio.Event()
        self.barrier, self.barrier_count = asyncio.Event(), 0
        self.start = time.monotonic()

    def stats(self):
        return {"connections": self.connections, "open": self.open, "requests": self.requests,
                "waiting": self.waiting, "problems": self.problems, "refused": self.refused,
                "unused": self.script.unused()}

    # -- one request ------------------------------------------------------

    async def respond(self, request):
        """The Answer to a request; it notes in `request` what the log shows besides."""
        path = request["path"].split("?")[0]
        if request["method"] == "GET" and path == "/stats":
            return Answer(200, self.stats())
        if request["method"] == "POST" and path == "/release":
            self.released.set()
            return Answer(200, {})
        self.requests += 1
        if request["method"] == "GET" and path in self.script.get:
            page = self.script.get[path]
            await asyncio.sleep(page.get("delay_ms", 0) / 1000)
            return Answer(page.get("status", 200), page.get("text", "").encode(), page)
        name = re.fullmatch(r"/v1(?:beta)?/models/([^/:]+):generateContent", path)
        if request["method"] == "POST" and (path == "/v1/responses" or name):
            wire = self.wires["gemini" if name else "openai"]
            return await self.model(wire, name and name.group(1), request)
        self.problems.append("unexpected request: %s %s" % (request["method"], path))
        return Answer(404, {"error": {"message": "Invalid URL (%s %s)" % (request["method"], path), "code": None,
                                      "type": "invalid_request_error", "param": None}})

    async def model(self, wire, name, request):
        try:
            view = self.checked(wire, name, request)
        except Refused as refusal:
            self.refused.append(str(refusal))
            return Answer(refusal.status, refusal.body)
        try:
            turn, reply, number = self.script.pick(view)
        except ValueError as why:
            self.problems.append(str(why))
            return Answer(400, wire.error(400, str(why), code="script"))
        request["turn"] = number
        wrong = unmet(turn.get("expect", {}), view)
        if wrong:
            self.problems.extend(wrong)
            return Answer(400, wire.error(400, "; ".join(wrong), code="script"))
        answer = self.rendered(wire, reply, view, number)
        await self.until_due(turn, reply)
        return answer

    def checked(self, wire, name, request):
        if request["headers"].get("content-type", "").split(";")[0].strip() != "application/json":
            raise Refused(400, wire.error(400, "Unsupported content type: expected 'application/json'."))
        try:
            body = json.loads(request["body"].decode("utf-8"), object_pairs_hook=unique_keys,
                              parse_constant=no_constant)
        except (ValueError, RecursionError) as why:
            raise Refused(400, wire.error(400, "We could not parse the JSON body of your request. (%s)" % why))
        try:
            return wire.check(name, request["headers"], body)
        except (AttributeError, TypeError, KeyError, IndexError) as why:  # a value of a wrong type somewhere
            raise Refused(400, wire.error(400, "Invalid JSON payload received: %r" % why))

    def rendered(self, wire, reply, view, number):
        status = reply.get("status", 200)
        if "body_text" in reply:
            return Answer(status, reply["body_text"].encode(), reply)
        if "raw" in reply:
            value = reply["raw"]
        elif status >= 400:
            value = wire.error(status, reply.get("message"), code=reply.get("code"), details=reply.get("details"))
        else:
            value = wire.answer(reply, view, number)
        wire.remember(value)
        return Answer(status, value, reply)

    async def until_due(self, turn, reply):
        self.waiting += 1
        try:
            if turn.get("together"):
                self.barrier_count += 1
                if self.barrier_count >= turn["together"]:
                    self.barrier.set()
                    self.barrier, self.barrier_count = asyncio.Event(), 0
                else:
                    await self.barrier.wait()
            if turn.get("hold"):
                await self.released.wait()
            await asyncio.sleep(turn.get("delay_ms", 0) / 1000)
            if reply.get("hang"):
                await asyncio.Event().wait()
        finally:
            self.waiting -= 1

    # -- HTTP/1.1 ---------------------------------------------------------

    async def connection(self, reader, writer):
        number, ahead = 0, None
        try:
            while True:
                request = await self.read_request(reader, writer, await ahead if ahead else b"")
                if request is None:
                    break
                if not number and not request["path"].startswith(CONTROL):  # the tests' own questions do not count
                    self.connections += 1
                    self.open += 1
                    number = self.connections
                request["conn"], request["t_in"] = number, time.monotonic() - self.start
                # A read ahead tells when the client leaves before it has its answer.
                ahead = asyncio.ensure_future(reader.read(1))
                work = asyncio.ensure_future(self.respond(request))
                await asyncio.wait({work, ahead}, return_when=asyncio.FIRST_COMPLETED)
                if not work.done() and gone(ahead):
                    work.cancel()
                    self.note(request, None)
                    break
                answer = await work
                keep = await self.send(request, answer, writer)
                self.note(request, answer)
                if not keep or gone(ahead):
                    break
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            pass        # the client broke off, or does not speak HTTP
        except asyncio.CancelledError:
            pass        # the server ends: nobody waits for this task
        finally:
            if ahead and not ahead.done():
                ahead.cancel()
            self.open -= number > 0
            writer.close()

    async def read_request(self, reader, writer, first):
        if not first:
            first = await reader.read(1)
        if not first:
            return None
        head = (first + await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ", 2)
        headers = {}
        for line in head[1:]:
            if line:
                key, value = line.split(":", 1)
                headers[key.strip().lower()] = value.strip()
        if headers.get("expect", "").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if headers.get("transfer-encoding", "").lower() == "chunked":
            body = await self.read_chunks(reader)
        else:
            length = int(headers.get("content-length", 0))
            if length > MAX_BODY:
                raise ConnectionError("body over %d bytes" % MAX_BODY)
            body = await reader.readexactly(length)
        return {"method": method, "path": path, "headers": headers, "body": body}

    async def read_chunks(self, reader):
        parts = []
        while True:
            size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
            parts.append(await reader.readexactly(size))
            await reader.readexactly(2)
            if size == 0:
                return b"".join(parts)

    async def send(self, request, answer, writer):
        """Writes the answer; False when the connection ends with it."""
        how, body = answer.how, answer.body
        headers = {"content-type": "application/json", "x-request-id": "req_%d" % self.requests}
        headers.update({k.lower(): str(v) for k, v in how.get("headers", {}).items()})
        if how.get("gzip") and "gzip" in request["headers"].get("accept-encoding", ""):
            body = gzip.compress(body, mtime=0)
            headers["content-encoding"] = "gzip"
        close = how.get("close") or request["headers"].get("connection", "").lower() == "close"
        if close and close != "silent":
            headers["connection"] = "close"
        headers.update({"transfer-encoding": "chunked"} if how.get("chunked") else {"content-length": len(body)})
        head = "HTTP/1.1 %d %s\r\n" % (answer.status, "OK" if answer.status < 300 else "Refused")
        writer.write((head + "".join("%s: %s\r\n" % pair for pair in headers.items()) + "\r\n").encode("latin-1"))
        if how.get("cut"):
            writer.write(body[:len(body) // 2])
            await writer.drain()
            return False
        if how.get("chunked"):
            for at in range(0, len(body), 1000):
                piece = body[at:at + 1000]
                writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            body = b"0\r\n\r\n"
        writer.write(body)
        await writer.drain()
        return not close

    def note(self, request, answer):
        """One line of the log; `status` null means that the client left before its answer."""
        if not self.log or request["path"].startswith(CONTROL):
            return
        line = {key: request[key] for key in ("conn", "t_in", "method", "path", "headers")}
        line["t_out"] = time.monotonic() - self.start
        line["turn"] = request.get("turn")
        line["status"] = answer.status if answer else None
        for key, raw in (("body", request["body"]), ("answer", answer.body if answer else b"")):
            try:
                line[key] = raw.decode("utf-8")
            except UnicodeDecodeError:
                line[key + "_base64"] = base64.b64encode(raw).decode()
        self.log.write(json.dumps(line) + "\n")
        self.log.flush()


async def serve(daemon, port, seconds):
    """Runs until stdin ends or the time is over; an empty stdin (/dev/null) ends it at once."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()

    def watch():
        while os.read(0, 4096):
            pass
        loop.call_soon_threadsafe(over.set)

    server = await asyncio.start_server(daemon.connection, "127.0.0.1", port, backlog=1024, limit=1 << 20)
    print("PORT %d" % server.sockets[0].getsockname()[1], flush=True)
    threading.Thread(target=watch, daemon=True).start()
    try:
        await asyncio.wait_for(over.wait(), seconds)
    except asyncio.TimeoutError:
        print("modeld: ended after %g seconds" % seconds, file=sys.stderr)
    server.close()


class Server:
    """The server as a child process, for `with` in Python tests."""

    def __init__(self, script, seconds=60):
        self.dir = tempfile.TemporaryDirectory(prefix="modeld-")
        self.log = os.path.join(self.dir.name, "log.jsonl")
        path = os.path.join(self.dir.name, "script.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(script, file)
        self.child = subprocess.Popen(
            [sys.executable, os.path.abspath(__file__), path, "--log", self.log, "--seconds", str(seconds)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        line = self.child.stdout.readline().split()
        if len(line) != 2:
            self.__exit__()
            raise ScriptError("modeld did not start")
        self.port = int(line[1])
        self.url = "http://127.0.0.1:%d" % self.port
        self.env = {"OPENAI_BASE_URL": self.url + "/v1", "OPENAI_API_KEY": "test-key",
                    "GOOGLE_GEMINI_BASE_URL": self.url, "GEMINI_API_KEY": "test-key"}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.stdin.close()
        self.child.stdout.close()
        self.status = self.child.wait(10)
        self.dir.cleanup()

    def stats(self):
        with urllib.request.urlopen(self.url + "/stats", timeout=10) as answer:
            return json.load(answer)

    def release(self):
        urllib.request.urlopen(urllib.request.Request(self.url + "/release", data=b""), timeout=10).close()

    def requests(self):
        """The log so far, `body` parsed as `json` where it is JSON."""
        lines = []
        if os.path.exists(self.log):
            with open(self.log, encoding="utf-8") as file:
                lines = [json.loads(line) for line in file if line.endswith("\n")]
        for line in lines:
            try:
                line["json"] = json.loads(line.get("body", ""))
            except ValueError:
                line["json"] = None
        return lines


def main():
    parser = argparse.ArgumentParser(description="scripted model server for tests; see the head of this file")
    parser.add_argument("script")
    parser.add_argument("--log")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--port", type=int, default=0)
    args = parser.parse_args()
    try:
        with open(args.script, encoding="utf-8") as file:
            script = Script(json.load(file))
    except (OSError, ValueError, KeyError, ScriptError) as why:
        sys.exit("modeld: %s: %s" % (args.script, why))
    log = open(args.log, "w", encoding="utf-8") if args.log else None

    async def run():
        daemon = Daemon(script, log)
        await serve(daemon, args.port, args.seconds)
        return daemon.stats()

    stats = asyncio.run(run())
    for text in stats["problems"] + ["unused: " + u for u in stats["unused"]]:
        print("modeld: " + text, file=sys.stderr)
    sys.stderr.flush()
    # The watching thread may still sit in a read: leave without waiting for it.
    os._exit(1 if stats["problems"] or stats["unused"] else 0)


if __name__ == "__main__":
    main()
