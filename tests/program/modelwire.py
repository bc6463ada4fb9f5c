"""What the two model protocols of the test server have in common.

Each protocol is a class (`wire_responses.Responses`, `wire_gemini.Gemini`) with

    view = wire.check(model, headers, body)   -> View, or raises Refused with the service's own error body
    body = wire.answer(reply, view, turn)     -> the JSON value of the answer to a neutral reply (see modeld.py)
    wire.remember(answer)                     -> keeps what the client must send back verbatim
    body = wire.error(status, message, ...)   -> the service's error shape
"""

import hashlib
import json

NO_SUCH_MODEL = "no-such-model"
BAD_KEY = "bad-key"


class Refused(Exception):
    """A request that the service would not take: HTTP status and JSON body of its answer."""

    def __init__(self, status, body):
        super().__init__(body["error"]["message"])
        self.status, self.body = status, body


class View:
    """What both protocols say alike, read from a request that passed the checks."""

    def __init__(self, protocol, model, body):
        self.protocol, self.model, self.body = protocol, model, body
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
    count = {"input": len(compact(view.body)) // 4, "output": 24, "cached": 0, "reasoning": 0}
    count.update(reply.get("usage", {}))
    return count
