"""Servers that speak Chat Completions under names of their own: key, address, header and quirks reach the wire."""
import json

import modeld
from cli import expect, lash, objects, write
from test_cli_models import CLEAN, config

TOOLS = """local lash = require "lash"
return lash.tool { name = "add", description = "d", params = { a = "integer", b = "integer" },
    sync = function(args) return args.a + args.b end }"""
SCRIPT = [{"reply": {"text": "", "calls": [{"name": "add", "args": {"a": 1, "b": 2}}, {"name": "add", "args": {"a": 3, "b": 4}}]}},
          {"expect": {"outputs": 2, "outputs_contain": ["3", "7"]}, "reply": {"text": "3 and 7."}}]


def run(name, base_var, *options, **env):
    """A turn with two calls through a provider; gives the requests that the server saw."""
    write("t.lua", TOOLS)
    with modeld.Server(SCRIPT) as server:
        base = server.env["OPENAI_BASE_URL"]
        r = expect(lash("ask", "--jsonl", "-m", name + "/m/x:free", "-t", "t.lua", *options, "Add",
                        env={**CLEAN, base_var: base, **env}), 0)
        assert objects(r)[-1]["text"] == "3 and 7.", r
        assert not server.stats()["problems"] and not server.stats()["refused"], server.stats()
        return server.requests()


def headers(request):
    return {name.lower(): value for name, value in request["headers"].items()}


def test_keyless():
    """aliases: local servers without a key"""
    for name, var in (("ollama", "OLLAMA_HOST"), ("lmstudio", "LMSTUDIO_BASE_URL"), ("llamacpp", "LLAMACPP_BASE_URL"),
                      ("vllm", "VLLM_BASE_URL")):
        for options in ((), ("--no-stream",)):
            sent = run(name, var, *options)
            assert len(sent) == 2 and "OPENAI" not in json.dumps(sent)
            body = sent[1]["json"]
            assert body["model"] == "m/x:free" and body["messages"][0]["role"] == "user", body


def test_keys():
    """aliases: their own keys, never those of OpenAI"""
    for name in ("openrouter", "groq", "mistral", "deepseek"):
        sent = run(name, name.upper() + "_BASE_URL", OPENAI_API_KEY="not-theirs", **{name.upper() + "_API_KEY": "theirs"})
        assert headers(sent[0])["authorization"] == "Bearer theirs" and "not-theirs" not in json.dumps(sent), sent
        body = sent[1]["json"]
        ids = [call["id"] for m in body["messages"] for call in m.get("tool_calls", [])]
        assert len(set(ids)) == 2 and (name != "mistral" or all(len(i) == 9 and i.isalnum() for i in ids)), ids


def test_azure():
    """aliases: the key of Azure in its own header"""
    r = expect(lash("ask", "--dry-run", "--json", "-m", "azure/d", "--max-tokens", "5", "Hello", env={
        **CLEAN, "AZURE_OPENAI_API_KEY": "k", "AZURE_OPENAI_ENDPOINT": "https://r.openai.azure.com"}), 0)
    sent = json.loads(r.out)
    assert sent["url"] == "https://r.openai.azure.com/openai/v1/chat/completions", sent
    assert sent["headers"]["api-key"] == "****" and "authorization" not in sent["headers"], sent


def test_of_config():
    """aliases: a provider of config.lua with headers, quirks, a key variable and no streams"""
    config("""return { model = "corp/m/x:free", providers = { corp = { protocol = "openai-chat", key_env = "CORP",
        headers = { ["X-Team"] = "search" }, quirks = { role = "developer", parallel = false }, stream = false } } }""")
    sent = run("corp", "CORP_BASE_URL", "-s", "Be brief.", CORP="corp-key")
    seen = headers(sent[0])
    assert seen["authorization"] == "Bearer corp-key" and seen["x-team"] == "search", seen
    body = sent[0]["json"]
    assert body["messages"][0]["role"] == "developer" and not body.get("stream"), body
    assert "parallel_tool_calls" not in body, body
