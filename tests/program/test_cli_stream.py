"""lash ask prints while the answer comes: on a terminal piece by piece, elsewhere in whole lines or at the end."""
import json
import os
import signal
import subprocess

import modeld
from cli import LASH, SLOWER, Terminal, expect, lash, needs_prompt_signals, objects, one_line, tools

MODEL = ("-m", "openai/gpt-5")
ADD = {"name": "add", "args": {"a": 1, "b": 2}}


def piped(server, *args, **more):
    """The program with stdout and stderr as pipes; unbuffered, so that communicate() gets what readline() left."""
    return subprocess.Popen(LASH + ["ask", *args], env=dict(os.environ, **server.env), stdin=subprocess.DEVNULL,
                            bufsize=0, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)


def terminal(server, *args, **more):
    return Terminal("ask", *args, env=dict(server.env, NO_COLOR="1"), **more)


def end(process):
    out, err = process.communicate(timeout=20 * SLOWER)
    return out.decode(), err.decode(), process.returncode


def test_terminal():
    """ask on a terminal: text is seen while the rest has not come, commentary too; lines of calls stand apart"""
    tools()
    with modeld.Server([{"reply": {"text": "Let me see.", "calls": [ADD], "pieces": 3}},
                        {"reply": {"text": "It is \u2713 three.\n\nReally.", "pieces": 2, "pause_after": 7}}]) as server:
        t = terminal(server, *MODEL, "-t", "tools.lua", "add")
        begun = t.read_until("\n\r\nIt is")
        assert begun.endswith("loading\r\nLet me see.\r\n\u2713 add a=1 b=2  ok %s ms\r\n\r\nIt is" %
                              begun.rsplit(" ms", 1)[0].rsplit(" ", 1)[1]), repr(begun)
        server.release()
        assert t.rest() == (" \u2713 three.\r\n\r\nReally.\r\n", 0)


def test_terminal_control():
    """ask on a terminal: control characters and direction marks stay visible however the text is cut; --raw keeps them"""
    nasty = "a\x1b[31mred\r\nline\rback\x07 \u009b2J \u202eturned \U0001f600\u2713 end\r"
    for pieces in (1, 2, 3, 100):
        with modeld.Server([{"reply": {"text": nasty, "pieces": pieces}}]) as server:
            text, status = terminal(server, *MODEL, "hi").rest()
        assert status == 0 and text == ("a^[[31mred\r\nline^Mback^G <U+009B>2J <U+202E>turned \U0001f600\u2713 end\r\n"), \
            (pieces, text)
    with modeld.Server([{"reply": {"text": nasty, "pieces": 1}}]) as server:
        text, _ = terminal(server, "--raw", *MODEL, "hi").rest()
    assert "a\x1b[31mred" in text and "\u202eturned" in text, repr(text)


def test_terminal_bytes():
    """P2 ask on a terminal: every split of the bytes of the stream shows the same text"""
    answer = "Gr\u00fc\u00dfe \u2713 \U0001f600\nzwei"
    for split in (1, 2, 3, 7):
        with modeld.Server([{"reply": {"text": answer, "pieces": 1, "split": split}}]) as server:
            assert terminal(server, *MODEL, "hi").rest() == (answer.replace("\n", "\r\n") + "\r\n", 0)


def test_terminal_reasoning():
    """ask -v on a terminal: reasoning is shown, apart from the answer; without -v, or in a file, it is not"""
    script = [{"reply": {"text": "Forty-two.", "reasoning": "text", "pieces": 4}}]
    with modeld.Server(script) as server:
        text, status = terminal(server, "-v", "--color", "always", *MODEL, "hi").rest()
    lines = text.replace("\r\n", "\n").split("\n")
    assert status == 0 and "Forty-two." in lines and "\x1b[2m" in text, repr(text)
    with modeld.Server(script) as server:
        quiet, _ = terminal(server, *MODEL, "hi").rest()
    assert quiet == "Forty-two.\r\n", repr(quiet)
    with modeld.Server(script) as server:
        r = lash("-v", "ask", *MODEL, "hi", env=server.env)
    assert r.out == "Forty-two.\n" and "answer after" in r.err and len(r.err.splitlines()) == 3, r


def test_request_id():
    """ask -v: the id under which the server knows its answer is told, streamed or not; that of an error once"""
    script = [{"first": [{"status": 500}], "reply": {"text": "Forty-two."}}]
    for more in ([], ["--no-stream"]):
        with modeld.Server(script) as server:
            r = lash("-v", *more, "ask", *MODEL, "hi", env=server.env)
        assert r.out == "Forty-two.\n" and r.err.count("request req_1") == 1, r
        assert "debug: openai/gpt-5 answers: request req_2\n" in r.err, r


