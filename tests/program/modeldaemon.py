"""The server process of modeld.py: takes requests, asks the script for the answer, and sends it as the script says."""

import asyncio
import base64
import json
import os
import re
import socket
import struct
import sys
import threading
import time
import urllib.parse
import zlib

import modelstream
from modelscript import unmet
from modelwire import Refused, compact
from wire_anthropic import Anthropic
from wire_chat import Chat
from wire_gemini import Gemini
from wire_responses import Responses

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


def run(script, log, port, seconds):
    """Serves until the end; the last numbers, as of /stats."""
    async def served():
        daemon = Daemon(script, log)
        await serve(daemon, port, seconds)
        return daemon.stats()

    return asyncio.run(served())
