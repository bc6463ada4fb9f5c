#!/usr/bin/env python3
"""Self test of the model server, Chat Completions and Messages: what the official clients sent is accepted, broken
variants of it are refused; lists of models; images and files."""

import os
import unittest

import modeld
import test_modeld
from test_modeld import CAPTURES, Client

CHAT = os.path.join(CAPTURES, "openai-chat", "openai-sdk.json")
ANTHROPIC = os.path.join(CAPTURES, "anthropic", "anthropic-sdk.json")
VERSION = {"anthropic-version": "2023-06-01", "x-api-key": "test-key", "Authorization": None}
PNG = "iVBORw0KGgo="
TOOL = {"name": "f", "input_schema": {"type": "object", "properties": {}}}


def put(*path):
    """A change that sets what the path ends in: put("messages", 0, "role", "user")."""
    def change(body):
        for key in path[:-2]:
            body = body[key]
        body[path[-2]] = path[-1]
    return change


class Chat(test_modeld.Replay):
    def test_chat(self):
        self.replay(CHAT, {
            "tool message missing": ("did not have response messages: call_chat_c", lambda b: b["messages"].pop()),
            "tool message twice": ("must be a response", lambda b: b["messages"].append(b["messages"][-1])),
            "tool message before": ("must be a response", lambda b: b["messages"].insert(1, b["messages"][-1])),
            "user text between": ("did not have response", lambda b: b["messages"].insert(
                4, {"role": "user", "content": "so?"})),
            "id of nobody": ("must be a response", put("messages", 3, "tool_call_id", "call_x")),
            "error flag": ("Unknown parameter: 'messages[3].is_error'", put("messages", 3, "is_error", True)),
            "output is an object": ("expected a string", put("messages", 3, "content", {"temp": 1})),
            "image as output": ("Supported values are: text", put("messages", 3, "content", [
                {"type": "image_url", "image_url": {"url": "http://x/"}}])),
            "arguments are an object": ("invalid tool call arguments", put(
                "messages", 2, "tool_calls", 0, "function", "arguments", {})),
            "arguments are broken": ("invalid tool call arguments", put(
                "messages", 2, "tool_calls", 0, "function", "arguments", "{\"city\":")),
            "index comes back": ("unknown fields", put("messages", 2, "tool_calls", 0, "index", 0)),
            "two calls of one id": ("unique", put("messages", 2, "tool_calls", 1, "id", "call_chat_a")),
            "empty calls": ("empty array", put("messages", 2, "tool_calls", [])),
            "invented field": ("'messages[2].reasoning_content'", put("messages", 2, "reasoning_content", "hm")),
            "no content": ("got null", lambda b: b["messages"].append({"role": "assistant", "content": None})),
            "role": ("Invalid value: 'model'", put("messages", 0, "role", "model")),
            "flat tool": ("Unknown parameter: 'tools[0].name'", lambda b: b["tools"].insert(0, {
                "type": "function", "name": "f", "parameters": {}})),
            "schema root": ("schema must be", put("tools", 0, "function", "parameters", {"type": "string"})),
            "schema not strict": ("'additionalProperties' is required",
                                  lambda b: b["tools"][0]["function"]["parameters"].pop("additionalProperties")),
            "no tools": ("empty array", put("tools", [])),
            "choice without tools": ("only allowed when 'tools'", lambda b: b.pop("tools")),
            "choice of nobody": ("Tool choice", put("tool_choice", {
                "type": "function", "function": {"name": "nobody"}})),
            "instructions": ("Unknown parameter: 'instructions'", put("instructions", "x")),
            "both limits": ("same time", put("max_tokens", 5)),
            "options of a stream": ("'stream_options'", put("stream_options", {"include_usage": True})),
            "effort": ("Invalid value: 'huge'", put("reasoning_effort", "huge")),
            "format": ("Unknown parameter: 'response_format.json_schema.schemas'", put("response_format", {
                "type": "json_schema", "json_schema": {"name": "a", "schemas": {}}})),
        })

    def test_extra_fields_come_back_or_are_refused(self):
        script = [{"reply": {"reasoning": "Hm.", "calls": [{"name": "f", "extra": {"google": {"s": "Zm9v"}}}]}},
                  {"expect": {"outputs": 1}, "reply": {"text": "done"}}]
        tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
        with modeld.Server(script) as server:
            client, messages = Client(server), [{"role": "user", "content": "hi"}]
            body = {"model": "m", "messages": messages, "tools": tools}
            message = client.post("/v1/chat/completions", body)[1]["choices"][0]["message"]
            self.assertEqual(message["reasoning_content"], "Hm.")
            messages += [message, {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "1"}]
            altered = test_modeld.changed(body, put("messages", 1, "reasoning_content", "So."))
            self.assertEqual(client.post("/v1/chat/completions", altered)[0], 400)
            lost = test_modeld.changed(body, lambda b: b["messages"][1]["tool_calls"][0].pop("extra_content"))
            self.assertEqual(client.post("/v1/chat/completions", lost)[0], 400)
            self.assertEqual(client.post("/v1/chat/completions", body)[0], 200)


