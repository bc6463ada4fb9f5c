#!/usr/bin/env python3
"""Self test of the model server: what the official clients sent is accepted, broken variants of it are refused."""

import concurrent.futures
import copy
import http.client
import json
import os
import socket
import time
import unittest

import modeld

CAPTURES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fixtures", "captures")
OPENAI = os.path.join(CAPTURES, "openai-responses", "openai-sdk.json")
GEMINI = os.path.join(CAPTURES, "gemini", "genai-jsonschema.json")


def load(folder, name):
    with open(os.path.join(folder, name), encoding="utf-8") as file:
        return json.load(file)


class Client:
    """A keep-alive HTTP client that sends JSON."""

    def __init__(self, server):
        self.http = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)

    def post(self, path, body, headers=None):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"Content-Type": "application/json", "Authorization": "Bearer test-key",
                 "anthropic-version": "2026-10-21",
                 "x-goog-api-key": "test-key"}
        given.update(headers or {})
        self.http.request("POST", path, data, {k: v for k, v in given.items() if v is not None})
        answer = self.http.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text[:1] in b"{[" else text


def changed(value, change):
    value = copy.deepcopy(value)
    change(value)
    return value


def drop(key):
    return lambda value: value.pop(key)


class Replay(unittest.TestCase):
    """Common part: turn 1 is replayed, then every broken turn 2 is refused, then the captured one is taken."""

    def replay(self, folder, variants):
        first, second = load(folder, "01.request.json"), load(folder, "02.request.json")
        script = [{"reply": {"raw": load(folder, "01.response.json")}},
                  {"expect": {"outputs": 3, "outputs_contain": ["Oslo", "São Paulo", "ENOENT"],
                              "tools": ["get_weather", "read_file", "get_time"]},
                   "reply": {"raw": load(folder, "02.response.json")}}]
        with modeld.Server(script) as server:
            client = Client(server)
            status, answer = client.post(first["path"], first["body"])
            self.assertEqual((status, answer), (200, load(folder, "01.response.json")))
            for name, (text, change) in variants.items():
                with self.subTest(name):
                    status, answer = client.post(second["path"], changed(second["body"], change))
                    self.assertEqual(status, 404 if "not found" in text else 400)
                    self.assertIn(text, answer["error"]["message"])
            status, answer = client.post(second["path"], second["body"])
            self.assertEqual((status, answer), (200, load(folder, "02.response.json")))
            stats = server.stats()
            log = server.requests()
        self.assertEqual((stats["problems"], stats["unused"], stats["connections"]), ([], [], 1))
        self.assertEqual(len(stats["refused"]), len(variants))
        self.assertEqual(len(log), len(variants) + 2)
        self.assertEqual(log[0]["json"], first["body"])
        self.assertEqual((log[0]["status"], log[0]["turn"], log[-1]["turn"]), (200, 0, 1))
        self.assertEqual(server.status, 0)

    def test_openai(self):
        def tool(key, value):
            return lambda b: b["tools"][0].__setitem__(key, value)

        def item(i, key, value):
            return lambda b: b["input"][i].__setitem__(key, value)

        self.replay(OPENAI, {
            "output missing": ("No tool output found for function call call_000c", lambda b: b["input"].pop()),
            "call missing": ("No tool call found for function call output with call_id call_000b",
                             lambda b: b["input"].pop(4)),
            "output twice": ("Duplicate function call output", lambda b: b["input"].append(b["input"][-1])),
            "output before its call": ("No tool call found", lambda b: b["input"].insert(1, b["input"].pop())),
            "reasoning altered": ("could not be verified", item(1, "encrypted_content", "gAAAA")),
            "reasoning gained a field": ("could not be verified", item(1, "status", "completed")),
            "reasoning without content": ("not found", lambda b: b["input"][1].pop("encrypted_content")),
            "reasoning dropped": ("without its required 'reasoning' item", lambda b: b["input"].pop(1)),
            "reasoning without follower": ("without its required following item", lambda b: b["input"].pop(2)),
            "reasoning moved": ("without its required following item",
                                lambda b: b["input"].insert(2, b["input"].pop(1))),
            "unknown item": ("Supported values are", item(2, "type", "tool_result")),
            "unknown item field": ("Unknown parameter: 'input[3].parsed_arguments'",
                                   item(3, "parsed_arguments", {})),
            "unknown field": ("Unknown parameter: 'messages'", lambda b: b.update(messages=[])),
            "id of a call as call_id": ("No tool call found", item(6, "call_id", "fc_000a")),
            "output not text": ("Invalid type for 'input[6].output'", item(6, "output", {"temp": 1})),
            "arguments not text": ("expected a string", item(3, "arguments", {})),
            "assistant with input_text": ("'output_text' and 'refusal'", lambda b: b["input"].append(
                {"role": "assistant", "content": [{"type": "input_text", "text": "x"}]})),
            "nested tool": ("Unknown parameter: 'tools[0].function'",
                            lambda b: b["tools"].insert(0, {"type": "function", "function": {}})),
            "tool name": ("does not match pattern", tool("name", "get.weather")),
            "tool name too long": ("does not match pattern", tool("name", "x" * 65)),
            "schema root": ("schema must be a JSON Schema of 'type: \"object\"'", tool("parameters",
                                                                                    {"type": "string"})),
            "schema not strict": ("'additionalProperties' is required",
                                  lambda b: b["tools"][0]["parameters"].pop("additionalProperties")),
            "optional under strict": ("Missing 'unit'",
                                      lambda b: b["tools"][0]["parameters"]["required"].remove("unit")),
            "no model": ("'model'", drop("model")),
            "few tokens": ("minimum value", lambda b: b.update(max_output_tokens=5)),
            "options of a stream": ("stream_options", lambda b: b.update(stream_options={
                "include_obfuscation": False})),
        })

    def test_gemini(self):
        def parts(i):
            return lambda b: b["contents"][i]["parts"]

        def response(key, value):
            return lambda b: parts(2)(b)[0]["functionResponse"].__setitem__(key, value)

        def declaration(change):
            return lambda b: change(b["tools"][0]["functionDeclarations"][0])

        number = "number of function response parts is equal"
        self.replay(GEMINI, {
            "response missing": (number, lambda b: parts(2)(b).pop()),
            "response twice": (number, lambda b: parts(2)(b).append(parts(2)(b)[0])),
            "responses missing": ("last content", lambda b: b["contents"].pop()),
            "responses apart": (number, lambda b: b["contents"].append(
                {"role": "user", "parts": [parts(2)(b).pop()]})),
            "user text instead": (number, lambda b: b["contents"].insert(2, {"role": "user",
                                                                            "parts": [{"text": "so?"}]})),
            "text mixed in": ("cannot be mixed", lambda b: parts(2)(b).append({"text": "done"})),
            "call dropped": (number, lambda b: parts(1)(b).pop()),
            "model dropped": ("immediately after a function call turn", lambda b: b["contents"].pop(1)),
            "response is text": ("protobuf.Struct", response("response", "text")),
            "response of another name": ("id and name", response("name", "read_file")),
            "response with invented id": ("id and name", response("id", "call_1")),
            "signature missing": ("missing a thought_signature", lambda b: parts(1)(b)[1].pop("thoughtSignature")),
            "signature altered": ("Corrupted", lambda b: parts(1)(b)[1].update(thoughtSignature="AAAA")),
            "signature moved": ("missing a thought_signature", lambda b: parts(1)(b)[2].update(
                thoughtSignature=parts(1)(b)[1].pop("thoughtSignature"))),
            "signature on changed arguments": ("Corrupted",
                                               lambda b: parts(1)(b)[1]["functionCall"]["args"].update(city="Bergen")),
            "signature inside the call": ("Unknown name \"thoughtSignature\"", lambda b: parts(1)(b)[1][
                "functionCall"].update(thoughtSignature="Z29s")),
            "first is model": ("first content", lambda b: b["contents"].pop(0)),
            "model twice": ("function call turn comes immediately", lambda b: b["contents"].insert(
                1, {"role": "model", "parts": [{"text": "Hm."}]})),
            "role": ("valid role", lambda b: b["contents"][0].update(role="system")),
            "empty parts": ("must not be empty", lambda b: b["contents"][0].update(parts=[])),
            "empty text": ("must have a text parameter", lambda b: parts(0)(b).insert(0, {"text": ""})),
            "no contents": ("contents is not specified", lambda b: b.update(contents=[])),
            "unknown field": ("Unknown name \"input\"", lambda b: b.update(input=[])),
            "unknown part field": ("Unknown name \"type\"", lambda b: parts(0)(b)[0].update(type="text")),
            "unknown config": ("Unknown name \"max_tokens\"", lambda b: b["generationConfig"].update(max_tokens=1)),
            "thinking twice": ("only one of", lambda b: b["generationConfig"]["thinkingConfig"].update(
                thinkingBudget=0)),
            "system role": ("system_instruction", lambda b: b["systemInstruction"].update(role="system")),
            "tool name": ("Invalid function name", declaration(lambda d: d.update(name="get weather"))),
            "tool twice": ("Duplicate function declaration", lambda b: b["tools"][0]["functionDeclarations"].append(
                b["tools"][0]["functionDeclarations"][0])),
            "schema root": ("must be of type OBJECT", declaration(lambda d: d.update(
                parametersJsonSchema={"type": "string"}))),
            "JSON Schema under parameters": ("Unknown name \"additionalProperties\"", declaration(
                lambda d: d.update(parameters=d.pop("parametersJsonSchema")))),
            "both schemas": ("only one of", declaration(lambda d: d.update(parameters={"type": "OBJECT"}))),
            "names with AUTO": ("allowed_function_names", lambda b: b["toolConfig"]["functionCallingConfig"].update(
                allowedFunctionNames=["read_file"])),
        })


