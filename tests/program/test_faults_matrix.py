"""What goes wrong at a provider: every fault on all four protocols, in the three forms of output. Each has one exit
status, the same in all forms, and one sentence on stderr that names the provider and what to do."""
import concurrent.futures
import json
import os
import re
import socket
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import modeld                        # noqa: E402
from cli import LASH, SLOWER, THOROUGH    # noqa: E402
from test_providers import ALL       # noqa: E402
from test_streams import config      # noqa: E402

FORMS = ("text", "json", "jsonl")
TEXT = "Grüße aus Zürich: 世界, and then some more words."
SOON = {"retry-after-ms": "1"}
ANSWER = {"text": TEXT, "calls": [{"name": "f", "args": {}}], "pieces": 5}
BASES = {"openai": "OPENAI_BASE_URL", "openai-chat": "OPENAI_BASE_URL", "anthropic": "ANTHROPIC_BASE_URL",
         "gemini": "GOOGLE_GEMINI_BASE_URL"}
WAITING = re.compile(r"lash: \S+: (waiting|attempt \d+ in) \d+ ms \(.*\)$")


def ask(provider, form, prompt, env):
    """(exit status, stdout, stderr) of one `lash ask`."""
    done = subprocess.run(LASH + ["ask", "-m", provider + "/m", "-o", form, prompt], stdin=subprocess.DEVNULL,
                          env={**os.environ, **env}, capture_output=True, timeout=25 * SLOWER)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def check(case, got, want, words):
    """One run against what must hold of it; its sentence."""
    provider, form = case[:2]
    status, out, err = got
    about = "%s\nwant %r %r\ngot %d\n%s\n%s" % (case, want, words, status, out, err)
    assert status == want, about
    lines = err.splitlines()
    assert lines and lines[-1].startswith("lash: " + provider) and all(WAITING.match(x) for x in lines[:-1]), about
    assert re.search(words, lines[-1]), about
    assert not re.search(r"test-key|traceback|attempt to|\.lua:\d", err), about
    if form == "text":
        assert out == "" or TEXT.startswith(out.strip()), about
    else:
        last = json.loads(out.splitlines()[-1])
        assert (last["ok"], last["exit"], last["reason"]) == (False, want, "error"), about
        assert "lash: " + last["error"] == lines[-1], about
    return lines[-1]


def combinations(faults):
    """(provider, form, name): each pair of these, in `make check-all` all three."""
    return [(provider, form, name) for n, name in enumerate(faults) for p, provider in enumerate(ALL)
            for f, form in enumerate(FORMS) if THOROUGH or (n + p + f) % len(FORMS) == 0]


def matrix(faults, env=None, jobs=8):
    """faults: name -> (reply or None, status or {provider: status}, what the sentence must match). env(provider, name):
    the environment, besides the server's."""
    rules = [{"when": {"user_contains": "<%s>" % name}, "turns": [{"repeat": True, "reply": reply}]}
             for name, (reply, _, _) in faults.items() if reply]
    cases = combinations(faults)
    with modeld.Server({"rules": rules}) as server, concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        got = list(pool.map(lambda case: ask(case[0], case[1], "<%s>" % case[2], {
            **server.env, **(env(case[0], case[2]) if env else {})}), cases))
        for case, result in zip(cases, got):
            _, want, words = faults[case[2]]
            check(case, result, want.get(case[0], want[""]) if isinstance(want, dict) else want, words)
        stats = server.stats()
        assert not stats["problems"] and not stats["refused"], stats
        return server.requests()


def test_statuses_for_good():
    """P5 401, 403, 404 and what must not be tried again: one request, exit status and remedy, in all forms"""
    requests = matrix({
        "401": ({"status": 401}, 78, r"key in \w+ was refused .*401.*: export a valid key.*\[request req_\d+\]"),
        "403": ({"status": 403}, {"gemini": 78, "": 69}, r"was refused .*403.*: \w+.*\[request req_\d+\]"),
        "404": ({"status": 404}, 69, r"404.*: check \w+.*\[request req_\d+\]"),
        "429 no": ({"status": 429, "headers": {"x-should-retry": "false"}}, 75, r"429.*: wait a moment"),
        "529 no": ({"status": 529, "headers": {"x-should-retry": "false"}}, 75, r"529.*: try again"),
    })
    assert len(requests) == len(combinations("12345")), len(requests)


