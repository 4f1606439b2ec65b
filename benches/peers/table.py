"""The table of one comparison: medians of what sipload printed, Farend's, Kamailio's, and their ratio."""

import re
import statistics
import sys

UNITS = {
    "reg-tls": "REGISTER, mutual TLS to UDP",
    "reg-udp": "REGISTER, UDP to UDP",
    "signal-tls": "call, mutual TLS to UDP, signalling alone",
    "signal-in": "call from inside to a phone, signalling alone",
    "conn12": "new connection, TLS 1.2, and REGISTER",
    "conn13": "new connection, TLS 1.3, and REGISTER",
    "rate-reg": "REGISTER at 500/s, mutual TLS to UDP",
    "rate-signal": "call at 150/s, mutual TLS to UDP, signalling alone",
    "rate-call": "call at 150/s, Farend anchors the audio",
    "rate-in": "call from inside at 150/s, Farend anchors the audio",
    "mem": "bytes per idle registered phone",
}
RESULT = re.compile(r"RESULT \S+ (\w+)/(\S+) ok=(\d+) fail=(\d+) .*per_s=(\d+) .*cpu_per_1000=([\d.]+)s")
MEMORY = re.compile(r"MEM (\w+)/(\S+) .*bytes_per_phone=(-?\d+)")
P99 = re.compile(r"^  latency .*p99=(\d+)us")


def read(path):
    """(server, test) -> values; and the 99th percentiles and failures beside them."""
    values, late, failed, last = {}, {}, {}, None
    for line in open(path, encoding="utf-8"):
        if found := RESULT.search(line):
            last = found[1], found[2]
            failed[last] = failed.get(last, 0) + int(found[4])
            if int(found[3]):
                values.setdefault(last, []).append(float(found[6]))
        elif found := MEMORY.search(line):
            values.setdefault((found[1], found[2]), []).append(float(found[3]))
        elif last and (found := P99.search(line)):
            late.setdefault(last, []).append(int(found[1]))
    return values, late, failed


def main():
    values, late, failed = read(sys.argv[1])
    print(f"{'CPU-seconds per 1,000, medians':56}{'farend':>10}{'kamailio':>10}{'ratio':>7}{'p99 us':>16}  runs")
    for test, name in UNITS.items():
        pair = [values.get((server, test), []) for server in ("farend", "kamailio")]
        if not any(pair):
            continue
        ours, theirs = [statistics.median(one) if one else None for one in pair]
        show = "{:.0f}" if test == "mem" else "{:.4f}"
        cells = [show.format(one) if one is not None else "-" for one in (ours, theirs)]
        ratio = f"{ours / theirs:.2f}" if ours is not None and theirs else "-"
        ends = [late.get((server, test)) for server in ("farend", "kamailio")]
        slow = " / ".join(f"{statistics.median(one):.0f}" if one else "-" for one in ends)
        wrong = sum(failed.get((server, test), 0) for server in ("farend", "kamailio"))
        note = f"  {wrong} FAILED" if wrong else ""
        runs = "/".join(str(len(one)) for one in pair)
        print(f"{name:56}{cells[0]:>10}{cells[1]:>10}{ratio:>7}{slow:>16}  {runs}{note}")


main()
