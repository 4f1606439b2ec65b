"""What the parser pays for each octet of the inputs that `count_worst` read: the names it printed beside callgrind's parts.

    worst.py CALLGRIND_OUT NAMES BAR

Prints the worst, and exits with 1 when one is above BAR. An input shorter than the INVITE of `count_sip` counts as that
long: what a message costs whatever its length has bars of its own there.
"""

import re
import sys

SHORTEST = 1465
SHOWN = 6


def main():
    parts, names, bar = sys.argv[1], sys.argv[2], float(sys.argv[3])
    counts = [int(count) for count in re.findall(r"^summary: (\d+)", open(parts, encoding="utf-8").read(), re.M)]
    inputs = [line.rstrip("\n").split("\t", 1) for line in open(names, encoding="utf-8")]
    # Each was read twice, as datagram and as stream in turn; the last part is the end of the program.
    if len(counts) != 4 * len(inputs) + 1:
        sys.exit(f"{len(counts)} counts for {len(inputs)} inputs")
    figures = []
    for n, (octets, name) in enumerate(inputs):
        for reader, count in zip(("datagram", "stream"), counts[4 * n + 2 : 4 * n + 4]):
            figures.append((count / max(int(octets), SHORTEST), int(octets), reader, name))
    figures.sort(reverse=True)
    print(f"instructions an octet, at most {bar:g}; the worst of {len(inputs)} inputs:")
    for each, octets, reader, name in figures[:SHOWN]:
        print(f"{each:8.2f}  {octets:6} octets  {reader:8}  {name}")
    sys.exit(figures[0][0] > bar)


main()
