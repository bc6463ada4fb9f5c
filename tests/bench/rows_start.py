"""Rows of bench.py: how soon a program is there, and how much memory it has then."""
import json
import os
import subprocess

from kit import HERE, NotMeasured, Server, at_most


class StartRows:
    def starts(self, command, runs, env=None):
        text = self.output([self.tool("run"), str(runs), "10", *command], env)
        found = json.loads(text)
        bad = [r["status"] for r in found["runs"] if r["status"] != 0]
        if bad:
            raise NotMeasured("%s ended with %d" % (" ".join(command), bad[0]))
        return found["runs"], found["own_kb"]

    def start_pairs(self, *arguments):
        """Runs of lash and of stock Lua in turn, 48 of each."""
        lash, stock = [], []
        for _ in range(4):
            lash += self.starts([self.lash(), *arguments], 12)[0]
            stock += self.starts(["lua5.4", "-e", ""], 12)[0]
        return lash, stock

    def start_time(self, *arguments):
        lash, stock = self.start_pairs(*arguments)
        return [r["wall_ns"] / 1e6 for r in lash], [r["wall_ns"] / 1e6 for r in stock], "lua5.4"

    def installed(self):
        """lash as packages install it. Of a file that was just written more is mapped at once."""
        path = os.path.join(self.dir, "stripped-lash")
        subprocess.run(["strip", "-o", path, self.lash()], check=True)
        with open(path, "rb") as file:
            os.fsync(file.fileno())
        return path

    def start_memory(self, *arguments):
        lash, own_kb = self.starts([self.installed(), *arguments], 9)
        stock, _ = self.starts(["lua5.4", "-e", ""], 9)
        if min(r["maxrss_kb"] for r in lash + stock) <= own_kb:
            raise NotMeasured("the measuring program itself has %d kB" % own_kb)
        return [r["maxrss_kb"] / 1e3 for r in lash], [r["maxrss_kb"] / 1e3 for r in stock], "lua5.4"

    def first_byte(self):
        lash, bare = [], []
        with Server(self, "--rounds", 0) as server:
            floor = [self.tool("floor"), server.url, "1", "1", "0", self.bodies()[0]]
            for _ in range(11):
                for command, into in (([self.lash(), os.path.join(HERE, "first.lua")], lash), (floor, bare)):
                    start = self.starts(command, 1, server.env)[0][0]["start_ns"]
                    into.append((server.stats()["last_post_ns"] - start) / 1e6)
        return lash, bare, "bare C"

    def start_rows(self):
        call = ("call", os.path.join(HERE, "tool.lua"), "noop", "--n", "1")
        for words, name in ((("-e", ""), "lash -e ''"), (("version",), "lash version"), (call, "lash call of a tool")):
            self.row("Q1", name + ": time", "ms", lambda w=words: self.start_time(*w), at_most(2.5, "2.5 ms"))
            self.row("Q1", name + ": peak RSS", "MB", lambda w=words: self.start_memory(*w), at_most(4, "4 MB"))
        self.row("Q1", "first request byte after start", "ms", self.first_byte, at_most(10, "10 ms"))
