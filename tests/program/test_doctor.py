"""lash doctor: what is there, without ever showing a key."""
import json
import os
import re

from cli import expect, lash, needs_prompt_signals, one_line, write
from lists import Lists, data
from test_cli_models import CLEAN, config

SECRET = "sk-verysecretkey123456"


def doctor(*words, **env):
    return lash("doctor", *words, env={**CLEAN, **env})


def report(*words, status=0, **env):
    r = expect(doctor("--json", *words, **env), status)
    assert len(r.out.splitlines()) == 1, r
    value = json.loads(r.out)
    value["by_name"] = {p["name"]: p for p in value["providers"]}
    return value


def openai(server, **more):
    return {"OPENAI_API_KEY": SECRET, "OPENAI_BASE_URL": server.url("o") + "?key=" + SECRET, **more}


def test_works():
    """doctor: a key that works: 0, where it was found, what to do next; the key itself never appears"""
    with Lists({"o": (200, data("a", "b"))}) as server:
        r = expect(doctor(**openai(server)), 0, ["key: OPENAI_API_KEY", server.url("o") + " (OPENAI_BASE_URL)",
                                                 "2 models,", "no key: GROQ_API_KEY", "next: choose a model",
                                                 "lash models openai"], "")
        r.out += expect(doctor("-m", "openai/a", **openai(server)), 0, ["openai/a (-m)", "nothing is missing"]).out
        r.out += expect(doctor("-m", "openai/aa", **openai(server)), 0, ["does not list 'aa'", "near are a"]).out
        r.out += expect(doctor(LASH_MODEL="openai/a", **openai(server)), 0, "openai/a (LASH_MODEL)").out
        value = report(**openai(server))
        found = value["by_name"]["openai"]
        assert found["key"] == {"found": True, "from": "OPENAI_API_KEY", "variables": ["OPENAI_API_KEY"],
                                "wanted": True}, found
        assert (found["state"], found["models"], found["base_url"], found["base_from"]) == \
            ("ok", 2, server.url("o"), "OPENAI_BASE_URL") and found["ms"] >= 0, found
        assert value["usable"] is True and "name" not in value["model"], value
        for part in (SECRET, SECRET[:8], SECRET[-6:]):
            assert part not in r.out + json.dumps(value), part


def test_refused():
    """doctor: a key that is refused: 78, with the sentence that says what to do"""
    answer = (401, {"error": {"code": "invalid_api_key", "message": "Incorrect API key: " + SECRET}})
    with Lists({"o": answer}) as server:
        r = expect(doctor(**openai(server)), 78, ["the key in OPENAI_API_KEY was refused", "next: openai: the key"])
        assert SECRET not in r.out
        value = report("-m", "openai/m", status=78, **openai(server))
        assert value["by_name"]["openai"]["state"] == "refused" and value["by_name"]["openai"]["status"] == 401
        assert value["model"]["usable"] is False and "OPENAI_API_KEY" in value["next"], value


def test_no_such_key():
    """doctor: a key that can be none is told with its place"""
    value = report(status=78, GROQ_API_KEY="two words")["by_name"]["groq"]
    assert (value["state"], value["key"]["from"], value["key"]["found"]) == ("fault", "GROQ_API_KEY", False), value
    r = expect(doctor(GROQ_API_KEY="two words"), 78, ["groq", "key: GROQ_API_KEY", "the key in GROQ_API_KEY is no key"])
    assert "two words" not in r.out


def test_several():
    """doctor: the default model counts, not that another one works"""
    with Lists({"o": (200, data("a")), "g": (503, "down")}) as server:
        env = openai(server, GEMINI_API_KEY="g", GOOGLE_GEMINI_BASE_URL=server.url("g"))
        assert report(**env)["usable"] is True
        value = report(status=78, LASH_MODEL="gemini/x", **env)
        assert value["model"]["from"] == "LASH_MODEL" and value["next"].startswith("gemini: "), value
        value = report(LASH_MODEL="demo", **env)
        assert value["model"] == {"name": "demo", "from": "LASH_MODEL", "provider": "demo", "usable": True}, value


def test_nothing():
    """doctor: without network, keys and HOME it still says what to do"""
    r = expect(doctor(HOME="", XDG_CONFIG_HOME=""), 78, ["neither XDG_CONFIG_HOME nor HOME is set", "none chosen",
                                                         "no key: OPENAI_API_KEY", "next: export OPENAI_API_KEY"], "")
    assert r.out.splitlines()[-1].startswith("next: "), r
    value = report(status=78, OPENAI_API_KEY="k", OPENAI_BASE_URL="http://127.0.0.1:1/v1")
    assert value["by_name"]["openai"]["state"] == "no answer" and "no connection" in value["next"], value


