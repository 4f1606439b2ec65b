"""What the parser pays for the inputs that `count_worst` read: the names it printed beside callgrind's parts.

    worst.py CALLGRIND_OUT NAMES BAR FIXED

Prints the worst, and exits with 1 when one is above a bar. Two figures are kept apart: instructions an octet of inputs of
4 KiB and more, at most BAR; and of shorter ones what remains when BAR is taken off for each octet, at most FIXED: what a
message costs whatever its length.
"""

import re
import sys

LONG = 4096
SHOWN = 6


def main():
    parts, names, bar, most = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
    counts = [int(count) for count in re.findall(r"^summary: (\d+)", open(parts, encoding="utf-8").read(), re.M)]
    inputs = [line.rstrip("\n").split("\t", 1) for line in open(names, encoding="utf-8")]
    # Each was read twice, as datagram and as stream in turn; the last part is the end of the program.
    if len(counts) != 4 * len(inputs) + 1:
        sys.exit(f"{len(counts)} counts for {len(inputs)} inputs")
    long, short = [], []
    for n, (octets, name) in enumerate(inputs):
        octets = int(octets)
        for reader, count in zip(("datagram", "stream"), counts[4 * n + 2 : 4 * n + 4]):
            if octets >= LONG:
                long.append((count / octets, octets, reader, name))
            else:
                short.append((count - bar * octets, octets, reader, name))
    long.sort(reverse=True)
    short.sort(reverse=True)
    print(f"instructions an octet, at most {bar:g}; the worst of {len(long) // 2} inputs of {LONG} octets and more:")
    for each, octets, reader, name in long[:SHOWN]:
        print(f"{each:8.2f}  {octets:6} octets  {reader:8}  {name}")
    print(f"instructions beyond {bar:g} an octet, at most {most}; the worst of {len(short) // 2} shorter ones:")
    for rest, octets, reader, name in short[:SHOWN]:
        print(f"{rest:8.0f}  {octets:6} octets  {reader:8}  {name}")
    sys.exit(long[0][0] > bar or short[0][0] > most)


main()
