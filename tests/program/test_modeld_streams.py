#!/usr/bin/env python3
"""Self test of the model server's streams: the events are those of the captured streams, and every word of a script
that cuts, pauses, breaks or decorates a stream does so."""

import concurrent.futures
import http.client
import json
import os
import unittest

import modeld
import modelstream
from test_modeld import CAPTURES, Client, load
from test_modeld_wires import VERSION

FOLDERS = {"openai": "openai-responses/openai-sdk", "openai-chat": "openai-chat/openai-sdk",
           "anthropic": "anthropic/anthropic-sdk", "gemini": "gemini/genai-jsonschema"}
HI = [{"role": "user", "content": "hi"}]
STREAM = "/v1beta/models/m:streamGenerateContent?alt=sse"
ASK = {"openai": ("/v1/responses", {"model": "m", "input": HI, "stream": True}),
       "openai-chat": ("/v1/chat/completions", {"model": "m", "messages": HI, "stream": True,
                                                "stream_options": {"include_usage": True}}),
       "anthropic": ("/v1/messages", {"model": "m", "messages": HI, "max_tokens": 9, "stream": True}),
       "gemini": (STREAM, {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]})}
TEXT = "Grüße, 世界 🌍! Three more words."
CALLS = [{"name": "f", "args": {"n": 2**63 - 1, "s": "é"}}, {"name": "g", "args": {}}]


def kinds(text):
    """What kinds of events follow each other; runs of one kind count once."""
    found = []
    for value in modelstream.values(text):
        kind = value.get("type") or next(iter(
            [key for choice in value.get("choices", []) for key in choice["delta"]]
            + ["usage" for _ in [1] if value.get("usage")]
            + [key for c in value.get("candidates", []) for part in c.get("content", {}).get("parts", [])
               for key in part if key != "thoughtSignature"]), "finish")
        if kind != "ping" and found[-1:] != [kind]:
            found.append(kind)
    return found


def post(client, protocol, ask=None):
    path, body = ask or ASK[protocol]
    client.http.request("POST", path, json.dumps(body).encode(), {
        **VERSION, "Authorization": "Bearer k", "x-goog-api-key": "k", "Content-Type": "application/json"})
    return client.http.getresponse()


class Streams:
    """One server that answers any request with the reply given last."""

    def __init__(self, replies):
        self.server = modeld.Server({"rules": [{"when": {"user_contains": "<%d>" % n}, "turns": [
            {"repeat": True, "reply": reply}]} for n, reply in enumerate(replies)]})
        self.replies = replies

    def __enter__(self):
        return self

    def __exit__(self, *_):
        problems = self.server.stats()["problems"]
        self.server.__exit__()
        assert not problems, problems

    def text(self, protocol, reply):
        path, body = ASK[protocol]
        body = json.loads(json.dumps(body).replace('"hi"', '"<%d>"' % self.replies.index(reply)))
        client = Client(self.server)
        try:
            return post(client, protocol, (path, body)).read().decode()
        finally:
            client.http.close()


def deltas(text):
    """All texts that came in deltas, joined, by what they are."""
    found = {"text": "", "args": ""}
    for value in modelstream.values(text):
        for choice in value.get("choices", []):
            found["text"] += choice["delta"].get("content") or ""
            for call in choice["delta"].get("tool_calls", []):
                found["args"] += call["function"].get("arguments", "")
        for candidate in value.get("candidates", []):
            for part in candidate.get("content", {}).get("parts", []):
                found["text"] += "" if part.get("thought") else part.get("text", "")
                found["args"] += json.dumps(part["functionCall"]["args"], separators=(",", ":"),
                                            ensure_ascii=False) if "functionCall" in part else ""
        delta = value.get("delta", {})
        if value.get("type") == "response.output_text.delta":
            found["text"] += delta
        elif value.get("type") == "response.function_call_arguments.delta":
            found["args"] += delta
        elif value.get("type") == "content_block_delta":
            found["text"] += delta.get("text", "")
            found["args"] += delta.get("partial_json", "")
    return found