def test_local_servers():
    """doctor: a local server that answers is found without any key"""
    with Lists({"v1": (200, data("qwen"))}) as server:
        value = report("-m", "ollama/qwen", OLLAMA_HOST=server.url("")[7:-1])
        found = value["by_name"]["ollama"]
        assert (found["state"], found["models"], found["key"]["found"]) == ("ok", 1, False), found
        assert value["model"]["usable"] is True


def test_broken_config():
    """doctor: a config.lua with a fault is named, and the rest is told nevertheless"""
    with Lists({"o": (200, data("a"))}) as server:
        config("return {\n model = = }")
        value = report(status=78, **openai(server))
        assert ":2:" in value["config"]["error"] and value["next"].startswith("mend config.lua: "), value
        assert value["by_name"]["openai"]["state"] == "ok", value
        assert report(status=0, LASH_MODEL="demo")["model"]["usable"] is True
        config('return { providers = { openai = { base_url = "nonsense" }, own = { module = "no.such" } } }')
        value = report(status=78, OPENAI_API_KEY="k")
        assert value["by_name"]["openai"]["state"] == "fault", value
        assert "providers.own.module" in value["by_name"]["own"]["error"], value


def test_config_that_loops():
    """config.lua: one that never ends, and a key function that does, end with --timeout: 124, and name no fault"""
    needs_prompt_signals()
    for text in ("while true do end",
                 "return { providers = { openai = { key = function() while true do end end } } }"):
        write("config/lash/config.lua", text)
        r = expect(lash("ask", "--timeout", "200ms", "-m", "openai/m", "Hi"), 124, "", "time limit")
        assert "fails" not in r.err and "failed" not in r.err, r


def test_config():
    """doctor: keys and addresses of config.lua; a file that others may read is said"""
    with Lists({"o": (200, data("a"))}) as server:
        config('return { model = "corp/a", providers = { corp = { protocol = "openai", key = "%s", base_url = "%s" } } }'
               % (SECRET, server.url("o")))
        value = report()
        assert (value["model"]["name"], value["model"]["from"]) == ("corp/a", "config.lua"), value
        found = value["by_name"]["corp"]
        assert found["key"]["from"] == "providers.corp.key in config.lua" and found["state"] == "ok", found
        assert "chmod 600" in value["config"]["warning"] and SECRET not in json.dumps(value), value
        os.chmod(value["config"]["path"], 0o600)
        assert "warning" not in report()["config"]


def test_own_protocol():
    """doctor: a protocol without a list of models is told from a server that is not there"""
    module = os.path.join(os.environ["XDG_CONFIG_HOME"], "lash", "mine.lua")
    write(module, "return { name = 'mine', request = function() end, read = function() end }")
    with Lists({"o": (200, "hello")}) as server:
        config('return { providers = { mine = { module = "mine", key = "k", base_url = "%s" } } }' % server.url("o"))
        assert report("-m", "mine/x")["by_name"]["mine"]["state"] == "not asked"
        assert "authorization" not in server.asked[0][1]
    assert report("-m", "mine/x", status=78)["by_name"]["mine"]["state"] == "no answer"


def test_surroundings():
    """doctor: versions, certificates, proxies without their passwords, the terminal"""
    value = report("-m", "demo", HTTPS_PROXY="http://me:pass@127.0.0.1:1", NO_PROXY="localhost", TERM="dumb")
    assert value["proxies"] == [{"variable": "HTTPS_PROXY", "value": "http://127.0.0.1:1"},
                                {"variable": "NO_PROXY", "value": "localhost"}], value
    assert re.match(r"\d+\.\d+", value["libuv"]) and value["lua"].startswith("Lua 5.4"), value
    assert value["libcurl"]["found"] and re.match(r"\d+\.", value["libcurl"]["version"]), value
    assert value["terminal"]["stdout"] is False and value["terminal"]["color"] == "TERM=dumb", value
    assert value["terminal"]["term"] == "dumb"
    value = report("-m", "demo", SSL_CERT_FILE="/does/not/exist")
    assert value["ca"]["file"] == "/does/not/exist" and "error" in value["ca"], value


def test_usage():
    """doctor: what it does not take"""
    one_line(expect(doctor("openai"), 64, "", "lash models"))
    one_line(expect(doctor("--jsonl"), 64, "", "jsonl"))
    one_line(expect(doctor("--timeout", "x"), 64, "", "--timeout"))


def test_no_libcurl():
    """doctor: without libcurl it says which package is missing"""
    write("lib/libcurl.so.4", "no library")
    r = expect(doctor("-m", "openai/m", OPENAI_API_KEY="k", LD_LIBRARY_PATH=os.path.abspath("lib")), 78,
               ["no libcurl", "libcurl4"], "")
    assert r.out.splitlines()[-1].startswith("next: HTTP needs libcurl.so.4"), r
