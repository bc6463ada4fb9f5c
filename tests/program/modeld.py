#!/usr/bin/env python3
"""A scripted model server for tests: OpenAI Responses and Chat Completions, Anthropic Messages and Gemini, buffered
and streaming, on 127.0.0.1.

    modeld.py SCRIPT.json [--log FILE] [--seconds 120] [--port 0]

The first line on stdout is `PORT n`. The server ends when its stdin reaches end of file or after --seconds, so nothing
is left behind; its exit status is 1 when the script was not followed (see `problems`) or turns stayed unused.

    POST .../responses, .../chat/completions    need `Authorization: Bearer KEY`
    POST .../messages                           needs `x-api-key: KEY` or the same
    POST /v1beta/models/NAME:generateContent    needs `x-goog-api-key: KEY` (v1 too); :streamGenerateContent?alt=sse
    GET  .../models                             the list of models as the protocol of the key's header has it
    GET  /stats      {connections, open, requests, waiting, problems, refused, unused}
    POST /release    lets answers go that wait with `"hold": true` or a pause, these and all later ones
    GET  /...        what the script's "get" says, for tools that fetch something

The key `bad-key` and the model `no-such-model` are refused as the services do. Every request is checked as strictly as
the real service would (wire_*.py); what they refuse is listed in `refused` and uses no turn.

SCRIPT is a list of turns, used one after the other (one conversation), or an object

    {"rules": [{"when": {"user_contains": TEXT, "model": NAME, "protocol": "openai|openai-chat|anthropic|gemini",
                         "tools": [..], "stream": true},
                "turns": [TURN, ...]}],
     "get": {"/path": {"text": BODY, "status": 200, "headers": {}, "delay_ms": 0}},
     "models": [NAME, ...], "models_page": 2}        the list of models, at most so many on a page

where the first rule whose `when` fits serves the request, and the turn is the number of answers in its history: any
number of conversations may run at once. `user_contains` looks at all texts of the user. A TURN is

    {"expect": {"outputs": 3, "outputs_contain": ["a", "b", "c"], "contains": TEXT or [TEXTS], "lacks": the same,
                "tools": ["a"], "model": NAME, "protocol": NAME, "turn": N, "stream": true},
     "first": [REPLY, ...],         replies to the first attempts at this turn, e.g. {"status": 429}
     "delay_ms": 0, "hold": true,   when the answer goes
     "together": 3,                 the answer waits until 3 requests wait at such turns (proof that they ran at once)
     "repeat": true,                a rule's last turn serves all later ones, a list's turn all that follow
     "reply": REPLY}

and a REPLY is written in neutral words and rendered as the protocol of the request has it, streamed when that is asked:

    {"text": "...", "calls": [{"name": .., "args": {..} or "args_text": "raw", "id": optional, null = none}],
     "stop": "end|length|filter|refusal|failed", "usage": {"input", "output", "cached", "reasoning", "written"},
     "reasoning": true or "text"}   reasoning item (default: when there are calls)
    {"raw": {..}}                   a verbatim JSON body     {"body_text": "<html>"}   any body
    "status": 429                   with the service's error body, or raw, or body_text; "message", "code", "details"
    "headers": {..}, "content_type": "..."
    "cut": true    half the body, then the connection ends;  "drop": true   it ends before any answer
    "hang": true   never an answer;  "every_ms": 5   between the pieces of a body (100 bytes of one that is no stream)
    "gzip": true, "chunked": true, "close": true or "silent"   (without saying so)   how the body and connection go

Streams only; an event is what the protocol calls so, comments and pings do not count:

    "pieces": 5          characters of a delta;  "interleave": true   fragments of several calls by turns
    "split": n or "random" with "seed": n      bytes of a write, which the client reads just so
    "eol": "lf|crlf|cr"  "comments": true, "pings": true   before each event
    "pause_after": n     events, until /release; "keep_alive": "comments|pings" goes every 10 ms meanwhile
    "stop_after": n      events, then the end: "end": "eof" (default) inside HTTP's framing, "clean", or "reset"
    "error_after": n     events, then "error": {"status", "code", "message", "form"} as the protocol has it
    "no_done": true      no end marker     "sse": "..."   this text as text/event-stream, at any request
    "ignore_stream": true                  a whole answer although a stream was asked

Tests in Python use `with modeld.Server(script) as server:` and server.env, server.stats(), server.requests().
"""

import argparse
import asyncio
import base64
import json
import os
import re
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
import zlib

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import modelstream                               # noqa: E402
from modelscript import Script, ScriptError, unmet  # noqa: E402
from modelwire import Refused, compact           # noqa: E402
from wire_anthropic import Anthropic             # noqa: E402
from wire_chat import Chat                       # noqa: E402
from wire_gemini import Gemini                   # noqa: E402
from wire_responses import Responses             # noqa: E402