def test_terminal_error():
    """ask on a terminal: after an error in mid-stream what was printed stays, its line ends, the sentence follows"""
    with modeld.Server([{"reply": {"text": "Half of it", "pieces": 2, "stop_after": 7}}]) as server:
        text, status = terminal(server, *MODEL, "hi").rest()
    lines = text.split("\r\n")
    assert status == 75 and lines[0] != "" and "Half of it".startswith(lines[0]), repr(text)
    assert lines[1].startswith("lash: openai: ") and len(lines) == 3, repr(text)


def test_terminal_cancel():
    """T4 T9 ask on a terminal: Ctrl-C in mid-stream ends the line and tells it, with the status of the signal"""
    needs_prompt_signals()
    with modeld.Server([{"reply": {"text": "Half of it", "pieces": 2, "pause_after": 7}}]) as server:
        t = terminal(server, *MODEL, "hi")
        t.read_until("Ha")
        t.send("\x03")
        text, status = t.rest()
        assert status == -signal.SIGINT and text.endswith("\r\nlash: the run was cancelled\r\n"), (status, text)
        server.release()


def test_terminal_ends():
    """ask on a terminal: an answer that was cut off, filtered or refused is shown once, then why"""
    for stop, status, part in (("length", 80, "cut off"), ("refusal", 69, "refused"), ("filter", 69, "filter")):
        with modeld.Server([{"reply": {"text": "So it goes", "pieces": 3, "stop": stop}}]) as server:
            text, got = terminal(server, *MODEL, "hi").rest()
        lines = text.split("\r\n")
        assert got == status and text.count("So it goes") == 1, (stop, text)
        assert lines[-2].startswith("lash: ") and part in lines[-2] and lines[-1] == "", (stop, text)


def test_terminal_alone():
    """ask with only stdout on a terminal: whole lines there, whatever stands on stderr"""
    tools()
    with modeld.Server([{"reply": {"text": "Let me see.", "calls": [ADD], "pieces": 3}},
                        {"reply": {"text": "It is 3.", "pieces": 3}}]) as server:
        t = terminal(server, "-v", *MODEL, "-t", "tools.lua", "add", stderr=subprocess.PIPE)
        assert t.rest() == ("Let me see.\r\n\r\nIt is 3.\r\n", 0)
        assert b"add a=1 b=2" in t.process.stderr.read()
        t.process.stderr.close()


def test_protocols():
    """P0 ask: each protocol shows the same on a terminal, in a pipe and as events, streamed or not"""
    tools()
    script = [{"reply": {"text": "Let me see.", "calls": [ADD], "pieces": 3}}, {"reply": {"text": "It is\n3.", "pieces": 2}}]
    for model in ("openai/gpt-5", "openai-chat/gpt-4.1", "anthropic/claude-sonnet-4-5", "gemini/gemini-2.5-flash"):
        for more in ((), ("--no-stream",)):
            args = ("-m", model, "-t", "tools.lua", *more, "add")
            with modeld.Server(script * 3) as server:
                text, status = terminal(server, "-q", *args).rest()
                assert (text, status) == ("loading\r\nLet me see.\r\n\r\nIt is\r\n3.\r\n", 0), (model, more, text)
                assert expect(lash("ask", *args, env=server.env), 0).out == "It is\n3.\n"
                events = objects(expect(lash("ask", "--jsonl", *args, env=server.env), 0))
            kinds = [e["type"] for e in events if e["type"] not in ("text", "reasoning")]
            assert kinds == ["run.start", "model.request", "call.ready", "model.end", "call.start", "call.end",
                             "model.request", "model.end", "run.end"], (model, more, kinds)
            deltas = [e["delta"] for e in events if e["type"] == "text"]
            assert "".join(deltas) == "Let me see.It is\n3." and (len(deltas) > 4) == (more == ()), (model, more, deltas)


def test_pipe_lines():
    """ask into a pipe: without tools whole lines come while the answer does, the rest at its end"""
    with modeld.Server([{"reply": {"text": "one\ntwo\nthree", "pieces": 1, "pause_after": 12}}]) as server:
        process = piped(server, *MODEL, "hi")
        assert process.stdout.readline() == b"one\n"
        server.release()
        got = end(process)
        assert got == ("two\nthree\n", "", 0), got


def test_pipe_final():
    """ask into a pipe: with tools nothing but the answer, when it is the answer"""
    tools()
    with modeld.Server([{"reply": {"text": "Let me see.\nNow.\n", "calls": [ADD], "pieces": 3}},
                        {"reply": {"text": "It is\n3.", "pieces": 2}}]) as server:
        expect(lash("ask", *MODEL, "-t", "tools.lua", "--out", "out.txt", "add", env=server.env), 0, "It is\n3.\n")
    with open("out.txt", encoding="utf-8") as file:
        assert file.read() == "It is\n3."


