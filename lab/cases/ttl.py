"""TTL and hop limit of relayed media, by capture on both sides of the routers.

A phone sends the value wanted at the gateway plus the routers between them; the capture on the gateway's outside interface shows
what arrived and what left, the capture in the other home shows the same minus the routers.
"""

import re
import signal
import subprocess
import time

from cases import case, check, same
from gateway import Gateway
from net import GW_DEFAULT_TTL, GW_OUT4, GW_OUT6, HOPS, KAMAILIO
from proc import Proc, until
from sip import Phone

VALUES = (128, 70, 41, 1)
PACKETS = 20  # per value


class Capture:
    """tshark on one interface; `packets()` are (source, destination, ttl, ssrc, sequence) of the RTP seen."""

    def __init__(self, lab, short, interface):
        self.lab, self.path = lab, f"{lab.folder}/{short}-{time.monotonic_ns()}.pcap"
        self.proc = Proc(lab.net, short, f"tshark-{short}", lab.folder, ["tshark", "-q", "-n", "-i", interface, "-f", "udp", "-w", self.path])
        lab.opened.append(self)
        until("tshark captures", lambda: "Capturing on" in self.proc.text(), 10)
        time.sleep(0.4)

    def packets(self):
        time.sleep(0.7)  # dumpcap hands its packets on in bundles
        self.close()
        fields = ["ip.src", "ip.dst", "ip.ttl", "ipv6.src", "ipv6.dst", "ipv6.hlim", "udp.payload"]
        argv = ["tshark", "-n", "-r", self.path, "-Y", "udp.length >= 180 && !icmp && !icmpv6", "-T", "fields", *(a for f in fields for a in ("-e", f))]
        out = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout
        for line in out.splitlines():
            src4, dst4, ttl, src6, dst6, hlim, payload = line.split("\t")
            data = bytes.fromhex(payload.replace(":", ""))
            yield src4 or src6, dst4 or dst6, int(ttl or hlim), data[8:12], int.from_bytes(data[2:4], "big")

    def close(self):
        if self.proc:
            self.proc.stop(signal.SIGINT)
            self.proc = None


def one_call(lab, caller, callee):
    """A call in which the caller's packets reach the gateway with each of VALUES; returns its SSRC."""
    call, final = caller.call(f"sips:inst-{callee.mac}@{KAMAILIO}")
    same(final.status, 200, f"call to {callee.mac}")
    theirs = callee.calls[call.call_id] if call.call_id in callee.calls else list(callee.calls.values())[-1]
    until("the callee hears the caller", lambda: theirs.media.got, 3)
    for value in VALUES:
        call.media.set_ttl(value + HOPS)
        aim = call.media.sent + PACKETS
        until("packets sent", lambda aim=aim: call.media.sent >= aim, 3)
    # back to a usual value: packets with TTL 1 were not the end of the stream
    call.media.set_ttl(64 + HOPS)
    before = len(theirs.media.got)
    until("audio after the packets with TTL 1", lambda: len(theirs.media.got) > before + 3, 2)
    same(call.bye().status, 200, "BYE")
    return (0x5EED0000 + call.media.port).to_bytes(4, "big")


def judge(gw, ours, far, ssrc, mode):
    """Pair what came in with what left by SSRC and sequence number."""
    came = {seq: ttl for src, dst, ttl, s, seq in gw if s == ssrc and dst == ours}
    left = {}
    for src, dst, ttl, s, seq in gw:
        if s == ssrc and src == ours:
            check(seq not in left, f"packet {seq} left twice")
            left[seq] = ttl
    home = {seq: ttl for _, _, ttl, s, seq in far if s == ssrc}
    table = {}
    for seq, ttl in came.items():
        table.setdefault(ttl, set()).add(left.get(seq))
    for value in VALUES:
        check(value in table, f"no packet reached the gateway with {value}; there were {sorted(table)}")
        count = sum(1 for ttl in came.values() if ttl == value)
        check(count >= PACKETS // 2, f"only {count} packets with {value}")
        expected = mode if mode != "keep" else value - 1 or None
        got = table[value] - {None} if expected else table[value]
        same(got, {expected} if expected else {None}, f"mode {mode}: received {value}, left as")
        if expected:
            lost = sum(1 for seq, ttl in came.items() if ttl == value and seq not in left)
            check(lost <= 1, f"mode {mode}: {lost} of {count} packets with {value} did not leave")
    wrong = {seq: (ttl, left[seq]) for seq, ttl in home.items() if seq in left and ttl != left[seq] - HOPS}
    check(not wrong, f"at the far phone the value is not what left minus {HOPS}: {wrong}")
    check(GW_DEFAULT_TTL not in left.values(), f"packets left with the host's default {GW_DEFAULT_TTL}")
    return table


def dropped(gateway, since):
    """The count of packets dropped for their TTL, from the gateway's report after the calls."""
    text = gateway.proc.text(since)
    return [int(n) for n in re.findall(r'(?:hop_limit|hop_limit_expired|expired)"?\s*[=:]\s*"?(\d+)', text)]


def run(lab, mode):
    gateway = Gateway(lab, ttl=f'"{mode}"' if mode == "keep" else str(mode))
    done = []
    for family, ours in ((4, GW_OUT4), (6, GW_OUT6)):
        a = Phone(lab, f"ttl{family}a", "home1", 7, "08000FA00001", KAMAILIO, family).connect()
        b = Phone(lab, f"ttl{family}b", "home2", 8, "08000FA00002", KAMAILIO, family).connect()
        b.on_invite = "answer"
        for phone in (a, b):
            same(phone.register().status, 200, f"REGISTER over IPv{family}")
        start = gateway.proc.size()
        near, far = Capture(lab, "gw", "eth1"), Capture(lab, "home2", "eth0")
        ssrc = one_call(lab, a, b)
        table = judge(list(near.packets()), ours, list(far.packets()), ssrc, mode)
        text = ", ".join(f"{v}→{'dropped' if table[v] == {None} else max(table[v] - {None})}" for v in VALUES)
        if mode == "keep":
            counts = until("the gateway reports the packets it dropped for their TTL", lambda: [c for c in dropped(gateway, start) if c], 5)
            check(max(counts) >= PACKETS // 2, f"reported drops {counts}, sent {PACKETS} with TTL 1")
            text += f" (reported: {max(counts)})"
        done.append(f"IPv{family}: {text}")
        a.close(), b.close()
        lab.kamailio.restart()
    return "; ".join(done)


@case("ttl-64")
def ttl_64(lab):
    """ttl = 64: leaves as 64 whatever came"""
    return run(lab, 64)


@case("ttl-77")
def ttl_77(lab):
    """ttl = 77: leaves as 77 whatever came"""
    return run(lab, 77)


@case("ttl-keep")
def ttl_keep(lab):
    """ttl = "keep": leaves as received minus one; 1 is dropped and counted"""
    return run(lab, "keep")
