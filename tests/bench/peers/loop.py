"""What the two Python peers share: a request, the reading of its answer, the tool, the report."""
import json
import resource
import sys
import time
from urllib.parse import urlsplit

TOOLS = [{"type": "function", "name": "noop", "description": "Looks something up", "strict": True,
          "parameters": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"],
                         "additionalProperties": False}}]


class Job:
    """URL CONVERSATIONS CONCURRENCY WARM stream|whole"""

    def __init__(self):
        url = urlsplit(sys.argv[1])
        self.host, self.port, self.path = url.hostname, url.port, url.path
        self.count, self.at_once, self.warm = map(int, sys.argv[2:5])
        self.stream = sys.argv[5] == "stream"

    def body(self, items):
        body = {"model": "bench", "instructions": "Look things up.", "input": items, "tools": TOOLS, "store": False,
                "include": ["reasoning.encrypted_content"], "parallel_tool_calls": True}
        if self.stream:
            body["stream"] = True
        return json.dumps(body, separators=(",", ":")).encode()


def items_of_event(line, items):
    """Takes a line of a stream; appends each item that is done. True at the end of the answer."""
    if not line.startswith(b"data: "):
        return False
    event = json.loads(line[6:])
    if event["type"] == "response.output_item.done":
        items.append(event["item"])
    return event["type"] == "response.completed"


def first():
    return [{"role": "user", "content": "Look things up, then say what you found."}]


def calls_of(answer):
    return [item for item in answer if item["type"] == "function_call"]


def text_of(answer):
    return answer[-1]["content"][0]["text"]


def output(call, value):
    return {"type": "function_call_output", "call_id": call["call_id"], "output": json.dumps(value)}


def report(begun_cpu, begun):
    print(json.dumps({"cpu_s": time.process_time() - begun_cpu, "wall_s": time.perf_counter() - begun,
                      "maxrss_kb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))