class Rendered(unittest.TestCase):
    """Answers made from neutral replies can be sent back as they are and are then accepted."""

    CALLS = [{"name": "add", "args": {"a": 2**63 - 1, "b": 1.0}}, {"name": "add", "args_text": "{\"a\": "},
             {"name": "now", "args_text": ""}]

    def test_openai_round(self):
        script = {"rules": [{"when": {"user_contains": "hello"}, "turns": [
            {"reply": {"text": "Adding.", "calls": self.CALLS}},
            {"expect": {"outputs_contain": ["o0", "o1", "o2"]}, "reply": {"text": "Done.", "usage": {"cached": 7}}}]}]}
        with modeld.Server(script) as server:
            client, items = Client(server), [{"role": "user", "content": "hello"}]
            body = {"model": "m", "store": False, "input": items}
            first = client.post("/v1/responses", body)[1]
            self.assertEqual(first, client.post("/v1/responses", body)[1])
            self.assertEqual([i["type"] for i in first["output"]], ["reasoning", "message"] + ["function_call"] * 3)
            self.assertEqual([i["arguments"] for i in first["output"][2:]],
                             ['{"a":9223372036854775807,"b":1.0}', '{"a": ', ''])
            items += first["output"] + [{"type": "function_call_output", "call_id": c["call_id"], "output": "o%d" % k}
                                        for k, c in enumerate(first["output"][2:])]
            status, second = client.post("/v1/responses", body)
            self.assertEqual((status, second["output"][0]["content"][0]["text"]), (200, "Done."))
            self.assertEqual(second["usage"]["input_tokens_details"]["cached_tokens"], 7)
        self.assertEqual(server.status, 0)

    def test_gemini_round(self):
        calls = [{"name": "add", "args": {"a": 1}, "id": None}, {"name": "now"}]
        script = [{"reply": {"calls": calls}}, {"expect": {"outputs": 2}, "reply": {"text": "Done."}},
                  {"reply": {"calls": self.CALLS}}, {"reply": {"stop": "refusal"}}, {"reply": {"stop": "length"}}]
        path = "/v1beta/models/m:generateContent"
        with modeld.Server(script) as server:
            client, contents = Client(server), [{"role": "user", "parts": [{"text": "hello"}]}]
            content = client.post(path, {"contents": contents})[1]["candidates"][0]["content"]
            self.assertNotIn("id", content["parts"][0]["functionCall"])
            results = [{"functionResponse": {"name": "add", "response": {"output": 1}}}, {"functionResponse": {
                "name": "now", "id": content["parts"][1]["functionCall"]["id"], "response": {"output": 2}}}]
            contents += [content, {"role": "user", "parts": results}]
            status, answer = client.post(path, {"contents": contents})
            self.assertEqual((status, answer["candidates"][0]["finishReason"]), (200, "STOP"))
            answers = [client.post(path, {"contents": contents})[1] for _ in range(3)]
        self.assertEqual(answers[0]["candidates"][0]["finishReason"], "MALFORMED_FUNCTION_CALL")
        self.assertEqual(answers[1]["promptFeedback"], {"blockReason": "PROHIBITED_CONTENT"})
        self.assertEqual(answers[2]["candidates"][0]["finishReason"], "MAX_TOKENS")

    def test_other_ends_of_an_answer(self):
        stops = ["length", "filter", "refusal", "failed"]
        script = [{"reply": {"text": "x", "calls": [{"name": "a"}], "stop": s}} for s in stops]
        with modeld.Server(script) as server:
            client = Client(server)
            got = [client.post("/v1/responses", {"model": "m", "input": "hi"})[1] for _ in stops]
        self.assertEqual([g["status"] for g in got], ["incomplete", "incomplete", "completed", "failed"])
        self.assertEqual(got[0]["output"][-1]["status"], "incomplete")
        self.assertEqual(got[1]["incomplete_details"], {"reason": "content_filter"})
        self.assertEqual(got[2]["output"][1]["content"][0]["type"], "refusal")
        self.assertEqual(got[3]["error"]["code"], "server_error")