class Anthropic(test_modeld.Replay):
    def test_anthropic(self):
        def block(i, k, key, value):
            return put("messages", i, "content", k, key, value)

        def blocks(i):
            return lambda b: b["messages"][i]["content"]

        self.replay(ANTHROPIC, {
            "result missing": ("without `tool_result` blocks immediately after: toolu_golden_c",
                               lambda b: blocks(2)(b).pop()),
            "result twice": ("must have a single result", lambda b: blocks(2)(b).append(blocks(2)(b)[0])),
            "results missing": ("must end with a user message", lambda b: b["messages"].pop()),
            "results after text": ("must come first", lambda b: blocks(2)(b).insert(0, {"type": "text", "text": "x"})),
            "text instead": ("without `tool_result`", lambda b: b["messages"].insert(2, {
                "role": "assistant", "content": "x"}) or b["messages"].insert(2, {"role": "user", "content": "x"})),
            "call dropped": ("unexpected `tool_use_id`", lambda b: blocks(1)(b).pop()),
            "id of nobody": ("unexpected `tool_use_id`", block(2, 0, "tool_use_id", "toolu_x")),
            "id with a colon": ("should match pattern", block(2, 0, "tool_use_id", "call:1")),
            "thinking altered": ("Invalid `signature`", block(1, 0, "thinking", "Other thoughts.")),
            "signature altered": ("Invalid `signature`", block(1, 0, "signature", "AAAA")),
            "thinking dropped": ("Expected `thinking`", lambda b: blocks(1)(b).pop(0)),
            "redacted dropped": ("cannot be modified", lambda b: blocks(1)(b).pop(1)),
            "thinking moved": ("cannot be modified", lambda b: blocks(1)(b).insert(2, blocks(1)(b).pop(0))),
            "input is text": ("valid dictionary", block(1, 3, "input", "{}")),
            "empty text": ("must be non-empty", block(1, 2, "text", " \n")),
            "empty content": ("must have non-empty content", put("messages", 0, "content", [])),
            "role": ("'user' or 'assistant'", put("messages", 0, "role", "system")),
            "first is assistant": ("first message", lambda b: b["messages"].pop(0)),
            "unknown block": ("does not match any", block(2, 0, "type", "function_response")),
            "unknown block field": ("Extra inputs", block(2, 0, "name", "f")),
            "unknown field": ("instructions: Extra inputs", put("instructions", "x")),
            "no limit": ("max_tokens: Field required", lambda b: b.pop("max_tokens")),
            "limit too high": ("maximum allowed number", put("max_tokens", 1000000)),
            "budget over the limit": ("must be greater", put("max_tokens", 1024)),
            "budget too low": ("1024", put("thinking", "budget_tokens", 1)),
            "forced with thinking": ("Thinking may not", put("tool_choice", {"type": "any"})),
            "choice without tools": ("only be specified while providing", lambda b: b.pop("tools")),
            "schema without type": ("input_schema.type", lambda b: b["tools"][0]["input_schema"].pop("type")),
            "tool twice": ("must be unique", lambda b: b["tools"].append(b["tools"][0])),
            "sampling": ("not supported in this API version", put("temperature", 1)),
            "five marks": ("maximum of 4 blocks", lambda b: [m.update(cache_control={"type": "ephemeral"})
                                                            for m in b["tools"] + blocks(2)(b)]),
            "system": ("must be non-empty", put("system", [{"type": "text", "text": ""}])),
        })

    def test_round_and_tools_stay_declared(self):
        script = [{"reply": {"text": "Adding.", "calls": [{"name": "f", "args": {"n": 2**63 - 1}}, {"name": "f"}]}},
                  {"expect": {"outputs_contain": ["o0", "o1"]}, "reply": {"text": "Done.", "usage": {
                      "input": 10, "cached": 7}}}]
        with modeld.Server(script) as server:
            client, messages = Client(server), [{"role": "user", "content": "hello"}]
            body = {"model": "m", "max_tokens": 9, "messages": messages, "tools": [TOOL]}
            first = client.post("/anthropic/v1/messages", body, VERSION)[1]
            self.assertEqual([b["type"] for b in first["content"]], ["thinking", "text", "tool_use", "tool_use"])
            messages += [{"role": "assistant", "content": first["content"]}, {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": b["id"], "content": "o%d" % k}
                for k, b in enumerate(first["content"][2:])]}]
            bare = test_modeld.changed(body, lambda b: b.pop("tools"))
            self.assertIn("must define tools", client.post("/v1/messages", bare, VERSION)[1]["error"]["message"])
            second = client.post("/v1/messages", body, VERSION)[1]
            self.assertEqual((second["usage"]["input_tokens"], second["usage"]["cache_read_input_tokens"]), (3, 7))


