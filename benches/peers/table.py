"""The table of one comparison: medians of what sipload printed, Farend's, Kamailio's, their ratio, and the bar it must keep.

Exits with 1 when a bar is broken, a unit failed at Farend, or a call came to the wrong phone of it.
"""

import re
import statistics
import sys

# Test: what it measures, the ratio to Kamailio at most.
UNITS = {
    "reg-tls": ("REGISTER, mutual TLS to UDP", 0.5),
    "reg-udp": ("REGISTER, UDP to UDP", 0.6),
    "signal-tls": ("call, mutual TLS to UDP, signalling alone", 0.5),
    "signal-in": ("call from inside to a phone, signalling alone", 0.5),
    "conn12": ("new connection, TLS 1.2, and REGISTER", 0.36),
    "conn13": ("new connection, TLS 1.3, and REGISTER", 0.22),
    "rate-reg": ("REGISTER at 500/s, mutual TLS to UDP", 0.5),
    "rate-signal": ("call at 150/s, mutual TLS to UDP, signalling alone", 0.5),
    "rate-call": ("call at 150/s, Farend anchors the audio", None),
    "rate-in": ("call from inside at 150/s, Farend anchors the audio", None),
    "mem": ("bytes per idle registered phone", 0.25),
}
# Bytes per idle phone at most, whatever Kamailio's are; counted at 10,000 phones.
PHONE, PHONES = 16384, 10000
# At these rates ours must not be later than Kamailio's, at the 99th percentile.
EQUAL_RATES = ("rate-reg", "rate-signal")
RESULT = re.compile(r"RESULT \S+ (\w+)/(\S+) ok=(\d+) fail=(\d+) .*per_s=(\d+) .*cpu_per_1000=([\d.]+)s")
MEMORY = re.compile(r"MEM (\w+)/(\S+) phones=(\d+) .*bytes_per_phone=(-?\d+)")
REUSE = re.compile(r"REUSE (\w+) (RESULT|call to A after) (.*)")
P99 = re.compile(r"^  latency .*p99=(\d+)us")


class Results:
    """What one file of results says, by (server, test)."""

    def __init__(self, path):
        self.values, self.late, self.failed, self.reuse, self.phones = {}, {}, {}, {}, set()
        last = None
        for line in open(path, encoding="utf-8"):
            if found := RESULT.search(line):
                last = found[1], found[2]
                self.failed[last] = self.failed.get(last, 0) + int(found[4])
                if int(found[3]):
                    self.values.setdefault(last, []).append(float(found[6]))
            elif found := MEMORY.search(line):
                self.phones.add(int(found[3]))
                self.values.setdefault((found[1], found[2]), []).append(float(found[4]))
            elif found := REUSE.search(line):
                self.reuse.setdefault(found[1], []).append(found[3].removeprefix("reuse: "))
            elif last and (found := P99.search(line)):
                self.late.setdefault(last, []).append(int(found[1]))

    def pair(self, table, test):
        """Farend's median and Kamailio's."""
        lists = [table.get((server, test)) for server in ("farend", "kamailio")]
        return [statistics.median(one) if one else None for one in lists]


def row(results, test):
    """The row of one test, and whether it keeps its bars."""
    name, bar = UNITS[test]
    ours, theirs = results.pair(results.values, test)
    show = "{:.0f}" if test == "mem" else "{:.4f}"
    cells = [show.format(one) if one is not None else "-" for one in (ours, theirs)]
    ratio = ours / theirs if ours is not None and theirs else None
    good = ratio is None or bar is None or ratio <= bar
    if test == "mem" and ours is not None and results.phones == {PHONES}:
        good = good and ours <= PHONE
    late = results.pair(results.late, test)
    if test in EQUAL_RATES and None not in late:
        good = good and late[0] <= late[1]
    wrong = [results.failed.get((server, test), 0) for server in ("farend", "kamailio")]
    good = good and not wrong[0]
    slow = " / ".join(f"{one:.0f}" if one is not None else "-" for one in late)
    runs = "/".join(str(len(results.values.get((server, test), []))) for server in ("farend", "kamailio"))
    note = f"  {sum(wrong)} FAILED" if sum(wrong) else ""
    verdict = "" if ratio is None or bar is None else "ok" if good else "OVER"
    print(
        f"{name:56}{cells[0]:>10}{cells[1]:>10}{'-' if ratio is None else f'{ratio:.2f}':>7}"
        f"{'-' if bar is None else f'{bar:.2f}':>6} {verdict:5}{slow:>15}  {runs}{note}"
    )
    return good


def main():
    results = Results(sys.argv[1])
    print(f"{'CPU-seconds per 1,000, medians':56}{'farend':>10}{'kamailio':>10}{'ratio':>7}{'bar':>6} {'':5}{'p99 us':>15}  runs")
    tests = [test for test in UNITS if any((server, test) in results.values for server in ("farend", "kamailio"))]
    good = [row(results, test) for test in tests]
    for server, said in sorted(results.reuse.items()):
        print(f"B has taken A's address and port, the inside calls A: {server}: {'; '.join(dict.fromkeys(said))}")
        good.append(server != "farend" or not any("WRONG" in one for one in said))
    sys.exit(not all(good))


main()
