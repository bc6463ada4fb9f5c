"""A server for bench.py: streams of the four protocols as fast as they are read, made once, sent from memory."""
import http.server
import json
import threading

DELTAS, TEXT = 40000, "word "


def events(values, named=False, end=""):
    parts = []
    for value in values:
        data = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
        parts.append(("event: %s\n" % value["type"] if named else "") + "data: %s\n\n" % data)
    return ("".join(parts) + end).encode()


def responses():
    item = {"type": "message", "id": "msg_0123456789abcdef", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": TEXT * DELTAS, "annotations": []}]}
    where = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    deltas = [dict(where, type="response.output_text.delta", sequence_number=n, delta=TEXT, logprobs=[],
                   obfuscation="aaaaaaaaaaa") for n in range(DELTAS)]
    return events([{"type": "response.output_item.added", "output_index": 0, "item": dict(item, content=[])}] + deltas
                  + [{"type": "response.output_item.done", "output_index": 0, "item": item},
                     {"type": "response.completed", "response": {"id": "r", "status": "completed", "output": [item],
                      "usage": {"input_tokens": 1, "output_tokens": DELTAS, "total_tokens": DELTAS + 1}}}], True)


def chat():
    def chunk(delta, reason=None):
        return {"id": "chatcmpl-0123456789abcdef", "object": "chat.completion.chunk", "created": 1700000000,
                "model": "bench", "system_fingerprint": "fp_0123456789",
                "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]}
    return events([chunk({"content": TEXT})] * DELTAS + [chunk({}, "stop"), "[DONE]"])


def gemini():
    def chunk(reason=None):
        candidate = {"content": {"parts": [{"text": TEXT}], "role": "model"}, "index": 0}
        return {"candidates": [dict(candidate, finishReason=reason) if reason else candidate],
                "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 9, "totalTokenCount": 10},
                "modelVersion": "bench", "responseId": "0123456789abcdef"}
    return events([chunk()] * (DELTAS - 1) + [chunk("STOP")])


def anthropic():
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "bench", "content": [],
               "stop_reason": None, "usage": {"input_tokens": 1, "output_tokens": 1}}
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": TEXT}}
    return events([{"type": "message_start", "message": message},
                   {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}]
                  + [delta] * DELTAS
                  + [{"type": "content_block_stop", "index": 0},
                     {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}},
                     {"type": "message_stop"}], True)


MADE = {"responses": responses, "completions": chat, "streamGenerateContent": gemini, "messages": anthropic}


class Bodies(dict):
    """Made when they are asked for."""

    def __missing__(self, name):
        self[name] = MADE[name]()
        return self[name]


class Flood:
    """Serves each protocol at the paths that end as its requests do; bodies[name] is what it sends."""

    def __init__(self):
        self.bodies = bodies = Bodies()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                self.rfile.read(int(self.headers.get("content-length") or 0))
                body = bodies[next(name for name in MADE if self.path.split("?")[0].endswith(name))]
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.root = "http://127.0.0.1:%d" % self.server.server_address[1]

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
