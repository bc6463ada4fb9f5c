"""Rows of bench.py: what streams of each protocol cost."""
import os

import flood
from kit import HERE, NotMeasured, at_least, at_most


class StreamRows:
    def stream(self, server, what, path):
        """Seconds of lash's processor for each run of a stream, and how many pieces or deltas were told."""
        key = (what, path)
        if key not in self.streams:
            env = dict(os.environ, NO_COLOR="1", no_proxy="127.0.0.1")
            for name in ("OPENAI", "GEMINI", "ANTHROPIC"):
                env.update({name + "_API_KEY": "test-key"})
            env.update(OPENAI_BASE_URL=server.root + "/v1", GOOGLE_GEMINI_BASE_URL=server.root,
                       ANTHROPIC_BASE_URL=server.root)
            text = self.output([self.lash(), os.path.join(HERE, "stream.lua"), what, server.root + "/" + path, "5"], env)
            self.streams[key] = [tuple(map(float, run.split())) for run in text.splitlines()[1:]]
        return self.streams[key]

    def stream_speed(self, server, what, path):
        """MB/s of body, beside a reader that takes the bytes as they come."""
        size = len(server.bodies[path]) / 1e6
        return ([size / seconds for _, seconds in self.stream(server, what, path)],
                [size / seconds for _, seconds in self.stream(server, "bytes", path)], "bytes")

    def stream_deltas(self, server, what, path):
        """Microseconds from the socket to on_event, a delta of text."""
        runs = self.stream(server, what, path)
        if any(count != flood.DELTAS for count, _ in runs):
            raise NotMeasured("%d deltas were told, %d sent" % (runs[0][0], flood.DELTAS))
        return [seconds / count * 1e6 for count, seconds in runs]

    def stream_rows(self):
        self.streams = {}
        with flood.Flood() as server:
            self.row("S1", "stream as events", "MB/s", lambda: self.stream_speed(server, "events", "completions"),
                     at_least(200, "200 MB/s"))
            for model, path in (("openai", "responses"), ("openai-chat", "completions"),
                                ("gemini", "streamGenerateContent"), ("anthropic", "messages")):
                self.row("S1", "stream as answer, %s" % model, "MB/s",
                         lambda m=model, p=path: self.stream_speed(server, m + "/bench", p), at_least(200, "200 MB/s"))
                self.row("S2", "delta of text -> on_event, %s" % model, "us",
                         lambda m=model, p=path: self.stream_deltas(server, m + "/bench", p), at_most(50, "50 us"))