class Captures(unittest.TestCase):
    def test_events_are_those_of_the_captured_streams(self):
        for protocol, folder in FOLDERS.items():
            first = load(os.path.join(CAPTURES, folder + ".sse"), "01.request.json")
            with open(os.path.join(CAPTURES, folder + ".sse", "01.response.sse"), encoding="utf-8") as file:
                captured = file.read()
            reply = {"raw": load(os.path.join(CAPTURES, folder + ".json"), "01.response.json")}
            with self.subTest(protocol), modeld.Server([{"reply": reply}, {"reply": {"sse": captured}}]) as server:
                client = Client(server)
                ask = (STREAM if protocol == "gemini" else first["path"], first["body"])
                made = post(client, protocol, ask).read().decode()
                self.assertEqual(post(client, protocol, ask).read().decode(), captured)
                self.assertEqual(server.stats()["refused"], [])
                self.assertEqual(*({key: sorted(found) for key, found in deltas(text).items()}
                                   for text in (made, captured)))   # fragments of calls may interleave
                if protocol == "openai":
                    self.assertEqual(set(kinds(made)), set(kinds(captured)))
                elif protocol != "gemini":                          # how Gemini groups parts into chunks is free
                    self.assertEqual(kinds(made), kinds(captured))

    def test_second_requests_after_captured_streams(self):
        for protocol, folder in FOLDERS.items():
            if protocol == "gemini":    # the client sends an empty text back, which we do not take
                continue
            second = load(os.path.join(CAPTURES, folder + ".sse"), "02.request.json")
            with open(os.path.join(CAPTURES, folder + ".sse", "01.response.sse"), encoding="utf-8") as file:
                captured = file.read()
            with self.subTest(protocol), modeld.Server([{"reply": {"sse": captured}},
                                                        {"expect": {"outputs": 3}}]) as server:
                client = Client(server)
                post(client, protocol).read()
                ask = (STREAM if protocol == "gemini" else second["path"], second["body"])
                self.assertEqual(post(client, protocol, ask).status, 200, server.stats())


