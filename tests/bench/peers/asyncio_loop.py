#!/usr/bin/env python3
"""A tool-calling loop on asyncio: HTTP over its streams, kept connections, the calls of a turn by gather.

    asyncio_loop.py URL CONVERSATIONS CONCURRENCY WARM stream|whole
"""
import asyncio
import json
import time

import loop

JOB = loop.Job()
idle = []       # connections that are kept


async def noop(n):
    return n


async def read_head(reader):
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
    if head[0].split()[1] != "200":
        raise RuntimeError(head[0])
    return dict(line.split(": ", 1) for line in head[1:] if line)


async def read_chunks(reader, found):
    rest = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        *lines, rest = (rest + (await reader.readexactly(size + 2))[:-2]).split(b"\n")
        for line in lines:
            loop.items_of_event(line, found)
    await reader.readexactly(2)


async def ask(items):
    reader, writer = idle.pop() if idle else await asyncio.open_connection(JOB.host, JOB.port)
    body = JOB.body(items)
    writer.write(b"POST %s HTTP/1.1\r\nHost: %s:%d\r\nContent-Type: application/json\r\n"
                 b"Authorization: Bearer test-key\r\nContent-Length: %d\r\n\r\n" % (
                     JOB.path.encode(), JOB.host.encode(), JOB.port, len(body)) + body)
    head = await read_head(reader)
    found = []
    if JOB.stream:
        await read_chunks(reader, found)
    else:
        found = json.loads(await reader.readexactly(int(head["content-length"])))["output"]
    idle.append((reader, writer))
    return found


async def talk():
    items = loop.first()
    while True:
        answer = await ask(items)
        calls = loop.calls_of(answer)
        if not calls:
            assert loop.text_of(answer) == "All looked up."
            return
        values = await asyncio.gather(*(noop(**json.loads(call["arguments"])) for call in calls))
        items += answer + [loop.output(call, value) for call, value in zip(calls, values)]


async def phase(count):
    left = iter(range(count))

    async def talker():
        for _ in left:
            await talk()
    await asyncio.gather(*(talker() for _ in range(JOB.at_once)))


async def main():
    await phase(JOB.warm)
    cpu, begun = time.process_time(), time.perf_counter()
    await phase(JOB.count)
    loop.report(cpu, begun)


asyncio.run(main())