class Door(unittest.TestCase):
    """Keys, names, and bodies that are no JSON."""

    def test_refusals_at_the_door(self):
        ask, gem = {"model": "m", "input": "hi"}, {"contents": [{"parts": [{"text": "hi"}]}]}
        cases = [
            ("/v1/responses", ask, {"Authorization": None}, 401, "didn't provide an API key"),
            ("/v1/responses", ask, {"Authorization": "Bearer bad-key"}, 401, "Incorrect API key"),
            ("/v1/responses", dict(ask, model="no-such-model"), {}, 404, "does not exist"),
            ("/v1/responses", b"{\"model\":", {}, 400, "could not parse"),
            ("/v1/responses", b"{\"model\":\"m\",\"model\":\"m\"}", {}, 400, "duplicate key"),
            ("/v1/responses", b"{\"model\":NaN}", {}, 400, "NaN"),
            ("/v1/responses", b"\"\xff\"", {}, 400, "could not parse"),
            ("/v1/responses", b"[" * 100000, {}, 400, "could not parse"),
            ("/v1/responses", [], {}, 400, "expected an object"),
            ("/v1/responses", dict(ask, tools=[1]), {}, 400, "tools[0]"),
            ("/v1/responses", ask, {"Content-Type": "text/plain"}, 400, "content type"),
            ("/v1beta/models/m:generateContent", gem, {"x-goog-api-key": None}, 400, "API key not valid"),
            ("/v1beta/models/m:generateContent", gem, {"x-goog-api-key": "bad-key"}, 400, "API key not valid"),
            ("/v1beta/models/no-such-model:generateContent", gem, {}, 404, "is not found for API version"),
            ("/v1beta/models/m:generateContent", {"contents": [1]}, {}, 400, "expected an object"),
            ("/v1/completions", ask, {}, 404, "Invalid URL"),
        ]
        with modeld.Server([]) as server:
            client = Client(server)
            for path, body, headers, status, text in cases:
                with self.subTest(text=text, path=path):
                    got, answer = client.post(path, body, headers)
                    self.assertEqual(got, status)
                    self.assertIn(text, answer["error"]["message"])
            stats = server.stats()
        self.assertEqual(stats["problems"], ["unexpected request: POST /v1/completions"])
        self.assertEqual(len(stats["refused"]), len(cases) - 1)


