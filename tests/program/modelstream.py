"""How a streamed answer of the model server goes over the wire: the bytes, and what happens between them.

    steps(wire, events, reply, view) -> [("bytes", b"..."), ("pause",), ("end", how)]

The words of a reply that count here are described in modeld.py. With chunked transfer, which is the default, every
piece is a chunk of its own, so that the client's parser really sees the bytes cut there, whatever TCP makes of them.
"""

import json
import random

from modelwire import compact

STREAM_KEYS = set("""split seed eol comments pings stop_after end error_after error pause_after keep_alive no_done sse
    content_type ignore_stream pieces interleave every_ms""".split())
EOLS = {"lf": b"\n", "crlf": b"\r\n", "cr": b"\r"}


def rendered(event, eol):
    """The bytes of an event; a plain text is a line of its own, no event."""
    if isinstance(event, str):
        return event.encode() + eol
    name, value = event
    text = value if isinstance(value, str) else compact(value)
    lines = ["event: " + name] if name else []
    return eol.join(line.encode() for line in lines + ["data: " + text]) + eol + eol


def ending(reply):
    """How the body ends: "clean" as HTTP ends it, "eof" before HTTP's end, "reset" with a reset connection."""
    return reply.get("end", "eof" if "stop_after" in reply else "clean")


def parts(wire, events, reply, view):
    """Bytes of events, and None where the stream pauses."""
    eol = EOLS[reply.get("eol", "crlf" if wire.name == "gemini" else "lf")]
    if reply.get("no_done"):
        events = events[:len(events) - wire.ends(events)]
    pause, stop = reply.get("pause_after"), reply.get("stop_after", reply.get("error_after"))
    if stop is not None:
        events = events[:stop]
    for n, event in enumerate(events):
        if n == pause:
            yield None
        if reply.get("comments"):
            yield b": keep-alive" + eol + eol
        if reply.get("pings") and n:
            yield rendered(wire.ping(view), eol)
        yield rendered(event, eol)
    if pause is not None and pause >= len(events):
        yield None
    if "error_after" in reply:
        for event in wire.failure(reply.get("error", {}), view):
            yield rendered(event, eol)


def cut(data, reply):
    """The pieces in which bytes are written."""
    how = reply.get("split")
    if how == "random":
        chance, at = random.Random(reply.get("seed", 1)), 0
        while at < len(data):
            size = min(chance.choice((1, 1, 2, 3, 5, 8, 13, 40, 200)), len(data) - at)
            yield data[at:at + size]
            at += size
    elif how:
        for at in range(0, len(data), how):
            yield data[at:at + how]
    elif data:
        yield data


def steps(wire, events, reply, view):
    if "sse" in reply:
        found = [reply["sse"].encode()]
    else:
        found = list(parts(wire, events, reply, view))
    run, result = [], []
    for part in found + [None]:
        if part is not None:
            run.append(part)
            continue
        # Without a split every event is a piece; with one the cuts take no notice of events.
        whole = [b"".join(run)] if reply.get("split") else run
        result += [("bytes", piece) for data in whole for piece in cut(data, reply)] + [("pause",)]
        run = []
    return result[:-1] + [("end", ending(reply))]


def keep_alive(wire, reply, view):
    """The bytes that a paused stream sends again and again, or None."""
    kind = reply.get("keep_alive")
    if kind == "pings":
        return rendered(wire.ping(view), b"\n")
    return b": keep-alive\n\n" if kind else None


def values(text):
    """The JSON values in the data of a stream's text, for what the client must send back."""
    for event in text.replace("\r\n", "\n").replace("\r", "\n").split("\n\n"):
        lines = [line[5:].removeprefix(" ") for line in event.split("\n") if line.startswith("data:")]
        try:
            value = json.loads("\n".join(lines))
        except ValueError:
            continue
        if isinstance(value, dict):
            yield value