def test_pipe_error():
    """ask into a pipe: after an error in mid-stream whole lines stand on stdout and one sentence on stderr; no --out"""
    with modeld.Server([{"reply": {"text": "one\ntwo\nthree", "pieces": 1, "stop_after": 15}}]) as server:
        r = one_line(expect(lash("ask", *MODEL, "--out", "out.txt", "hi", env=server.env), 75, "one\n", "a part of the answer was delivered"))
    assert r.out.endswith("\n") and "one\ntwo\nthree".startswith(r.out[:-1]), r
    assert not os.path.exists("out.txt")


def test_pipe_closed():
    """ask into a pipe whose reader goes away while lines come: 141, without a word"""
    with modeld.Server([{"reply": {"text": "one\ntwo\nthree\n" * 50, "pieces": 1, "pause_after": 12}}]) as server:
        process = piped(server, *MODEL, "hi")
        assert process.stdout.readline() == b"one\n"
        process.stdout.close()
        server.release()
        assert process.stderr.read() == b"" and process.wait(timeout=20 * SLOWER) == 141
        process.stderr.close()


def test_file_asks_again():
    """P5 ask into a file: it gets the whole answer at its end, so one that broke off is asked for again"""
    script = [{"first": [{"text": "one\ntwo", "pieces": 1, "stop_after": 11}], "reply": {"text": "one\ntwo\nthree"}}]
    with modeld.Server(script) as server, open("out.txt", "w+", encoding="utf-8") as file:
        done = subprocess.run(LASH + ["ask", *MODEL, "hi"], env=dict(os.environ, **server.env), stdout=file,
                              stdin=subprocess.DEVNULL, timeout=20 * SLOWER)
        file.seek(0)
        assert done.returncode == 0 and file.read() == "one\ntwo\nthree\n" and server.stats()["requests"] == 2


def test_json_asks_again():
    """P5 ask --json: nobody saw a part of the answer, so one that broke off is asked for again; --jsonl has told it"""
    broken = {"text": "Half of it", "pieces": 2, "stop_after": 7}
    script = [{"first": [broken], "reply": {"text": "All of it", "pieces": 2}}]
    with modeld.Server(script) as server:
        r = expect(lash("ask", "--json", *MODEL, "hi", env=server.env), 0)
        assert objects(r)[0]["text"] == "All of it" and server.stats()["requests"] == 2, r
    with modeld.Server([{"reply": broken}]) as server:
        events = objects(expect(lash("ask", "--jsonl", *MODEL, "hi", env=server.env), 75))
        assert server.stats()["requests"] == 1, events
    said = "".join(e["delta"] for e in events if e["type"] == "text")
    assert said and events[-1]["text"] == said and "Half of it".startswith(said), events


def test_jsonl():
    """ask --jsonl: text, reasoning and call.ready are told while they come"""
    tools()
    with modeld.Server([{"reply": {"text": "Let me see.", "reasoning": "text", "calls": [ADD], "pieces": 3}},
                        {"reply": {"text": "three", "pieces": 2, "pause_after": 6}}]) as server:
        process = piped(server, "--jsonl", *MODEL, "-t", "tools.lua", "add")
        events = []
        while not events or not (events[-1]["type"] == "text" and events[-1]["delta"] == "th"):
            events.append(json.loads(process.stdout.readline()))
        server.release()
        events += [json.loads(line) for line in process.stdout]
        got = end(process)
        assert got == ("", "loading\n", 0), got
    kinds = [e["type"] for e in events]
    first = kinds.index("model.end")
    assert "".join(e["delta"] for e in events[:first] if e["type"] == "text") == "Let me see.", events
    assert any(e["type"] == "reasoning" and e["delta"] for e in events[:first]), events
    ready = events[kinds.index("call.ready")]
    assert ready["call"] == "1.1" and json.loads(ready["args"]) == {"a": 1, "b": 2}, ready
    assert kinds.index("call.ready") < first < kinds.index("call.start") and kinds[-1] == "run.end", kinds


def test_signal_pipe():
    """T4 ask into a pipe: SIGTERM in mid-stream leaves whole lines and the status of the signal"""
    needs_prompt_signals()
    with modeld.Server([{"reply": {"text": "one\ntwo", "pieces": 1, "pause_after": 10}}]) as server:
        process = piped(server, *MODEL, "hi")
        assert process.stdout.readline() == b"one\n"
        process.send_signal(signal.SIGTERM)
        out, err, status = end(process)
        assert status == -signal.SIGTERM and err == "lash: the run was cancelled\n", (out, err, status)
        assert out == "" or out.endswith("\n") and "two".startswith(out[:-1]), out
        server.release()
