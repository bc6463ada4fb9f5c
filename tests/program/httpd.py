#!/usr/bin/env python3
"""A web server that misbehaves on request, for the tests of lash's HTTP. Standard library only.

    httpd.py [--tls CERT KEY] [--for SECONDS]
                        prints its port on stdout; ends when its stdin is closed, or after that time

    /echo               what was asked for, as JSON: method, path, headers (list of pairs), body, and which
                        connection it came by (connection: counted from 1, nth: its request number there)
    /connections        how many connections were made so far
    /status/N           status N with a short body
    /delay/MS           answers after that time
    /redirect?to=&code= Location: to, status code (302)
    /loop               redirects to itself
    /gzip /deflate      the text "hello, packed world", packed     /badgzip: claims to be packed
    /bomb               64 MiB of zeros, gzipped
    /chunked            chunks and a trailer
    /trickle/N?ms=      N bytes, one at a time
    /stuck              a head, ten bytes of a hundred, then silence
    /cut/N              announces 1000 bytes, sends N, hangs up
    /hangup             closes without an answer
    /idle/MS            answers, and closes the idle connection after that time
    /last               answers, and hangs up when the next request's first bytes arrive on the connection
    /half               reads the head and 1000 bytes of the body, resets the connection
    /big/N              N bytes with a Content-Length
    /endless?to=        chunks for ever; with `to` as the body of a redirect
    /close              a body that ends with the connection
    /headers            repeated, odd and many headers
    /hugehead           headers of 1 MiB
    /early              1xx answers before the real one
    /garbage            something that is not HTTP
    /count              takes the body without keeping it; as JSON: bytes, crc, chunked, method, type
    /refuse/N?status=   reads N bytes of the body, answers with that status (413) and hangs up
    /hold/NAME?how=     keeps the connection busy until the client closes it: silent, head, drip (a byte each 10 ms),
                        comments (of an event stream), flood, upload (takes the body)
    /closed/NAME        answers when that connection is closed: the time that it saw it, seconds since 1970
    /held/NAME          answers when /hold/NAME has begun
    /play               answers with what its body says, a JSON list: texts are sent as they are (bytes as U+0000 to
                        U+00FF), numbers are seconds of waiting, null hangs up, {"repeat": list, "times": n} (without
                        times: for ever), {"wait": NAME} waits for
    /go/NAME            which this does
    /keep/NAME          keeps its body, such a list; /kept/NAME/... plays it, whatever is asked
    /deaf/...           reads nothing of the request but its head, and never answers
    /gauge/MS?id=       answers after that time; /gauges: how many at most were at it at once, and their ids in order

As a proxy it answers itself, whatever the host.
"""
import asyncio
import functools
import gzip
import json
import socket
import ssl
import sys
import time
import zlib
from urllib.parse import parse_qs, unquote, urlsplit

made = 0
events = {}  # name -> asyncio.Event
kept = {}    # name -> list of steps
seen = {}    # name -> when
gauge = {"now": 0, "peak": 0, "order": []}


@functools.cache
def bomb():
    return gzip.compress(bytes(64 << 20), 9)


def event(name):
    return events.setdefault(name, asyncio.Event())


def head(status, headers, length=None):
    lines = [f"HTTP/1.1 {status} Because"]
    lines += [f"{name}: {value}" for name, value in headers]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class HangUp(Exception):
    pass


