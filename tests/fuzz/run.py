#!/usr/bin/env python3
"""Random streams of models through the parser of event streams and the readers of all providers.

  tests/fuzz/run.py --build BUILD --unit FILE [--seconds N] [--jobs N] [-v]

First all the tries of which the unit test (FILE) makes a part between the other tests: 10 000 random changes
of streams, other ones each time. Then libFuzzer (stream.c) for so many seconds, on all but one of the
processors. It begins with the streams of tests/fixtures and of seeds.lua, and with what earlier runs found worth
keeping in BUILD/fuzz-corpus. An input that fails is kept in BUILD/fuzz-crashes, and its path is said.
Ends in a line `N passed, N failed`.
"""
import argparse
import os
import re
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.dirname(HERE)
INPUT_SECONDS, INPUT_BYTES, MEMORY_MIB = 20, 64 << 10, 2048
RUNS, UNIT_SECONDS = 10000, 600


def environment():
    env = {k: v for k, v in os.environ.items() if not k.startswith("LASH_") or k == "LASH_LUA"}
    env.update(LASH_TESTS=TESTS, LC_ALL="C.UTF-8", UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1",
               # the Lua state lives as long as the fuzzer, and what its collector keeps is no leak
               ASAN_OPTIONS="detect_leaks=0:allocator_may_return_null=1")
    return env


def run_units(args, env):
    """Every case of the unit test, one after the other; returns how many passed, how many failed."""
    names = subprocess.run([args.unit, "--list"], env=env, check=True, capture_output=True, text=True).stdout.splitlines()
    env = dict(env, LASH_FUZZ_RUNS=str(RUNS), LASH_FUZZ_SEED=str(int(time.time())), LASH_FUZZ_SHOW="1")
    passed = failed = 0
    for n, name in enumerate(names):
        if " streams_" not in name:
            continue
        began = time.monotonic()
        done = subprocess.run([args.unit, str(n)], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              errors="replace", timeout=UNIT_SECONDS)
        if done.returncode == 0:
            passed += 1
            print("ok    %s (%.1f s)" % (done.stdout.splitlines()[0], time.monotonic() - began), flush=True)
        else:
            failed += 1
            print(done.stdout + done.stderr)
            print("FAIL  %s: LASH_FUZZ_SEED=%s LASH_FUZZ_RUNS=%d" % (name, env["LASH_FUZZ_SEED"], RUNS), flush=True)
    return passed, failed


def start(args, env, n, seeds, log):
    corpus, crashes = (os.path.join(args.build, name) for name in ("fuzz-corpus", "fuzz-crashes"))
    os.makedirs(corpus, exist_ok=True)
    os.makedirs(crashes, exist_ok=True)
    command = [os.path.join(args.build, "fuzz"), corpus, seeds, "-max_total_time=%d" % args.seconds,
               "-timeout=%d" % INPUT_SECONDS, "-max_len=%d" % INPUT_BYTES, "-rss_limit_mb=%d" % MEMORY_MIB,
               "-dict=" + os.path.join(HERE, "stream.dict"), "-artifact_prefix=" + crashes + os.sep,
               "-print_final_stats=1", "-reload=1", "-use_value_profile=0"]
    return subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)


def report(args, n, status, text):
    """Says how a job went; returns whether it was well."""
    done = re.search(r"stat::number_of_executed_units:\s*(\d+)", text)
    covered = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", text)
    if args.verbose or status != 0:
        print("\n".join(text.splitlines()[-60:]))
    if status != 0:
        path = re.search(r"Test unit written to (\S+)", text)
        print("FAIL  fuzz %d: status %d" % (n, status))
        if path:
            print("      run it again: LASH_TESTS=%s %s %s" % (TESTS, os.path.join(args.build, "fuzz"), path.group(1)))
        return False
    print("ok    fuzz %d: %s inputs, %s features" % (n, done.group(1) if done else "?",
                                                     covered[-1][1] if covered else "?"))
    # a run that looked at nothing is no run
    return done is not None and int(done.group(1)) > 100


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--build", required=True)
    parser.add_argument("--unit", required=True)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 2) - 1))
    parser.add_argument("-v", "--verbose", action="store_true")
    args = parser.parse_args()
    args.build = os.path.abspath(args.build)
    env = environment()
    passed, failed = run_units(args, env)
    with tempfile.TemporaryDirectory(prefix="lash-fuzz-") as tmp:
        seeds = os.path.join(tmp, "seeds")
        os.mkdir(seeds)
        subprocess.run([os.path.join(args.build, "fuzz")], env=dict(env, LASH_FUZZ_SEEDS=seeds), check=True, timeout=60)
        logs = [open(os.path.join(tmp, "log-%d" % n), "w+b") for n in range(args.jobs)]
        jobs = [start(args, env, n, seeds, log) for n, log in enumerate(logs)]
        try:
            for n, job in enumerate(jobs):
                status = job.wait(args.seconds + 120)
                logs[n].seek(0)
                well = report(args, n, status, logs[n].read().decode("utf-8", "replace"))
                passed, failed = passed + well, failed + (not well)
        finally:
            for job, log in zip(jobs, logs):
                if job.poll() is None:
                    job.kill()
                    job.wait()
                log.close()
    print("%d passed, %d failed" % (passed, failed))
    sys.exit(failed > 0 or passed == 0)


if __name__ == "__main__":
    main()