CONTROL = ("/stats", "/release")
MAX_BODY = 256 << 20
KEEP_ALIVE = 0.01
ROUTES = ((r".*/responses", "openai"), (r".*/chat/completions", "openai-chat"), (r".*/messages", "anthropic"),
          (r"/v1(?:beta)?/models/([^/:]+):(?:generateContent|streamGenerateContent)", "gemini"))


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

    def __init__(self, status, value, how=None, steps=None, kind="application/json"):
        self.status, self.how, self.steps, self.kind = status, how or {}, steps, kind
        self.body = value if isinstance(value, bytes) else compact(value).encode()
        self.keep_alive = None  # bytes that a paused stream goes on sending


class Daemon:
    def __init__(self, script, log=None):
        self.script, self.log = script, log
        self.wires = {wire.name: wire for wire in (Responses(), Chat(), Anthropic(), Gemini())}
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
        if request["method"] == "GET" and path.endswith("/models"):
            return self.models(request)
        for pattern, protocol in ROUTES if request["method"] == "POST" else ():
            found = re.fullmatch(pattern, path)
            if found:
                return await self.model(self.wires[protocol], found.groups()[0] if found.groups() else None, request)
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
        answer = self.rendered(wire, reply, view, request)
        await self.until_due(turn, reply)
        return answer

    def models(self, request):
        """The list of models; whose list, the headers tell."""
        headers, query = request["headers"], urllib.parse.parse_qs(urllib.parse.urlsplit(request["path"]).query)
        wire = self.wires["gemini" if "x-goog-api-key" in headers else
                          "anthropic" if "anthropic-version" in headers else "openai"]
        try:
            wire.check_key(headers)
        except Refused as refusal:
            return Answer(refusal.status, refusal.body)
        if self.script.models is None:
            return Answer(404, wire.error(404, "Not Found"))
        for size in ("pageSize", "limit"):
            if size in query:
                query[size] = [str(min(int(query[size][0]), self.script.models_page))]
        return Answer(*wire.models(self.script.models, query))

    def checked(self, wire, name, request):
        if request["headers"].get("content-type", "").split(";")[0].strip() != "application/json":
            raise Refused(400, wire.error(400, "Unsupported content type: expected 'application/json'."))
        try:
            body = json.loads(request["body"].decode("utf-8"), object_pairs_hook=unique_keys,
                              parse_constant=no_constant)
        except (ValueError, RecursionError) as why:
            raise Refused(400, wire.error(400, "We could not parse the JSON body of your request. (%s)" % why))
        try:
            view = wire.check(name, request["headers"], body)
            path, _, query = request["path"].partition("?")
            view.stream = view.stream or path.endswith(":streamGenerateContent")
            request["array"] = wire.name == "gemini" and view.stream and "alt=sse" not in query.split("&")
            return view
        except (AttributeError, TypeError, KeyError, IndexError) as why:  # a value of a wrong type somewhere
            raise Refused(400, wire.error(400, "Invalid JSON payload received: %r" % why))

    def rendered(self, wire, reply, view, request):
        status = reply.get("status", 200)
        if "sse" in reply:
            wire.remember_stream(modelstream.values(reply["sse"]))
            return self.streamed(wire, [], reply, view)
        if "body_text" in reply:
            return Answer(status, reply["body_text"].encode(), reply)
        if "raw" in reply:
            value = reply["raw"]
        elif status >= 400:
            value = wire.error(status, reply.get("message"), code=reply.get("code"), details=reply.get("details"))
        else:
            value = wire.answer(reply, view, view.answers)
        wire.remember(value)
        if not view.stream or status >= 300 or reply.get("ignore_stream"):
            return Answer(status, value, reply)
        events = wire.events(value, reply, view)
        if request["array"]:
            return Answer(status, [value for _, value in events], reply)
        return self.streamed(wire, events, reply, view)

    def streamed(self, wire, events, reply, view):
        answer = Answer(reply.get("status", 200), b"", reply, modelstream.steps(wire, events, reply, view),
                        "text/event-stream" + ("; charset=utf-8" if wire.name.startswith("openai") else ""))
        answer.keep_alive = modelstream.keep_alive(wire, reply, view)
        return answer

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
                work = asyncio.ensure_future(self.serve(request, writer))
                await asyncio.wait({work, ahead}, return_when=asyncio.FIRST_COMPLETED)
                left = not work.done() and gone(ahead)
                if left:
                    work.cancel()
                try:
                    keep = await work
                except (asyncio.CancelledError, ConnectionError):
                    left, keep = True, False
                self.note(request, left)
                if not keep or gone(ahead):
                    break
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            pass        # the client broke off, or does not speak HTTP
        except asyncio.CancelledError:
            pass        # the server ends: nobody waits for this task
        finally:
            if ahead and not ahead.cancel():
                ahead.exception()   # looked at, whatever it is: the client broke off
            self.open -= number > 0
            writer.close()

    async def serve(self, request, writer):
        """Answers a request; False when the connection ends with it."""
        try:
            answer = await self.respond(request)
        except Exception as fault:   # pylint: disable=broad-except
            self.problems.append("the model server failed: %r" % fault)
            answer = Answer(500, {"error": {"message": "the model server failed: %r" % fault}})
        if answer.how.get("drop"):
            return False
        request["answer"] = answer
        return await self.send(request, answer, writer)

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
        how, body, stream = answer.how, answer.body, answer.steps is not None
        headers = {"content-type": how.get("content_type", answer.kind), "x-request-id": "req_%d" % self.requests}
        headers.update({k.lower(): str(v) for k, v in how.get("headers", {}).items()})
        pack = None
        if how.get("gzip") and "gzip" in request["headers"].get("accept-encoding", ""):
            headers["content-encoding"] = "gzip"
            pack = zlib.compressobj(wbits=31)
            body = body if stream else pack.compress(body) + pack.flush()
        close = how.get("close") or request["headers"].get("connection", "").lower() == "close"
        if close and close != "silent":
            headers["connection"] = "close"
        chunked = how.get("chunked") or stream and not how.get("close")
        if chunked:
            headers["transfer-encoding"] = "chunked"
        elif not stream:
            headers["content-length"] = len(body)
        head = "HTTP/1.1 %d %s\r\n" % (answer.status, "OK" if answer.status < 300 else "Refused")
        writer.write((head + "".join("%s: %s\r\n" % pair for pair in headers.items()) + "\r\n").encode("latin-1"))
        if how.get("cut"):
            writer.write(body[:len(body) // 2])
            await writer.drain()
            return False
        steps = answer.steps
        if not stream:
            size = 100 if how.get("every_ms") else 1000 if chunked else len(body) or 1
            steps = [("bytes", body[at:at + size]) for at in range(0, len(body), size)] + [("end", "clean")]
        ending = await self.deliver(answer, steps, chunked, pack if stream else None, writer)
        if ending == "reset":
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return not close and ending == "clean"

    async def deliver(self, answer, steps, chunked, pack, writer):
        """Sends a body piece by piece; how it ends. What goes without a break goes in one write, the end as well:
        a client that leaves at the end marker finds the end of the body there, as it does at real servers."""
        out = bytearray()

        def put(data):
            if answer.steps is not None:
                answer.body += data
            if pack:
                data = pack.compress(data) + pack.flush(zlib.Z_SYNC_FLUSH)
            if data:
                out.extend(b"%x\r\n%s\r\n" % (len(data), data) if chunked else data)

        def flush():
            if writer.is_closing():
                raise ConnectionResetError("the client left")
            writer.write(bytes(out))
            out.clear()

        for step in steps:
            if step[0] == "bytes":
                put(step[1])
                if answer.how.get("every_ms"):
                    flush()
                    await asyncio.sleep(answer.how["every_ms"] / 1000)
            elif step[0] == "pause":
                flush()
                await self.paused(answer.keep_alive, lambda data: (put(data), flush()))
        if step[1] == "clean":
            rest = pack.flush() if pack else b""
            if rest:
                out.extend(b"%x\r\n%s\r\n" % (len(rest), rest) if chunked else rest)
            if chunked:
                out.extend(b"0\r\n\r\n")
        flush()
        await writer.drain()
        return step[1]

    async def paused(self, keep_alive, send):
        self.waiting += 1
        try:
            while not self.released.is_set():
                try:
                    await asyncio.wait_for(self.released.wait(), KEEP_ALIVE if keep_alive else None)
                except asyncio.TimeoutError:
                    send(keep_alive)
        finally:
            self.waiting -= 1

    def note(self, request, left):
        """One line of the log; `status` null means that the client left before its answer, `left` before its end."""
        if not self.log or request["path"].startswith(CONTROL):
            return
        answer = request.get("answer")
        line = {key: request[key] for key in ("conn", "t_in", "method", "path", "headers")}
        line.update(t_out=time.monotonic() - self.start, turn=request.get("turn"), left=left,
                    status=answer.status if answer else None)
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
                    "GOOGLE_GEMINI_BASE_URL": self.url, "GEMINI_API_KEY": "test-key",
                    "ANTHROPIC_BASE_URL": self.url, "ANTHROPIC_API_KEY": "test-key"}

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

    def wait(self, waiting, seconds=20):
        """Returns when so many answers wait to be released."""
        end = time.monotonic() + seconds
        while self.stats()["waiting"] != waiting:
            assert time.monotonic() < end, "waited in vain for %d answers that wait: %r" % (waiting, self.stats())
            time.sleep(0.005)

    def release(self):
        urllib.request.urlopen(urllib.request.Request(self.url + "/release", data=b""), timeout=10).close()

    def requests(self):
        """The log so far, `body` parsed as `json` where it is JSON; of all requests but those that wait."""
        end = time.monotonic() + 5
        lines = self.lines()
        while time.monotonic() < end:   # a line is written behind the last byte of its answer
            stats = self.stats()
            if len(lines) >= stats["requests"] - stats["waiting"]:
                break
            time.sleep(0.002)
            lines = self.lines()
        return lines

    def lines(self):
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