class Words(unittest.TestCase):
    def test_texts_and_arguments_come_whole(self):
        args = '{"n":9223372036854775807,"s":"é"}'
        hows = ({}, {"pieces": 1}, {"interleave": True}, {"split": 1}, {"split": "random", "seed": 3}, {"eol": "crlf"},
                {"eol": "cr"}, {"comments": True, "pings": True}, {"close": True}, {"reasoning": "Hm, well."})
        replies = [{"text": TEXT, "calls": CALLS, **how} for how in hows]
        with Streams(replies) as streams:
            for protocol in ASK:
                for reply in replies:
                    with self.subTest(protocol=protocol, reply=reply):
                        found = deltas(streams.text(protocol, reply))
                        self.assertEqual(found["text"], TEXT)
                        self.assertEqual(sorted(found["args"]),
                                         sorted(args + ("{}" if protocol != "anthropic" else "")))

    def test_line_ends_and_comments(self):
        replies = [{"text": TEXT, "comments": True}, {"text": TEXT}, {"text": TEXT, "eol": "cr"},
                   {"text": TEXT, "pings": True}]
        with Streams(replies) as streams:
            self.assertIn("\n\n: keep-alive\n\n", streams.text("openai", replies[0]))
            self.assertIn("\r\n\r\n", streams.text("gemini", replies[1]))
            self.assertNotIn("\n", streams.text("anthropic", replies[2]))
            self.assertGreater(streams.text("anthropic", replies[3]).count("event: ping"), 5)

    def test_splits_are_chunks(self):
        with modeld.Server([{"reply": {"text": TEXT, "split": 7}}]) as server:
            answer = post(Client(server), "openai-chat")
            raw = answer.fp.read1(1 << 20)
            while not raw.endswith(b"\r\n0\r\n\r\n"):
                raw += answer.fp.read1(1 << 20)
            self.assertEqual({line for line in raw.split(b"\r\n")[0:40:2]}, {b"7"})

    def test_ends(self):
        whole, bare, cut, reset, drop, two = replies = [
            {"text": TEXT}, {"text": TEXT, "no_done": True}, {"text": TEXT, "stop_after": 3},
            {"text": TEXT, "stop_after": 3, "end": "reset"}, {"drop": True},
            {"text": TEXT, "stop_after": 2, "end": "clean"}]
        with Streams(replies) as streams:
            for protocol, mark in (("openai", "response.completed"), ("openai-chat", "[DONE]"),
                                   ("anthropic", "message_stop"), ("gemini", "finishReason")):
                with self.subTest(protocol):
                    self.assertIn(mark, streams.text(protocol, whole))
                    text = streams.text(protocol, bare)
                    self.assertNotIn(mark, text)
                    self.assertIn("Gr", deltas(text)["text"])
                    with self.assertRaises(http.client.IncompleteRead):
                        streams.text(protocol, cut)
                    with self.assertRaises((http.client.IncompleteRead, ConnectionResetError)):
                        streams.text(protocol, reset)
                    with self.assertRaises(http.client.RemoteDisconnected):
                        streams.text(protocol, drop)
                    self.assertNotIn(mark, streams.text(protocol, two))

    def test_errors_inside(self):
        forms = {"openai": {"event": "event: error\n", "failed": "event: response.failed\n", "bare": 'data: {"error"'},
                 "openai-chat": {"event": 'data: {"error"', "choice": '"finish_reason":"error"', "bare": '\n{"error"'},
                 "anthropic": {"event": "event: error\ndata: {\"type\":\"error\"", "bare": '\n{"type":"error"'},
                 "gemini": {"event": 'data: {"error"', "bare": '\r\n{"error"'}}
        replies = {form: {"text": TEXT, "error_after": 3, "error": {"status": 429, "form": form}}
                   for known in forms.values() for form in known}
        with Streams(list(replies.values())) as streams:
            for protocol, known in forms.items():
                for form, text in known.items():
                    with self.subTest(protocol=protocol, form=form):
                        got = streams.text(protocol, replies[form])
                        self.assertIn(text, got)
                        self.assertNotIn("words.", got)

    def test_no_stream_though_asked(self):
        for protocol in ASK:
            with modeld.Server([{"reply": {"text": TEXT, "ignore_stream": True}}, {"reply": {"status": 529}},
                                {"reply": {"body_text": "<html>", "content_type": "text/html", "every_ms": 1}}]) as s:
                client = Client(s)
                answer = post(client, protocol)
                self.assertEqual(answer.getheader("content-type"), "application/json")
                self.assertIn(TEXT, json.dumps(json.loads(answer.read()), ensure_ascii=False))
                answer = post(client, protocol)
                self.assertEqual((answer.status, "error" in json.loads(answer.read())), (529, True))
                answer = post(client, protocol)
                self.assertEqual((answer.getheader("content-type"), answer.read()), ("text/html", b"<html>"))

    def test_gemini_without_sse_is_an_array(self):
        with modeld.Server([{"reply": {"text": TEXT}}]) as server:
            status, value = Client(server).post("/v1beta/models/m:streamGenerateContent", ASK["gemini"][1])
            self.assertEqual((status, value[-1]["candidates"][0]["finishReason"]), (200, "STOP"))

    def test_pause_release_and_leaving(self):
        script = [{"expect": {"stream": True}, "reply": {"text": TEXT, "pause_after": 4, "keep_alive": "comments"}},
                  {"reply": {"text": TEXT}}]
        with modeld.Server(script) as server, concurrent.futures.ThreadPoolExecutor(1) as pool:
            answer = post(Client(server), "anthropic")
            server.wait(1)
            rest = pool.submit(answer.read)
            self.assertFalse(rest.done())
            server.release()
            text = rest.result(10).decode()
            self.assertEqual(deltas(text)["text"], TEXT)
        with modeld.Server(script) as server:
            client = Client(server)
            answer = post(client, "openai")
            server.wait(1)
            answer.close()
            client.http.close()
            server.wait(0)
            line = server.requests()[-1]
            self.assertEqual((line["status"], line["left"]), (200, True))
            self.assertIn("response.created", line["answer"])
            post(Client(server), "openai").read()
        self.assertEqual(server.status, 0)

    def test_zipped(self):
        import zlib
        with modeld.Server([{"reply": {"text": TEXT, "gzip": True}}]) as server:
            path, body = ASK["anthropic"]
            client = Client(server)
            client.http.request("POST", path, json.dumps(body).encode(), {
                "x-api-key": "k", "anthropic-version": "2023-06-01", "Content-Type": "application/json",
                "Accept-Encoding": "gzip"})
            text = zlib.decompress(client.http.getresponse().read(), 31).decode()
            self.assertEqual(deltas(text)["text"], TEXT)


if __name__ == "__main__":
    unittest.main(warnings="ignore")
