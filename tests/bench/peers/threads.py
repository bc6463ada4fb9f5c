#!/usr/bin/env python3
"""A tool-calling loop on threads: http.client, a kept connection a thread, the calls of a turn on a pool.

    threads.py URL CONVERSATIONS CONCURRENCY WARM stream|whole
"""
import http.client
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import loop

JOB = loop.Job()
here = threading.local()


def noop(n):
    return n


def ask(items):
    if not hasattr(here, "connection"):
        here.connection = http.client.HTTPConnection(JOB.host, JOB.port, timeout=60)
    here.connection.request("POST", JOB.path, JOB.body(items), {"Content-Type": "application/json",
                                                                "Authorization": "Bearer test-key"})
    answer = here.connection.getresponse()
    if answer.status != 200:
        raise RuntimeError(answer.read())
    if not JOB.stream:
        return json.loads(answer.read())["output"]
    found = []
    for line in answer:
        loop.items_of_event(line, found)
    return found


def talk(tools):
    items = loop.first()
    while True:
        answer = ask(items)
        calls = loop.calls_of(answer)
        if not calls:
            assert loop.text_of(answer) == "All looked up."
            return
        values = tools.map(lambda call: noop(**json.loads(call["arguments"])), calls)
        items += answer + [loop.output(call, value) for call, value in zip(calls, values)]


def phase(talkers, tools, count):
    for done in [talkers.submit(talk, tools) for _ in range(count)]:
        done.result()


with ThreadPoolExecutor(JOB.at_once) as talkers, ThreadPoolExecutor(16) as tools:
    phase(talkers, tools, JOB.warm)
    cpu, begun = time.process_time(), time.perf_counter()
    phase(talkers, tools, JOB.count)
    loop.report(cpu, begun)