class Parts(unittest.TestCase):
    """Images and files: good ones are taken, broken ones refused, on every protocol."""

    def cases(self):
        url = "data:image/png;base64," + PNG
        pdf = "data:application/pdf;base64," + PNG
        responses = lambda *parts: {"model": "m", "input": [{"role": "user", "content": list(parts)}]}  # noqa: E731
        messages = lambda *parts: {"model": "m", "max_tokens": 9,  # noqa: E731
                                   "messages": [{"role": "user", "content": list(parts)}]}
        chat = lambda *parts: {"model": "m", "messages": messages(*parts)["messages"]}  # noqa: E731
        gemini = lambda *parts: {"contents": [{"role": "user", "parts": list(parts)}]}  # noqa: E731
        image = lambda **source: {"type": "image", "source": source}  # noqa: E731
        yield "/v1/responses", responses, [
            {"type": "input_text", "text": ""}, {"type": "input_image", "image_url": url, "detail": "auto"},
            {"type": "input_image", "image_url": "https://x/y.png"},
            {"type": "input_file", "filename": "a.pdf", "file_data": pdf}], [
            {"type": "input_image", "image_url": PNG}, {"type": "input_image", "image_url": pdf},
            {"type": "input_image", "image_url": {"url": url}}, {"type": "input_file", "file_data": pdf},
            {"type": "image_url", "image_url": url}, {"type": "input_text"}]
        yield "/v1/chat/completions", chat, [
            {"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": url}},
            {"type": "image_url", "image_url": {"url": "http://x/y"}},
            {"type": "file", "file": {"filename": "a.pdf", "file_data": pdf}}], [
            {"type": "image_url", "image_url": url}, {"type": "image_url", "image_url": {"url": "data:image/png,x"}},
            {"type": "image_url", "image_url": {"url": pdf}}, {"type": "file", "file": {"file_data": pdf}},
            {"type": "text"}, {"type": "input_text", "text": "x"}]
        yield "/v1/messages", messages, [
            {"type": "text", "text": "x"}, image(type="base64", media_type="image/png", data=PNG),
            image(type="url", url="https://x/y.png"),
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PNG}}], [
            image(type="base64", media_type="image/tiff", data=PNG), image(type="url", url="data:x"),
            image(type="base64", media_type="image/png", data="?"), {"type": "text", "text": ""},
            {"type": "image_url", "image_url": {"url": url}}, {"type": "tool_use", "id": "a", "name": "f", "input": {}}]
        yield "/v1beta/models/m:generateContent", gemini, [
            {"text": "x"}, {"inlineData": {"mimeType": "image/png", "data": PNG}},
            {"fileData": {"mimeType": "image/png", "fileUri": "https://x/y.png"}}], [
            {"inlineData": {"mimeType": "image/png", "data": url}}, {"inlineData": {"data": PNG}},
            {"inline_data": {"mimeType": "image/png", "data": PNG}}, {"inlineData": {"mimeType": "png", "data": PNG}}]

    def test_parts(self):
        with modeld.Server([{"repeat": True, "reply": {"text": "ok"}}]) as server:
            client = Client(server)
            for path, body, good, bad in self.cases():
                self.assertEqual(client.post(path, body(*good), {**VERSION, "Authorization": "Bearer k"})[0], 200, path)
                for part in bad:
                    with self.subTest(path=path, part=part):
                        status, _ = client.post(path, body(part), {**VERSION, "Authorization": "Bearer k"})
                        self.assertEqual(status, 400)