def test_statuses_that_pass():
    """P5 408, 409, 429, 500, 503, 529: three requests, then exit status 75 and the remedy, in all forms"""
    faults = {str(status): ({"status": status, "headers": SOON}, 75, r"%d.*: try again.*3 attempts" % status)
              for status in (408, 500, 503, 529)}
    faults["429"] = ({"status": 429, "headers": SOON}, 75, r"429.*: wait a moment.*3 attempts")
    faults["409"] = ({"status": 409, "headers": SOON}, 75, r"409.*: try again")
    requests = matrix(faults)
    at_once = sum(r["status"] == 409 and "models" in r["path"] for r in requests)   # Gemini's means: aborted
    assert at_once == (len(FORMS) if THOROUGH else 1), at_once
    assert len(requests) == 3 * len(combinations(faults)) - 2 * at_once, len(requests)


def test_no_sense():
    """P6 garbage, a page, nothing: exit status 76 and the address to check, in all forms"""
    junk = "\u0001\u0002PK junk {[}"
    matrix({
        "garbage": ({"body_text": junk}, 76, r"check \w+_BASE_URL"),
        "garbage in a stream": ({"sse": "data: %s\n\n" % junk}, 76, r"check \w+_BASE_URL"),
        "another's JSON": ({"raw": {"hello": ["world"]}, "ignore_stream": True}, 76, r"check \w+_BASE_URL"),
        "page": ({"body_text": "<html><title>Sign in</title>", "content_type": "text/html"}, 76, r"check \w+_BASE_URL"),
        "page as text": ({"body_text": "<html><title>Sign in</title>", "content_type": "text/plain"}, 76,
                         r"check \w+_BASE_URL"),
        "page as stream": ({"sse": "<html>\n\n<title>Sign in</title>\n"}, 76, r"check \w+_BASE_URL"),
        "empty": ({"body_text": ""}, 76, r"check \w+_BASE_URL"),
    })


def test_cut():
    """P6 an answer that breaks off, with and without HTTP's end, and an empty stream: 75 in all forms"""
    matrix({
        "cut": ({**ANSWER, "stop_after": 7}, 75, r"broke off|closed the connection"),
        "no end": ({**ANSWER, "no_done": True}, 75, r"broke off.*: try again"),
        "nothing": ({"sse": ""}, 75, r"broke off.*: try again"),
        "error inside": ({**ANSWER, "error_after": 7, "error": {"status": 503}}, 75, r": try again"),
    }, jobs=24)


def test_no_connection():
    """a name that does not resolve, a port that nobody listens at, a server that hangs: 75 in all forms"""
    closed = socket.socket()
    closed.bind(("127.0.0.1", 0))     # bound, and nobody listens
    port, quiet = closed.getsockname()[1], config(idle_timeout=0.3)

    def env(provider, name):
        host = {"dns": "something.invalid", "refused": "127.0.0.1:%d" % port}.get(name)
        return {BASES[provider]: "http://%s/v1" % host} if host else quiet
    matrix({
        "dns": (None, 75, r"something\.invalid\S* has no address: check its name"),
        "refused": (None, 75, r"127\.0\.0\.1:%d\b.*: \w+" % port),
        "timeout": ({"hang": True}, 75, r"no answer|nothing|silen|time.*: \w+"),
    }, env, jobs=36)
    closed.close()


def test_slow():
    """an answer that comes slowly, in small pieces, is an answer in all forms"""
    with modeld.Server([{"repeat": True, "reply": {"text": TEXT, "split": 60, "every_ms": 2}}]) as server, \
            concurrent.futures.ThreadPoolExecutor(6) as pool:
        cases = [(provider, form) for provider in ALL for form in FORMS]
        for (provider, form), (status, out, err) in zip(cases, pool.map(
                lambda case: ask(*case, "hi", server.env), cases)):
            assert status == 0 and not err, (provider, form, status, out, err)
            if form == "text":
                assert out == TEXT + "\n", (provider, out)
            else:
                last = json.loads(out.splitlines()[-1])
                assert (last["ok"], last["exit"], last["text"]) == (True, 0, TEXT), (provider, form, out)
