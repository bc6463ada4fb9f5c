#!/usr/bin/env python3
"""`make bench`: what lash costs, each figure beside its goal and beside what a bare program costs in the same run.

    bench.py [--build build] [--lash build/lash] [--only TEXT] [--seconds 900]

Prints one table, writes build/bench.json, build/bench.md and build/growth.svg. Every figure is the median of several
runs with [least .. most]; a figure that could not be taken is printed as `not measured` with the reason. Goals are
those of semantics.md (Q, D). The bare programs are stock lua5.4 for the start and floor.c, libcurl on libuv sending
the bytes that lash sent, for the rest; peers/ are the same agents on Python's and Node's standard libraries. The soft
limit of descriptors is set to the usual 1024: who wants 10 000 connections has to raise it.
"""
import argparse
import json
import os
import platform
import re
import resource
import subprocess
import sys
import time

from kit import Kit, NotMeasured, markdown
from rows_calls import CallRows
from rows_console import ConsoleRows
from rows_growth import GrowthRows
from rows_peers import PeerRows
from rows_start import StartRows
from rows_stops import StopRows
from rows_streams import StreamRows
from rows_talks import TalkRows


class Bench(Kit, StartRows, ConsoleRows, CallRows, StreamRows, StopRows, TalkRows, PeerRows, GrowthRows):
    def run(self):
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, soft[1]), soft[1]))
        about = dict(machine(), date=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), version=self.version())
        print("%s, %d processors, load %.1f%s\n" % (
            about["processor"], about["processors"], about["load"],
            "  (other work is going on: times will be high)" if about["load"] > 1 else ""))
        print("%-4s %-52s %-32s %-26s %s" % ("", "", "lash [least .. most]", "beside", "goal"))
        self.start_rows()
        self.console_rows()
        self.dispatch_rows()
        self.worker_rows()
        self.stream_rows()
        self.stop_rows()
        self.talk_rows()
        self.peer_rows()
        self.waiting_rows()
        self.growth_rows()
        self.plot_rows()
        measured = [r for r in self.rows if "not_measured" not in r]
        with_goal = [r for r in measured if "goal" in r]
        print("\n%d figures, %d not measured; %d of %d goals met. Bodies of the bare program: %s." % (
            len(self.rows), len(self.rows) - len(measured), sum(r["met"] for r in with_goal), len(with_goal),
            ", ".join(sorted(set(self.bodies_from.values()))) or "not needed"))
        path = os.path.join(self.args.build, "bench.json")
        with open(path, "w", encoding="utf-8") as out:
            json.dump(dict(about, rows=self.rows), out, indent=1)
        with open(os.path.join(self.args.build, "bench.md"), "w", encoding="utf-8") as out:
            out.write("%s\n\n%s" % (", ".join("%s: %s" % item for item in about.items()), markdown(self.rows)))
        print("Written to %s" % path)

    def version(self):
        """What `lash version` says first, and the commit."""
        try:
            told = self.output([self.lash(), "version"]).splitlines()[0]
        except NotMeasured as why:
            told = str(why)
        git = subprocess.run(["git", "-C", os.path.dirname(__file__), "describe", "--always", "--dirty"],
                             capture_output=True, text=True, check=False).stdout.strip()
        return told + (" (%s)" % git if git else "")


def machine():
    found = {}
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        found["processor"] = (re.findall(r"model name\s*:\s*(.+)", file.read()) or [platform.machine()])[0]
    with open("/proc/meminfo", encoding="ascii") as file:
        found["memory_mb"] = int(re.search(r"MemTotal:\s*(\d+)", file.read()).group(1)) // 1024
    return dict(found, processors=len(os.sched_getaffinity(0)), kernel=os.uname().release, load=os.getloadavg()[0])


def main():
    parser = argparse.ArgumentParser(description="what lash costs; see the head of this file")
    parser.add_argument("--build", default="build")
    parser.add_argument("--lash")
    parser.add_argument("--only", help="only rows with this text in their id or name")
    parser.add_argument("--seconds", type=float, default=900, help="no row is begun after this time")
    args = parser.parse_args()
    args.lash = args.lash or os.path.join(args.build, "lash")
    try:
        Bench(args).run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