class Door(unittest.TestCase):
    def test_keys_and_models(self):
        chat = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
        claude = dict(chat, max_tokens=9)
        cases = [
            ("/v1/chat/completions", chat, {"Authorization": None}, 401, "API key"),
            ("/v1/chat/completions", chat, {"Authorization": "Bearer bad-key"}, 401, "Incorrect"),
            ("/v1/chat/completions", dict(chat, model="no-such-model"), {}, 404, "does not exist"),
            ("/v1/messages", claude, {"x-api-key": None}, 401, "x-api-key header"),
            ("/v1/messages", claude, {"x-api-key": "bad-key"}, 401, "invalid x-api-key"),
            ("/v1/messages", claude, {"anthropic-version": None}, 400, "anthropic-version"),
            ("/v1/messages", claude, {"anthropic-version": "2024-01-01"}, 400, "anthropic-version"),
            ("/v1/messages", dict(claude, model="no-such-model"), {}, 404, "no-such-model"),
        ]
        with modeld.Server([{"reply": {"text": "ok"}}] * 3) as server:
            client = Client(server)
            for path, body, headers, status, text in cases:
                with self.subTest(text=text, path=path):
                    given = {**VERSION, **headers} if body is claude or "max_tokens" in body else headers
                    got, answer = client.post(path, body, given)
                    self.assertEqual(got, status)
                    self.assertIn(text, answer["error"]["message"])
            self.assertEqual(client.post("/v1/messages", claude, VERSION)[0], 200)
            bearer = {"x-api-key": None, "Authorization": "Bearer k"}
            self.assertEqual(client.post("/v1/messages", claude, {**VERSION, **bearer})[0], 200)
            self.assertEqual(client.post("/openai/v1/chat/completions?api-version=x", chat, {
                "api-key": "k", "Authorization": None})[0], 200)

    def get(self, client, path, headers):
        client.http.request("GET", path, headers=headers)
        answer = client.http.getresponse()
        return answer.status, test_modeld.json.loads(answer.read())

    def test_lists_of_models(self):
        script = {"models": ["a", "b", "c"], "models_page": 2}
        with modeld.Server(script) as server:
            client = Client(server)
            key = {"Authorization": "Bearer k"}
            self.assertEqual([m["id"] for m in self.get(client, "/v1/models", key)[1]["data"]], ["a", "b", "c"])
            self.assertEqual(self.get(client, "/v1/models", {"Authorization": "Bearer bad-key"})[0], 401)
            claude = {"x-api-key": "k", "anthropic-version": "2023-06-01"}
            page = self.get(client, "/v1/models?limit=1000", claude)[1]
            self.assertEqual((page["has_more"], page["last_id"]), (True, "b"))
            page = self.get(client, "/v1/models?limit=1000&after_id=b", claude)[1]
            self.assertEqual((page["has_more"], page["data"][0]["id"]), (False, "c"))
            page = self.get(client, "/v1beta/models?pageSize=1000", {"x-goog-api-key": "k"})[1]
            self.assertEqual(len(page["models"]), 2)
            page = self.get(client, "/v1beta/models?pageSize=1000&pageToken=" + page["nextPageToken"],
                            {"x-goog-api-key": "k"})[1]
            self.assertEqual([m["name"] for m in page["models"]], ["models/c"])
            self.assertNotIn("nextPageToken", page)


if __name__ == "__main__":
    unittest.main(warnings="ignore")
