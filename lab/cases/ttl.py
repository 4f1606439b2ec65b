"""TTL and hop limit of relayed media, by capture on both sides of the routers.

A phone sends the value wanted at the gateway plus the routers between them; the capture on the gateway's outside interface shows
what arrived and what left, the capture in the other home shows the same minus the routers.
"""

import signal
import socket

from cases import case, check, same
from gateway import Gateway
from net import CALLER, GW_DEFAULT_TTL, GW_OUT4, GW_OUT6, HOPS, KAMAILIO
from proc import Proc, until
from sip import Caller, Phone

VALUES = (128, 70, 41, 1)
PACKETS = 20  # per value
FIELDS = ("ip.src", "ip.dst", "ip.ttl", "ipv6.src", "ipv6.dst", "ipv6.hlim", "udp.payload")


class Capture:
    """tshark on one interface; `packets` are (source, destination, ttl, ssrc, sequence) of the RTP seen."""

    _count = 0

    def __init__(self, lab, short, interface, *ways):
        """`ways`: (own address, neighbour's address) for each family, between which marks are sent."""
        Capture._count += 1
        self.lab, self.short, self.ways, self._marks = lab, short, ways, 0
        command = ["tshark", "-q", "-n", "-l", "-i", interface, "-f", "udp", "-T", "fields", *(a for f in FIELDS for a in ("-e", f))]
        self.proc = Proc(lab.net, short, f"tshark-{Capture._count}", lab.folder, command)
        lab.opened.append(self)

    def ready(self):
        """Everything from here on is in the capture."""
        until("the capture shows a mark", self._mark, 15, 0.1)
        return self

    def _mark(self):
        """Send packets over the interface; were they, or some before them, captured?"""
        self._marks += 1
        for address, towards in self.ways:
            with self.lab.net.socket(self.short, address, socket.SOCK_DGRAM) as s:
                s.sendto(b"mark%d." % self._marks, (towards, 9))
        return self._seen(b"mark")

    def _seen(self, mark):
        return len({src for src, *_, payload in self._lines() if payload.startswith(mark)}) == len(self.ways)

    def _lines(self):
        for line in self.proc.text().splitlines():
            cells = line.split("\t")
            if len(cells) == len(FIELDS) and cells[-1]:
                src4, dst4, ttl, src6, dst6, limit, payload = cells
                yield src4 or src6, dst4 or dst6, int(ttl or limit), bytes.fromhex(payload.replace(":", ""))

    def finish(self):
        """Everything sent until now is in the capture."""
        self._mark()
        until("the capture shows the last mark", lambda: self._seen(b"mark%d." % self._marks), 10, 0.1)
        self.close()
        every = list(self._lines())
        self.packets = [(src, dst, ttl, p[8:12], int.from_bytes(p[2:4], "big")) for src, dst, ttl, p in every if len(p) >= 172]
        self.marked = {ttl for _, _, ttl, p in every if p.startswith(b"mark")}
        return self

    def close(self):
        if self.proc.running():
            self.proc.stop(signal.SIGINT)


def both_ends(lab):
    """Captures on the gateway's outside interface and in the second home, running."""
    captures = Capture(lab, "gw", "eth1", (GW_OUT4, "203.0.113.1"), (GW_OUT6, "2001:db8:ff::1")), Capture(lab, "home2", "eth0", ("192.168.1.12", "192.168.1.1"))
    return [c.ready() for c in captures]


def send_values(media, values=VALUES, hops=HOPS):
    """PACKETS packets that reach the gateway with each of the values, then a usual one again."""
    for value in values:
        media.set_ttl(value + hops)
        aim = media.sent + PACKETS
        until("packets sent", lambda aim=aim: media.sent >= aim, 5)
    media.set_ttl(64 + hops)


def one_call(caller, callee):
    """A call in which the caller's packets reach the gateway with each of VALUES; returns its SSRC."""
    call, final = caller.call(f"sips:inst-{callee.mac}@{KAMAILIO}")
    same(final.status, 200, f"call to {callee.mac}")
    theirs = callee.calls[call.call_id]
    until("the callee hears the caller", lambda: theirs.media.got)
    send_values(call.media)
    # packets with TTL 1 were not the end of the stream
    before = len(theirs.media.got)
    until("audio after the packets with TTL 1", lambda: len(theirs.media.got) > before + 3)
    same(call.bye().status, 200, "BYE")
    return call.media.ssrc.to_bytes(4, "big")