class Connection:
    def __init__(self, reader, writer):
        global made
        made += 1
        self.number, self.nth = made, 0
        self.reader, self.writer = reader, writer
        self.idle = None
        self.last = False

    async def serve(self):
        try:
            while await self.one():
                pass
        except (HangUp, ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        finally:
            self.writer.close()

    async def one(self):
        try:
            first = await asyncio.wait_for(self.reader.readline(), self.idle)
        except asyncio.TimeoutError:
            return False
        if not first or self.last:
            return False
        self.nth += 1
        self.method, self.target, _ = first.decode("latin-1").split(" ", 2)
        self.headers = []
        while True:
            line = (await self.reader.readline()).decode("latin-1").rstrip("\r\n")
            if not line:
                break
            name, _, value = line.partition(":")
            self.headers.append((name, value.strip()))
        lower = {name.lower(): value for name, value in self.headers}
        parts = urlsplit(self.target)
        self.query = {k: v[0] for k, v in parse_qs(parts.query, keep_blank_values=True).items()}
        words = parts.path.strip("/").split("/")
        self.length = int(lower.get("content-length", 0))
        self.chunked = lower.get("transfer-encoding", "").lower() == "chunked"
        self.type = lower.get("content-type")
        self.crc = 0
        if words[0] not in ("half", "count", "refuse", "hold", "deaf"):
            self.body = b"".join([piece async for piece in self.pieces()])
        handler = getattr(self, "do_" + words[0], None)
        if handler is None:
            self.send(404, b"no such page")
        else:
            await handler(*[unquote(w) for w in words[1:]])
        await self.writer.drain()
        return lower.get("connection", "").lower() != "close"

    async def pieces(self):
        """The body of the request as it comes."""
        if not self.chunked:
            left = self.length
            while left > 0:
                piece = await self.reader.read(min(left, 1 << 16))
                if not piece:
                    raise HangUp
                left -= len(piece)
                yield piece
            return
        while True:
            size = int((await self.reader.readline()).split(b";")[0], 16)
            if size > 0:
                yield await self.reader.readexactly(size)
            if await self.reader.readline() != b"\r\n":
                raise HangUp
            if size == 0:
                return

    def send(self, status, body, headers=()):
        self.writer.write(head(status, headers, len(body)) + (b"" if self.method == "HEAD" else body))

    async def do_echo(self, *_):
        self.send(200, json.dumps({
            "method": self.method, "path": self.target, "headers": self.headers,
            "body": self.body.decode("latin-1"), "length": self.length,
            "connection": self.number, "nth": self.nth, "chunked": self.chunked,
        }).encode(), [("Content-Type", "application/json")])

    async def do_connections(self):
        self.send(200, str(made).encode())

    async def do_status(self, status):
        if status in ("204", "304"):
            self.writer.write(head(int(status), []))
        else:
            self.send(int(status), b"status " + status.encode())

    async def do_delay(self, ms):
        await asyncio.sleep(int(ms) / 1000)
        self.send(200, b"late")

    async def do_redirect(self):
        self.send(int(self.query.get("code", 302)), b"over there", [("Location", self.query["to"])])

    async def do_loop(self):
        self.send(302, b"again", [("Location", "/loop")])

    async def do_gzip(self):
        self.send(200, gzip.compress(b"hello, packed world"), [("Content-Encoding", "gzip")])

    async def do_deflate(self):
        self.send(200, zlib.compress(b"hello, packed world"), [("Content-Encoding", "deflate")])

    async def do_badgzip(self):
        self.send(200, b"this is not packed at all", [("Content-Encoding", "gzip")])

    async def do_bomb(self):
        self.send(200, bomb(), [("Content-Encoding", "gzip")])

    async def do_chunked(self):
        self.writer.write(head(200, [("Transfer-Encoding", "chunked"), ("Trailer", "X-After")]))
        for piece in (b"one ", b"two ", b"three"):
            self.writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            await self.writer.drain()
        self.writer.write(b"0\r\nX-After: yes\r\n\r\n")

    async def do_trickle(self, n):
        n = int(n)
        self.writer.write(head(200, [], n))
        for i in range(n):
            self.writer.write(b"%c" % (97 + i % 26))
            await self.writer.drain()
            await asyncio.sleep(int(self.query.get("ms", 0)) / 1000)

    async def do_stuck(self):
        self.writer.write(head(200, [], 100) + b"0123456789")
        await self.writer.drain()
        await self.reader.read()
        raise HangUp

    async def do_cut(self, n):
        self.writer.write(head(200, [], 1000) + b"x" * int(n))
        await self.writer.drain()
        raise HangUp

    async def do_hangup(self):
        raise HangUp

    async def do_idle(self, ms):
        self.idle = int(ms) / 1000
        self.send(200, b"ok")

    async def do_last(self):
        self.last = True
        self.send(200, b"ok")

    async def do_half(self):
        await self.reader.readexactly(1000)
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.writer.transport.abort()
        raise HangUp

    async def do_big(self, n):
        left = int(n)
        self.writer.write(head(200, [], left))
        left = 0 if self.method == "HEAD" else left
        block = bytes(range(256)) * 256
        while left > 0:
            self.writer.write(block[:min(left, len(block))])
            left -= len(block)
            await self.writer.drain()

    async def do_endless(self):
        block = b"100000\r\n" + b"e" * 0x100000 + b"\r\n"
        to = [("Location", self.query["to"])] if "to" in self.query else []
        self.writer.write(head(302 if to else 200, to + [("Transfer-Encoding", "chunked")]))
        while True:
            self.writer.write(block)
            await self.writer.drain()

    async def do_close(self):
        self.writer.write(head(200, [("Connection", "close")]) + b"until the end")
        await self.writer.drain()
        raise HangUp

    async def do_headers(self):
        self.writer.write(b"HTTP/1.1 200 OK\r\nX-Twice: a\r\nx-twice:   b  \r\nSet-Cookie: a=1; Path=/\r\n"
                          b"Set-Cookie: b=2, c\r\nX-Empty:\r\nX-Folded: one\r\n\ttwo\r\n"
                          b"Content-Length: 2\r\n\r\nok")

    async def do_hugehead(self):
        self.writer.write(b"HTTP/1.1 200 OK\r\n" + b"X-Pad: %s\r\n" % (b"p" * 1000) * 1000 +
                          b"Content-Length: 2\r\n\r\nok")

    async def do_early(self):
        self.writer.write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nX-Early: yes\r\n\r\n")
        self.send(200, b"ok", [("X-Late", "yes")])

    async def do_garbage(self):
        self.writer.write(b"220 mail.example.com ESMTP\r\n")
        await self.writer.drain()
        raise HangUp

    async def do_count(self):
        total = 0
        async for piece in self.pieces():
            total += len(piece)
            self.crc = zlib.crc32(piece, self.crc)
        self.send(200, json.dumps({"bytes": total, "crc": self.crc, "chunked": self.chunked, "method": self.method,
                                   "type": self.type}).encode())

    async def do_refuse(self, n):
        left = int(n)
        if left > 0:
            async for piece in self.pieces():
                left -= len(piece)
                if left <= 0:
                    break
        self.send(int(self.query.get("status", 413)), b"too much", [
            (name.title(), value) for name, value in self.query.items() if name != "status"])
        await self.writer.drain()
        await asyncio.sleep(0.05)
        raise HangUp

    async def do_hold(self, name):
        how = self.query.get("how", "silent")
        event("held " + name).set()
        try:
            if how == "upload":
                async for _ in self.pieces():
                    pass
                raise HangUp
            if how != "silent":
                self.writer.write(head(200, [("Transfer-Encoding", "chunked")]))
                await self.writer.drain()
            closed = asyncio.ensure_future(self.reader.read())
            while how in ("drip", "comments", "flood") and not closed.done():
                data = {"drip": b"x", "comments": b": alive\n\n", "flood": b"f" * 65536}[how]
                self.writer.write(b"%x\r\n%s\r\n" % (len(data), data))
                await asyncio.wait({closed, asyncio.ensure_future(self.writer.drain())},
                                   return_when=asyncio.FIRST_COMPLETED)
                if how != "flood":
                    await asyncio.wait({closed}, timeout=0.01)
            await closed
        finally:
            seen[name] = time.time()
            event("closed " + name).set()
        raise HangUp

    async def do_closed(self, name):
        await event("closed " + name).wait()
        self.send(200, repr(seen[name]).encode())

    async def do_held(self, name):
        await event("held " + name).wait()
        self.send(200, b"yes")

    async def play(self, steps):
        for step in steps:
            if step is None:
                raise HangUp
            if isinstance(step, str):
                self.writer.write(step.encode("latin-1"))
                await self.writer.drain()
            elif isinstance(step, (int, float)):
                await asyncio.sleep(step)
            elif "wait" in step:
                await event(step["wait"]).wait()
            else:
                times = step.get("times")
                while times is None or times > 0:
                    await self.play(step["repeat"])
                    times = None if times is None else times - 1

    async def do_play(self):
        await self.play(json.loads(self.body))

    async def do_keep(self, name):
        kept[name] = json.loads(self.body)
        self.send(200, b"kept")

    async def do_kept(self, name, *_):
        await self.play(kept[name])

    async def do_deaf(self, *_):
        """Reads nothing of the request, and says nothing."""
        await event("never").wait()

    async def do_go(self, name):
        event(name).set()
        self.send(200, b"gone")

    async def do_gauge(self, ms):
        gauge["now"] += 1
        gauge["peak"] = max(gauge["peak"], gauge["now"])
        gauge["order"].append(self.query.get("id"))
        await asyncio.sleep(int(ms) / 1000)
        gauge["now"] -= 1
        self.send(200, b"ok")

    async def do_gauges(self):
        self.send(200, json.dumps(gauge).encode())


async def accept(reader, writer):
    await Connection(reader, writer).serve()


async def main(args):
    context = None
    if args[:1] == ["--tls"]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(args[1], args[2])
    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context, backlog=10000)
    print(server.sockets[0].getsockname()[1], flush=True)
    if "--for" in args:
        await asyncio.sleep(float(args[args.index("--for") + 1]))
    else:
        await loop.run_in_executor(None, sys.stdin.buffer.read)
    server.close()


async def main_at(listening):
    """Serves at this socket, until it is killed."""
    await (await asyncio.start_server(accept, sock=listening, backlog=10000)).serve_forever()


def run(work):
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda _loop, _context: None)
    loop.run_until_complete(work)


def serve(listening):
    run(main_at(listening))


if __name__ == "__main__":
    import os
    run(main(sys.argv[1:]))
    os._exit(0)
