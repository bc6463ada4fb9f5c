"""A server of lists of models for the tests of `lash models` and `lash doctor`: it answers GET /NAME/... with what
was said for NAME: a status and a JSON value or a text, or a function of the request."""
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def data(*ids):
    return {"object": "list", "data": [{"id": i, "object": "model"} for i in ids]}


def gemini(*names, token=None):
    page = {"models": [{"name": "models/" + n, "displayName": n.title(), "inputTokenLimit": 1048576,
                        "outputTokenLimit": 65536, "supportedGenerationMethods": ["generateContent"]}
                       for n in names]}
    if token:
        page["nextPageToken"] = token
    return page


class Lists:
    def __init__(self, answers):
        self.answers, self.asked, self.together = answers, [], threading.Semaphore(0)
        lists = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                lists.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
                answer = lists.answers.get(self.path.split("/")[1], (404, {}))
                status, body = answer(self) if callable(answer) else answer
                body = body if isinstance(body, str) else json.dumps(body)
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("x-request-id", "req-7")
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *args):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *args):  # clients that gave up
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def url(self, name):
        return "http://127.0.0.1:%d/%s" % (self.server.server_port, name)

    def paths(self):
        return [path for path, _ in self.asked]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


NOWHERE = {name: "http://127.0.0.1:1/v1" for name in ("OLLAMA_HOST", "LMSTUDIO_BASE_URL", "LLAMACPP_BASE_URL",
                                                      "VLLM_BASE_URL")}
