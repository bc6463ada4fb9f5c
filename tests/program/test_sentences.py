"""What a user is told when a model cannot be had: one sentence, from which it is clear what to do; for each protocol."""
import modeld
from cli import expect, lash, one_line
from test_cli_models import CLEAN

KEYS = {"openai": "OPENAI_API_KEY", "openai-chat": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY",
        "gemini": "GEMINI_API_KEY"}
BASES = {"openai": "OPENAI_BASE_URL", "openai-chat": "OPENAI_BASE_URL", "anthropic": "ANTHROPIC_BASE_URL",
         "gemini": "GOOGLE_GEMINI_BASE_URL"}


def ask(model, status, *parts, options=("-q",), **env):
    r = expect(lash("ask", *options, "-m", model, "Hello", env={**CLEAN, **env}), status, "", list(parts))
    return one_line(r)


def test_wrong_key():
    """P5 a wrong key: which variable, and that it was refused; never the key"""
    for name, var in KEYS.items():
        with modeld.Server({"rules": []}) as server:
            r = ask(name + "/m", 78, "the key in %s was refused" % var, "export a valid key", "[request ",
                    **{**server.env, var: "bad-key"})
            assert "bad-key" not in r.err, r


def test_wrong_model():
    """P5 a mistyped model: its name, and how to list those that there are"""
    for name in KEYS:
        with modeld.Server({"rules": []}) as server:
            ask(name + "/no-such-model", 69, "there is no model 'no-such-model'", "`lash models %s` lists them" % name,
                **server.env)


def test_no_network():
    """P5 no network, no server: the address, what to check, how often it was tried"""
    for name, var in BASES.items():
        ask(name + "/m", 75, name + ": no connection to http://127.0.0.1:1/", "check that the server is running",
            "(after 3 attempts)", **{var: "http://127.0.0.1:1", KEYS[name]: "k"})
    ask("openai/m", 75, "the host of http://no-such-host.invalid/", "check its name and the network",
        OPENAI_API_KEY="k", OPENAI_BASE_URL="http://no-such-host.invalid/v1")
    ask("ollama/m", 75, "no connection", "start it with `ollama serve`, or set OLLAMA_HOST", OLLAMA_HOST="127.0.0.1:1")


def test_no_version():
    """an address without /v1, which these protocols want: what is missing in which variable"""
    page = {"status": 404, "body_text": "404 page not found", "content_type": "text/plain"}
    with modeld.Server([{"repeat": True, "reply": page}]) as server:
        for name in ("openai", "openai-chat"):
            env = {**server.env, "OPENAI_BASE_URL": server.url}
            ask(name + "/m", 76, "does not speak", "check OPENAI_BASE_URL: most such addresses end in /v1", **env)
            r = ask(name + "/m", 76, "does not speak", "check OPENAI_BASE_URL", **server.env)
            assert "most such" not in r.err, r


def test_no_key():
    """without a key: 78, the variables looked for and what to do"""
    for name, var in KEYS.items():
        ask(name + "/m", 78, name + " needs a key", var, "Export ", BASES[name], "-m demo", **{BASES[name]: ""})
    ask("groq/m", 78, "groq needs a key: GROQ_API_KEY is not set", "-m demo")
    one_line(expect(lash("ask", "Hello", env=CLEAN), 78, "", ["no model is chosen", "-m PROVIDER/NAME", "lash doctor"]))
    one_line(expect(lash("ask", "Hello", env={**CLEAN, "GROQ_API_KEY": "k"}), 78, "",
                    ["GROQ_API_KEY is set", "lash models groq"]))


def test_wrong_names():
    """mistyped providers and models without one name the nearest"""
    ask("antropic/x", 64, "did you mean 'anthropic'?")
    ask("ollma/x", 64, "did you mean 'ollama'?", "config.lua")
    ask("gpt-5", 64, "openai/gpt-5")
    ask("claude-sonnet-4-5", 64, "anthropic/claude-sonnet-4-5")
    ask("anthropic", 64, "anthropic/NAME", "lash models anthropic")


def test_dry_run():
    """--dry-run: needs no key, and says that there is none"""
    for name, var in KEYS.items():
        r = expect(lash("ask", "--dry-run", "-m", name + "/m", "Hello", env={**CLEAN, BASES[name]: ""}), 0,
                   ["POST https://", "****", "Hello"], [var, "the key is missing in this request"])
        one_line(r)
        expect(lash("ask", "-q", "--dry-run", "-m", name + "/m", "Hello", env={**CLEAN, BASES[name]: ""}), 0, "****", "")


def test_attempts():
    """P5 -v: each attempt with its number, the wait before it, the reason and the request's id"""
    for name in KEYS:
        script = [{"first": [{"status": 503}, {"status": 429, "headers": {"retry-after-ms": "20"}}],
                   "reply": {"text": "Here."}}]
        with modeld.Server(script) as server:
            r = expect(lash("ask", "-v", "-m", name + "/m", "Hello", env={**CLEAN, **server.env}), 0, "Here.\n",
                       ["turn 1: asking %s/m\n" % name, "turn 1: asking %s/m, attempt 3\n" % name])
            lines = [line for line in r.err.splitlines() if line.startswith("lash: %s/m: attempt " % name)]
            assert len(lines) == 2, r
            assert lines[0].startswith("lash: %s/m: attempt 2 in " % name) and " ms (" in lines[0], lines
            assert "503" in lines[0] and lines[0].endswith("[request req_1])"), lines
            assert "attempt 3 in 2" in lines[1] and "429" in lines[1] and "req_2" in lines[1], lines


def test_no_stream():
    """--no-stream: whole answers are asked for, of run and ask"""
    for name in KEYS:
        for args in (["ask", "--no-stream", "-m", name + "/m", "Hello"],
                     ["--no-stream", "-m", name + "/m", "-e", "local lash = require 'lash' "
                      "print(lash.agent { name = 'a' }:run('Hello'))"]):
            with modeld.Server([{"expect": {"stream": False}, "reply": {"text": "Here."}}]) as server:
                expect(lash(*args, env={**CLEAN, **server.env}), 0, "Here.\n")
                assert not server.stats()["problems"], server.stats()