class Scripts(unittest.TestCase):
    ASK = {"model": "m", "input": "hi"}

    def post(self, server, body=None, headers=None):
        client = Client(server)
        try:
            return client.post("/v1/responses", body or self.ASK, headers)
        finally:
            client.http.close()

    def test_unmet_expectations_and_unexpected_requests(self):
        with modeld.Server([{"expect": {"outputs": 1, "contains": "ho", "lacks": ["hi"], "tools": ["a"]}}]) as server:
            status, answer = self.post(server)
            self.assertEqual((status, answer["error"]["code"]), (400, "script"))
            self.assertEqual(self.post(server)[0], 400)
            problems = server.stats()["problems"]
        self.assertEqual(len(problems), 5)
        self.assertIn("unexpected request", problems[-1])
        self.assertEqual(server.status, 1)

    def test_unused_turns_are_told(self):
        with modeld.Server([{}, {}]) as server:
            self.post(server)
            self.assertEqual(server.stats()["unused"], ["rule 0 turn 1"])
        self.assertEqual(server.status, 1)

    def test_first_attempts_and_bodies(self):
        script = {"rules": [{"turns": [{"first": [{"status": 429, "headers": {"Retry-After": "1"}},
                                                  {"status": 503, "body_text": "<html>busy"}],
                                        "reply": {"text": "ok", "gzip": True, "chunked": True}, "repeat": True}]}]}
        with modeld.Server(script) as server:
            self.assertEqual(self.post(server)[1]["error"]["code"], "rate_limit_exceeded")
            self.assertEqual(self.post(server), (503, b"<html>busy"))
            self.assertEqual(self.post(server)[1]["status"], "completed")
            status, packed = self.post(server, headers={"Accept-Encoding": "gzip"})
            self.assertEqual((status, packed[:2]), (200, b"\x1f\x8b"))

    def test_cut_and_silent_close(self):
        with modeld.Server([{"reply": {"text": "x" * 999, "cut": True}}, {"reply": {"close": "silent"}},
                            {"reply": {"text": "ok"}}]) as server:
            with self.assertRaises(http.client.IncompleteRead):
                self.post(server)
            client = Client(server)
            self.assertEqual(client.post("/v1/responses", self.ASK)[0], 200)
            with self.assertRaises((http.client.RemoteDisconnected, ConnectionError)):
                client.post("/v1/responses", self.ASK)
            self.assertEqual(self.post(server)[0], 200)

    def test_answers_together_held_and_given_up(self):
        script = {"rules": [{"when": {"user_contains": "both"}, "turns": [{"together": 2, "repeat": True}]},
                            {"when": {"user_contains": "held"}, "turns": [{"hold": True, "reply": {"text": "go"}}]},
                            {"when": {"user_contains": "hang"}, "turns": [{"reply": {"hang": True}}]}]}
        with modeld.Server(script) as server, concurrent.futures.ThreadPoolExecutor(4) as pool:
            def ask(text):
                return pool.submit(self.post, server, {"model": "m", "input": text})
            pair = [ask("both %d" % k) for k in range(2)]
            self.assertEqual([p.result(10)[0] for p in pair], [200, 200])
            held = ask("held")
            self.until(lambda: server.stats()["waiting"] == 1)
            self.assertFalse(held.done())
            server.release()
            self.assertEqual(held.result(10)[0], 200)
            raw = socket.create_connection(("127.0.0.1", server.port))
            body = b'{"model":"m","input":"hang"}'
            raw.sendall(b"POST /v1/responses HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\nContent-Type: "
                        b"application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            self.until(lambda: server.stats()["waiting"] == 1)
            raw.close()
            self.until(lambda: server.stats()["waiting"] == 0)
            self.assertIsNone(server.requests()[-1]["status"])

    def until(self, true, seconds=30):
        end = time.monotonic() + seconds
        while not true():
            self.assertLess(time.monotonic(), end, "waited in vain")
            time.sleep(0.005)

    def test_pages_for_tools(self):
        with modeld.Server({"get": {"/oslo": {"text": "-3", "headers": {"Content-Type": "text/plain"}}}}) as server:
            client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
            client.request("GET", "/oslo")
            answer = client.getresponse()
            self.assertEqual((answer.read(), answer.getheader("content-type")), (b"-3", "text/plain"))

    def test_wrong_scripts_do_not_start(self):
        for script in ([{"replay": {}}], {"rules": [{"turns": [{"reply": {"txt": ""}}]}]}, {"rule": []}):
            with self.assertRaises(modeld.ScriptError):
                modeld.Script(script)


if __name__ == "__main__":
    unittest.main(warnings="ignore")
