"""The script of the model server: which turn answers a request, and whether the request is what the script expects."""

from modelstream import EOLS, STREAM_KEYS
from modelwire import strings

TURN_KEYS = set("expect first delay_ms hold together repeat reply".split())
REPLY_KEYS = STREAM_KEYS | set("""text calls stop usage reasoning raw body_text status message code details headers
    cut drop hang gzip chunked close""".split())
EXPECT_KEYS = set("outputs outputs_contain contains lacks tools model protocol turn stream".split())
RULE_KEYS = set("when turns".split())
WHEN_KEYS = set("user_contains model protocol tools stream".split())
PROTOCOLS = ("openai", "openai-chat", "anthropic", "gemini")


class ScriptError(Exception):
    """The script file itself is wrong."""


def known(value, allowed, what):
    if not isinstance(value, dict):
        raise ScriptError("%s is not an object" % what)
    for key in value:
        if key not in allowed:
            raise ScriptError("%s has an unknown field '%s'; there are: %s" % (what, key, " ".join(sorted(allowed))))


def one_of(value, key, allowed, what):
    if key in value and value[key] not in allowed:
        raise ScriptError("%s: '%s' is one of %s" % (what, key, ", ".join(str(a) for a in allowed)))


def check_reply(reply, what):
    known(reply, REPLY_KEYS, what)
    one_of(reply, "eol", EOLS, what)
    one_of(reply, "end", ("clean", "eof", "reset"), what)
    one_of(reply, "keep_alive", ("comments", "pings"), what)
    one_of(reply, "stop", ("end", "length", "filter", "refusal", "failed"), what)
    split = reply.get("split", 1)
    if split != "random" and not (isinstance(split, int) and split > 0):
        raise ScriptError("%s: 'split' is a number of bytes or \"random\"" % what)


def as_list(value):
    return value if isinstance(value, list) else [value]


class Script:
    def __init__(self, value):
        self.by_list = isinstance(value, list)
        if self.by_list:
            value = {"rules": [{"turns": value}]}
        known(value, ("rules", "get", "models", "models_page"), "the script")
        self.rules, self.get = value.get("rules", []), value.get("get", {})
        self.models, self.models_page = value.get("models", ["m"]), value.get("models_page", 1000)
        self.position = 0
        self.attempts = {}      # (rule, turn, conversation) -> number of tries seen
        self.used = set()
        for r, rule in enumerate(self.rules):
            known(rule, RULE_KEYS, "rule %d" % r)
            known(rule.get("when", {}), WHEN_KEYS, "when of rule %d" % r)
            one_of(rule.get("when", {}), "protocol", PROTOCOLS, "when of rule %d" % r)
            for t, turn in enumerate(rule["turns"]):
                what = "turn %d of rule %d" % (t, r)
                known(turn, TURN_KEYS, what)
                known(turn.get("expect", {}), EXPECT_KEYS, "expect of " + what)
                for reply in turn.get("first", []) + [turn.get("reply", {})]:
                    check_reply(reply, "reply of " + what)

    def fits(self, when, view):
        users = "\n".join(view.users)
        return (when.get("user_contains", "") in users and when.get("model", view.model) == view.model
                and when.get("protocol", view.protocol) == view.protocol
                and when.get("stream", view.stream) == view.stream
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
                     ("turn", view.answers), ("stream", view.stream)):
        if key in expect and expect[key] != got:
            wrong.append("%s: expected %r, got %r" % (key, expect[key], got))
    if "tools" in expect and sorted(expect["tools"]) != sorted(view.tools):
        wrong.append("tools: expected %r, got %r" % (sorted(expect["tools"]), sorted(view.tools)))
    if "outputs_contain" in expect:
        wanted = expect["outputs_contain"]
        if len(wanted) != len(view.outputs) or not all(w in o for w, o in zip(wanted, view.outputs)):
            wrong.append("outputs: expected in order %r, got %r" % (wanted, view.outputs))
    return wrong
