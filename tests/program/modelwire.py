"""What the model protocols of the test server have in common.

Each protocol is a class (`wire_responses.Responses`, `wire_chat.Chat`, `wire_anthropic.Anthropic`,
`wire_gemini.Gemini`) with

    view = wire.check(model, headers, body)   -> View, or raises Refused with the service's own error body
    body = wire.answer(reply, view, turn)     -> the JSON value of the answer to a neutral reply (see modeld.py)
    wire.events(answer, reply, view)          -> the same answer as the events of a stream: (name or None, value), in
                                                 order; a value that is a string is sent as it is
    wire.ends(events)                         -> how many events at the end are its end marker
    wire.ping(view)                           -> an event that says nothing
    wire.failure(error, view)                 -> the events of an error inside a stream
    wire.remember(answer)                     -> keeps what the client must send back verbatim
    body = wire.error(status, message, ...)   -> the service's error shape
    wire.models(names, query)                 -> (status, value): one page of the list of models
"""

import base64
import binascii
import hashlib
import json
import re

NO_SUCH_MODEL = "no-such-model"
BAD_KEY = "bad-key"


class Refused(Exception):
    """A request that the service would not take: HTTP status and JSON body of its answer."""

    def __init__(self, status, body):
        super().__init__(body["error"]["message"])
        self.status, self.body = status, body


class View:
    """What the protocols say alike, read from a request that passed the checks."""

    def __init__(self, protocol, model, body):
        self.protocol, self.model, self.body = protocol, model, body
        self.stream = False # whether a stream was asked
        self.instructions = ""
        self.tools = []     # declared names, in order
        self.users = []     # texts of the user, in order
        self.answers = 0    # answers of the model in the history: the number of this turn, from 0
        self.outputs = []   # texts of the outputs after the last answer, in order


def canon(value):
    """One text per JSON value: keeps 1 and 1.0 and true apart, ignores the order of keys."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def compact(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def strings(value):
    """Every string in a JSON value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from strings(item)


def mark(view, turn):
    """A short text that is the same for the same conversation and turn: ids come out equal run after run."""
    first = view.users[0] if view.users else ""
    return "%s%02d" % (hashlib.sha1(first.encode()).hexdigest()[:6], turn)


def usage_of(reply, view):
    """Tokens to report: the script's, or a count that depends on the request's size only."""
    count = {"input": len(compact(view.body)) // 4, "output": 24, "cached": 0, "reasoning": 0, "written": 0}
    count.update(reply.get("usage", {}))
    return count


def pieces(text, size=None):
    """A text as the deltas of a stream: at least two where it has two characters, at most some forty."""
    size = size or max(1, min(8, len(text) // 2), len(text) // 40)
    return [text[i:i + size] for i in range(0, len(text), size)]


def thoughts(reply, turn):
    """The readable reasoning of a reply: its own words, or for `true` some words from the second turn on."""
    given = reply.get("reasoning", bool(reply.get("calls")))
    if isinstance(given, str):
        return given
    return "Turn %d, thought over." % turn if given and turn else "" if given else None


def not_base64(text):
    """Whether a text is no base64 with something in it."""
    try:
        return not isinstance(text, str) or not base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return True


def data_url(text):
    """(mime type, base64 text) of a data URL, or None."""
    found = re.fullmatch(r"data:([a-z]+/[a-zA-Z0-9.+-]+);base64,(.*)", text, re.S) if isinstance(text, str) else None
    return None if not found or not_base64(found.group(2)) else (found.group(1), found.group(2))


def web_url(text):
    return isinstance(text, str) and re.match(r"https?://[^/\s]+", text) is not None


def in_turns(lists):
    """One of each list, in rounds, until all are used up: how fragments of several calls interleave."""
    lists = [list(one) for one in lists]
    for k in range(max((len(one) for one in lists), default=0)):
        for one in lists:
            if k < len(one):
                yield one[k]
