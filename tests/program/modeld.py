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
import json
import os
import select
import signal
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import modeldaemon  # noqa: E402
from modelscript import Script, ScriptError  # noqa: E402


class Child:
    """A copy of this process that does the work, with pipes as its stdin and stdout. Tests start hundreds of servers:
    to fork costs a tenth of what a Python of its own does."""

    def __init__(self, work):
        sys.stdout.flush()
        sys.stderr.flush()
        (read, self.stdin), (stdout, write) = os.pipe(), os.pipe()
        self.stdout = open(stdout, "rb")
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.dup2(read, 0)
                os.dup2(write, 1)
                os.closerange(3, 1024)  # also what others wait to be closed
                work()
            except SystemExit as leave:
                print(leave.code, file=sys.stderr)
            finally:
                os._exit(1)
        os.close(read)
        os.close(write)

    def end(self, seconds):
        """Tells it that it is over; its exit status."""
        os.close(self.stdin)
        if not select.select([self.stdout], [], [], seconds)[0]:
            os.kill(self.pid, signal.SIGKILL)
        self.stdout.close()
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


class Server:
    """The server as a child process, for `with` in Python tests."""

    def __init__(self, script, seconds=60):
        self.dir = tempfile.TemporaryDirectory(prefix="modeld-")
        self.log = os.path.join(self.dir.name, "log.jsonl")
        path = os.path.join(self.dir.name, "script.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(script, file)
        self.child = Child(lambda: main([path, "--log", self.log, "--seconds", str(seconds)]))
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
        self.status = self.child.end(10)
        self.dir.cleanup()

    def control(self, method, path):
        from http.client import HTTPConnection  # the server itself has no need of it
        client = HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            client.request(method, path)
            return json.loads(client.getresponse().read())
        finally:
            client.close()

    def stats(self):
        return self.control("GET", "/stats")

    def wait(self, waiting, seconds=20):
        """Returns when so many answers wait to be released."""
        end = time.monotonic() + seconds
        while self.stats()["waiting"] != waiting:
            assert time.monotonic() < end, "waited in vain for %d answers that wait: %r" % (waiting, self.stats())
            time.sleep(0.005)

    def release(self):
        self.control("POST", "/release")

    def requests(self):
        """The log so far, `body` parsed as `json` where it is JSON; of all requests but those that wait."""
        end = time.monotonic() + 30
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


def main(args=None):
    parser = argparse.ArgumentParser(description="scripted model server for tests; see the head of this file")
    parser.add_argument("script")
    parser.add_argument("--log")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--port", type=int, default=0)
    args = parser.parse_args(args)
    try:
        with open(args.script, encoding="utf-8") as file:
            script = Script(json.load(file))
    except (OSError, ValueError, KeyError, ScriptError) as why:
        sys.exit("modeld: %s: %s" % (args.script, why))
    log = open(args.log, "w", encoding="utf-8") if args.log else None

    stats = modeldaemon.run(script, log, args.port, args.seconds)
    for text in stats["problems"] + ["unused: " + u for u in stats["unused"]]:
        print("modeld: " + text, file=sys.stderr)
    sys.stderr.flush()
    # The watching thread may still sit in a read: leave without waiting for it.
    os._exit(1 if stats["problems"] or stats["unused"] else 0)


if __name__ == "__main__":
    main()
