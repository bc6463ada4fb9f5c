"""lash models: lists of several providers, each with its own end."""
import json
import os
import threading

from cli import expect, lash, one_line, write
from lists import Lists, data, gemini

KEYS = ("OPENAI", "ANTHROPIC", "GEMINI", "GOOGLE", "OPENROUTER", "GROQ", "MISTRAL", "DEEPSEEK", "AZURE_OPENAI")
CLEAN = {**{name + "_API_KEY": "" for name in KEYS}, "OPENAI_BASE_URL": "", "HTTP_PROXY": "", "http_proxy": ""}


def models(*words, **env):
    return lash("models", *words, env={**CLEAN, **env})


def config(text):
    write(os.path.join(os.environ["XDG_CONFIG_HOME"], "lash", "config.lua"), text)


def test_text():
    """models: names as -m takes them, sorted, with what is known of their size"""
    with Lists({"o": (200, data("b", "a", "b")), "g": (200, gemini("gemini-x"))}) as server:
        env = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": server.url("o"), "GEMINI_API_KEY": "g",
               "GOOGLE_GEMINI_BASE_URL": server.url("g")}
        expect(models(**env), 0, ["gemini/gemini-x  context 1048576  output 65536\n", "openai/a\nopenai/b\n"], "")
        expect(models("openai", **env), 0, "openai/a\nopenai/b\n", "")
        expect(models("openai/", "gemini/gem", **env), 0, ["gemini/gemini-x", "openai/a\nopenai/b\n"], "")
        expect(models("openai/A", **env), 0, "openai/a\n", "")
        one_line(expect(models("openai/gpt", **env), 69, "", "openai has no model that begins with 'gpt'"))
        r = one_line(expect(models("gemini/gemni-x", **env), 69, "", "near are gemini-x"))
        keys = [(headers.get("authorization"), headers.get("x-goog-api-key")) for _, headers in server.asked]
        assert set(keys) == {("Bearer k", None), (None, "g")}, (keys, r)


def test_json():
    """models --json: every field, and the errors"""
    with Lists({"o": (200, data("a")), "g": (500, {"error": {"message": "down"}})}) as server:
        env = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": server.url("o"), "GEMINI_API_KEY": "g",
               "GOOGLE_GEMINI_BASE_URL": server.url("g")}
        r = expect(models("--json", **env), 0)
        value = json.loads(r.out)
        assert value["models"][0]["name"] == "openai/a" and value["models"][0]["id"] == "a", r
        assert value["errors"][0]["provider"] == "gemini" and value["errors"][0]["exit"] == 75, r
        one_line(expect(models("--jsonl", **env), 64, "", "jsonl"))


def test_pages():
    """models: all pages of a list"""
    def page(request):
        if "pageToken=two%2F" in request.path:
            return 200, gemini("c")
        return 200, gemini("a", "b", token="two/")
    with Lists({"g": page}) as server:
        r = expect(models("gemini", GEMINI_API_KEY="g", GOOGLE_GEMINI_BASE_URL=server.url("g")), 0)
        assert [line.split()[0] for line in r.out.splitlines()] == ["gemini/a", "gemini/b", "gemini/c"], r
        assert len(server.asked) == 2, server.asked


def test_endless_pages():
    """models: a list without an end is an error, not a part of it"""
    count = iter(range(10000))
    with Lists({"g": lambda request: (200, gemini("a", token=str(next(count))))}) as server:
        one_line(expect(models("gemini", "--timeout", "1h", GEMINI_API_KEY="g",
                               GOOGLE_GEMINI_BASE_URL=server.url("g")), 76, "", "more than 100 pages"))


def test_one_fails():
    """models: a provider that fails has its line and spoils no other"""
    with Lists({"o": (200, data("a")), "g": (400, {"error": {"code": 400, "status": "INVALID_ARGUMENT",
               "message": "API key not valid.", "details": [{"reason": "API_KEY_INVALID"}]}})}) as server:
        env = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": server.url("o"), "GEMINI_API_KEY": "secret-key",
               "GOOGLE_GEMINI_BASE_URL": server.url("g")}
        r = one_line(expect(models(**env), 0, "openai/a\n", ["gemini: the key in GEMINI_API_KEY was refused"]))
        assert "secret-key" not in r.err
        expect(models("openai", "gemini", **env), 78, "openai/a\n", "GEMINI_API_KEY")


def test_bad_answers():
    """models: what is no list is said in one sentence"""
    def bad(answer, status, *parts, word="openai"):
        with Lists({"o": answer}) as server:
            one_line(expect(models(word, OPENAI_API_KEY="k", OPENAI_BASE_URL=server.url("o")), status, "", list(parts)))
    bad((200, "<html>x"), 76, "openai", "is not JSON", "<html>x")
    bad((200, "[]"), 76, "is no list of models")
    bad((200, {"data": "x"}), 76, "is no list of models")
    bad((404, "nothing here"), 69, "no list of models (404)", "OPENAI_BASE_URL")
    bad((401, {"error": {"code": "invalid_api_key", "message": "no"}}), 78, "OPENAI_API_KEY", "req-7")
    bad((302, ""), 76, "302")


def test_slow():
    """models: each provider has its own time; a slow one holds up no other"""
    hold = threading.Event()
    with Lists({"o": (200, data("a")), "g": lambda request: hold.wait(60) and (200, {}) or (200, {})}) as server:
        r = models("--timeout", "3s", OPENAI_API_KEY="k", OPENAI_BASE_URL=server.url("o"), GEMINI_API_KEY="g",
                   GOOGLE_GEMINI_BASE_URL=server.url("g"))
        hold.set()
        one_line(expect(r, 0, "openai/a\n", ["gemini: no answer of", "--timeout"]))


def test_at_once():
    """models: all providers are asked at the same time"""
    both = threading.Barrier(2, timeout=30)

    def meet(answer):
        return lambda request: both.wait() is not None and (200, answer)
    with Lists({"o": meet(data("a")), "g": meet(gemini("b"))}) as server:
        expect(models(OPENAI_API_KEY="k", OPENAI_BASE_URL=server.url("o"), GEMINI_API_KEY="g",
                      GOOGLE_GEMINI_BASE_URL=server.url("g"), **{"LASH_JOBS": "1"}), 0,
               ["gemini/b", "openai/a"], "")


def test_nobody():
    """models: without any key the variables are named"""
    one_line(expect(models(), 78, "", ["OPENAI_API_KEY", "lash doctor"]))
    one_line(expect(models("openai"), 78, "", "OPENAI_API_KEY is not set"))
    one_line(expect(models("opnai"), 64, "", "did you mean 'openai'"))
    one_line(expect(models("claude"), 64, "", "did you mean 'anthropic'"))
    one_line(expect(models("demo"), 64, "", "-m demo"))
    one_line(expect(models("openai", OPENAI_API_KEY="k", OPENAI_BASE_URL="http://127.0.0.1:1/v1"), 75, "",
                    "no connection"))


def test_config():
    """models: servers of config.lua are asked too; a faulty file is one error"""
    with Lists({"o": (200, data("a"))}) as server:
        config("""return { providers = { corp = { protocol = "openai", base_url = "%s", headers = { ["x-team"] = "t" } },
            fixed = { protocol = "openai", base_url = "http://127.0.0.1:1", models = { "z", "y" } } } }"""
               % server.url("o"))
        expect(models(), 0, "corp/a\nfixed/y\nfixed/z\n", "")
        assert server.asked[0][1].get("x-team") == "t", server.asked
    config("return { model = 5 }")
    one_line(expect(models(), 78, "", "model must be a text"))
