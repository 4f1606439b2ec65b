#!/usr/bin/env python3
"""The interoperability lab: real peers around the gateway, in network namespaces. See README.md."""

import argparse
import importlib
import multiprocessing
import os
import pkgutil
import signal
import sys
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import cases  # noqa: E402
from lab import Lab  # noqa: E402


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", nargs="*", metavar="CASE", help="a case or the first part of its name (tags runs tags and tags-off); all without")
    parser.add_argument("--farend", default=None, help="the gateway binary (default: target/release/farend, else target/debug/farend)")
    parser.add_argument("--shards", type=int, default=0, help="sip.shards of the gateway (default: 0, one for each core)")
    parser.add_argument("--lanes", type=int, default=1, help="how many cases run at once, each lane in networks of its own (default: 1)")
    parser.add_argument("--direct", action="store_true", help="self-check without a gateway: phones reach the inside through a plain router")
    parser.add_argument("--keep", action="store_true", help="keep the folder with logs and captures")
    parser.add_argument("--list", action="store_true", help="print the names of the cases")
    return parser.parse_args()


def binary(given):
    for path in [given] if given else (f"{HERE}/../target/{p}/farend" for p in ("release", "debug")):
        if os.access(path, os.X_OK):
            return os.path.abspath(path)
    sys.exit(f"no gateway binary{f' at {given}' if given else ''}: build it with `cargo build -p farend`, or use --direct")


def chosen(args):
    for module in pkgutil.iter_modules([f"{HERE}/cases"]):
        importlib.import_module(f"cases.{module.name}")
    every = [c for c in cases.CASES if c.direct == args.direct]
    names = [c.name for c in every]
    for wanted in args.case:
        if not any(n == wanted or n.startswith(f"{wanted}-") for n in names):
            sys.exit(f"no case {wanted!r}; there are: {', '.join(names)}")
    return [c for c in every if not args.case or any(c.name == w or c.name.startswith(f"{w}-") for w in args.case)]


def run_case(lab, case, keep):
    """True when it passed. Prints the case's line."""
    start = time.monotonic()
    try:
        lab.begin()
        figures, failed = case.run(lab), None
    except Exception as problem:
        figures, failed = f"{type(problem).__name__}: {problem}", problem
    left = lab.end()
    if left and not failed:
        figures = failed = cases.Failed("at the end " + "; ".join(left))
    print(f"{'FAIL' if failed else 'ok  '} {case.name:22} {time.monotonic() - start:6.1f} s  {figures}", flush=True)
    if failed and keep and not isinstance(failed, cases.Failed):
        traceback.print_exception(failed)
    return not failed


def main():
    args = arguments()
    todo = chosen(args)
    if args.list:
        print("\n".join(f"{c.name:22} {c.about}" for c in todo))
        return 0
    if os.geteuid() != 0:
        sys.exit("the lab makes network namespaces and needs root")
    farend = None if args.direct else binary(args.farend)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    multiprocessing.set_start_method("fork")
    taken, passed = multiprocessing.Value("i", 0), multiprocessing.Value("i", 0)
    lanes = [multiprocessing.Process(target=lane, args=(args, farend, todo, taken, passed)) for _ in range(min(args.lanes, len(todo)) - 1)]
    for one in lanes:
        one.start()
    try:
        lane(args, farend, todo, taken, passed)
    except BaseException:
        for one in lanes:
            one.terminate()  # it takes its networks down
        raise
    finally:
        for one in lanes:
            one.join()
    print(f"{passed.value} passed, {len(todo) - passed.value} failed")
    return 0 if passed.value == len(todo) else 1


def lane(args, farend, todo, taken, passed):
    """A laboratory of its own that takes one case after the other, as long as there are some."""
    lab = Lab(farend, args.direct, args.shards)
    try:
        lab.up()
        while True:
            with taken.get_lock():
                number = taken.value
                taken.value += 1
            if number >= len(todo):
                break
            if run_case(lab, todo[number], args.keep):
                with passed.get_lock():
                    passed.value += 1
    finally:
        lab.down(args.keep)


if __name__ == "__main__":
    sys.exit(main())
