"""The table of one comparison of relays: medians of what rtpload printed, ratios to rtpengine, and the bars.

relay_table.py RESULTS        prints the table; exits with 1 when a bar is broken
relay_table.py --passes STEP  exits with 0 when one run kept its delay below 20 ms and lost next to nothing
"""

import re
import statistics
import sys

# Test: what it measures, the ratio to rtpengine at most.
TESTS = {
    "paced100": ("100 calls", 0.7),
    "paced500": ("500 calls", 0.5),
    "paced1000": ("1,000 calls", 0.55),
    "flood100": ("flat out, 100 calls", 0.65),
    "flood1000": ("flat out, 1,000 calls", 0.65),
}
OURS = ("reset", "keep", "epoll")
KEEP, PSS, DELAY, MOST, TOO_LATE = 1.25, 8192, 2000, 2.0, 20_000
RESULT = re.compile(r"RESULT rtp (\w+)/(\w+) calls=(\d+) offered_pps=(\d+) forwarded_pps=(\d+) lost=(\d+) .*cpu_per_Mpkt=([\d.]+)s core_use=(\d+)%")
LATENCY = re.compile(r"^\s+latency .*p50=(\d+).*p99=(\d+)")
DROPPED = re.compile(r"^\s+dropped=(\d+)")
MEMORY = re.compile(r"(MEM|MOST) (\w+) calls=(\d+)(?: bytes_per_call=(-?\d+))?")


def read(path):
    """(server, test) to {measure: values}."""
    table, last = {}, None
    for line in open(path, encoding="utf-8"):
        if found := RESULT.search(line):
            last = table.setdefault((found[1], found[2]), {})
            for name, value in zip(("offered", "pps", "lost", "cpu", "core"), found.groups()[3:]):
                last.setdefault(name, []).append(float(value))
        elif last is not None and (found := LATENCY.search(line)):
            last.setdefault("p50", []).append(int(found[1]))
            last.setdefault("p99", []).append(int(found[2]))
        elif last is not None and (found := DROPPED.search(line)):
            last.setdefault("dropped", []).append(int(found[1]))
        elif found := MEMORY.search(line):
            cell = table.setdefault((found[2], found[1]), {})
            cell.setdefault("value", []).append(float(found[4] or found[3]))
    return table


def passes(path):
    """Whether one run was in time and whole."""
    cell = next(iter(read(path).values()))
    return cell["p99"][-1] < TOO_LATE and cell["lost"][-1] <= cell["offered"][-1] / 1000


def main():
    if sys.argv[1] == "--passes":
        sys.exit(not passes(sys.argv[2]))
    table, good = read(sys.argv[1]), []

    def median(server, test, name="value"):
        values = table.get((server, test), {}).get(name)
        return statistics.median(values) if values else None

    def verdict(value, bar, over=False):
        if value is None:
            return ""
        good.append(value >= bar if over else value <= bar)
        return "ok" if good[-1] else "OVER"

    several = sorted({server for server, _ in table if server.startswith("workers")})
    print(f"{'CPU-s per million packets, medians':38}{'cpu':>8}{'ratio':>7}{'bar':>6}      {'pps':>8}{'core':>6}{'lost':>7}{'dropped':>8}{'p50 us':>8}{'p99 us':>8}  runs")
    for test, (name, bar) in TESTS.items():
        theirs = median("rtpengine", test, "cpu")
        for server in ("rtpengine", *OURS, *several):
            cpu = median(server, test, "cpu")
            if cpu is None:
                continue
            ratio = cpu / theirs if theirs and server != "rtpengine" else None
            judged = verdict(ratio, bar) if server == "reset" else ""
            cells = [median(server, test, one) for one in ("pps", "core", "lost", "dropped", "p50", "p99")]
            runs = len(table[server, test]["cpu"])
            print(
                f"{name + ', ' + server:38}{cpu:8.2f}{'-' if ratio is None else f'{ratio:.2f}':>7}{bar:6.2f} {judged:5}"
                f"{cells[0]:8.0f}{cells[1]:5.0f}%{cells[2]:7.0f}{cells[3] or 0:8.0f}{cells[4] or 0:8.0f}{cells[5] or 0:8.0f}  {runs}"
            )
        reset, keep = median("reset", test, "cpu"), median("keep", test, "cpu")
        if reset and keep:
            print(f"{name + ', keep to reset':38}{'':8}{keep / reset:7.2f}{KEEP:6.2f} {verdict(keep / reset, KEEP)}")
        late = [median(server, test, "p99") for server in ("reset", "rtpengine")]
        if test == "paced500" and late[0] is not None:
            bar = min(DELAY, late[1] or DELAY)
            print(f"{name + ', p99 of delay, us':38}{late[0]:8.0f}{'':7}{bar:6.0f} {verdict(late[0], bar)}")
        lost = [median(server, test, "dropped") for server in ("reset", "rtpengine")]
        if test == "paced1000" and lost[0] is not None and not lost[1]:
            print(f"{name + ', dropped':38}{lost[0]:8.0f}{'':7}{0:6} {verdict(lost[0], 0)}")
    for server in ("rtpengine", *OURS):
        if (one := median(server, "MEM")) is not None:
            print(f"{'bytes of PSS per call, ' + server:38}{one:8.0f}{'':7}{PSS:6} {verdict(one, PSS) if server != 'rtpengine' else ''}")
    for server in ("rtpengine", *OURS):
        if (one := median(server, "MOST")) is not None:
            # The smallest step counts for who failed at it.
            ratio = one / (median("rtpengine", "MOST") or 600)
            print(f"{'calls before p99 > 20 ms, ' + server:38}{one:8.0f}{ratio:7.2f}{MOST:6.2f} {verdict(ratio, MOST, True) if server == 'reset' else ''}")
    sys.exit(not all(good))


main()