def judge(gw, ours, far, ssrc, mode):
    """Pair what came in with what left by SSRC and sequence number: {received: [count, {left as}]}."""
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
    check(len(home) > PACKETS, f"only {len(home)} packets in the far home")
    wrong = {seq: (ttl, left[seq]) for seq, ttl in home.items() if seq in left and ttl != left[seq] - HOPS}
    check(not wrong, f"at the far phone the value is not what left minus {HOPS}: {wrong}")
    check(GW_DEFAULT_TTL not in left.values(), f"packets left with the host's default {GW_DEFAULT_TTL}")
    return table, sum(1 for ttl in came.values() if ttl == 1)


def dropped(gateway, since):
    """The packets that the relay says it dropped for their TTL, summed over the streams that ended."""
    ended = gateway.events("stream ended", since)
    return sum(leg["ttl_expired"] for leg in ended) if len(ended) >= 4 else None


def inside(lab, phone, mode):
    """The same between a phone and the inside, both ways, as the receiving sockets see it; returns what was seen."""
    caller = Caller(lab, CALLER, KAMAILIO)
    call, final = caller.call(phone.mac)
    same(final.status, 200, f"call from the inside to {phone.mac}")
    theirs = phone.calls[call.call_id]
    until("audio at both ends", lambda: call.media.got and theirs.media.got)
    seen = []
    for sender, receiver, before, after in ((theirs.media, call.media, HOPS, 0), (call.media, theirs.media, 0, HOPS)):
        # what reaches the far phone has lost HOPS more
        values = [v for v in VALUES if v > 1]
        wanted = {mode - after} if mode != "keep" else {v - 1 - after for v in values}
        start = len(receiver.got)
        send_values(sender, values, before)
        got = {ttl for ttl, *_ in receiver.got[start + 3:]}
        usual = {64 - 1 - after} if mode == "keep" else set()
        check(wanted <= got <= wanted | usual, f"mode {mode}, {sender.address} to {receiver.address}: arrived as {sorted(got)}, expected {sorted(wanted)}")
        seen.append(got)
    same(call.bye().status, 200, "BYE of the call from the inside")
    return seen


def run(lab, mode):
    gateway = Gateway(lab, ttl=f'"{mode}"' if mode == "keep" else str(mode))
    near, far = both_ends(lab)
    done, calls = [], []
    for family, ours, macs in ((4, GW_OUT4, ("08000FA00001", "08000FA00002")), (6, GW_OUT6, ("08000FA00003", "08000FA00004"))):
        a = Phone(lab, f"ttl{family}a", "home1", 7, macs[0], KAMAILIO, family).connect()
        b = Phone(lab, f"ttl{family}b", "home2", 8, macs[1], KAMAILIO, family).connect()
        a.on_invite = b.on_invite = "answer"
        for phone in (a, b):
            same(phone.register().status, 200, f"REGISTER over IPv{family}")
        start = gateway.proc.size()
        ssrc = one_call(a, b)
        until("the relay reports the streams that ended", lambda start=start: dropped(gateway, start) is not None)
        calls.append((family, ours, ssrc, dropped(gateway, start)))
        if family == 4:
            inside(lab, a, mode)
    near.finish(), far.finish()
    same(near.marked, {GW_DEFAULT_TTL}, "TTL and hop limit of packets for which nobody set one, in the gateway's namespace")
    for family, ours, ssrc, counted in calls:
        table, ones = judge(near.packets, ours, far.packets, ssrc, mode)
        same(counted, ones if mode == "keep" else 0, f"IPv{family}: packets dropped for their TTL by the relay's own count, and captured with TTL 1")
        text = ", ".join(f"{v}→{'dropped' if table[v] == {None} else max(table[v] - {None})}" for v in VALUES)
        done.append(f"IPv{family}: {text}{f' ({ones} captured, {counted} counted)' if mode == 'keep' else ''}")
    return "; ".join(done) + "; to and from the inside alike"


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
