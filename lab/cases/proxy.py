"""`media.proxy` (MED-12): the far end of a call becomes another in the middle of it; a softphone listens, tshark says what it is sent."""

import socket
import struct
import threading
import time

from baresip import Baresip
from cases import case, check, same
from gateway import Gateway
from net import CALLER, GW_IN4, GW_OUT4, KAMAILIO, NAT4
from proc import Proc, until
from rtp import RATE, goertzel
from sip import Caller
from tap import Tap

FIRST, SECOND = 880, 660
BEGIN = 40_000  # the second one's sequence
REPORT = 6  # seconds


class Reports:
    """RTCP beside one media stream of the inside: what its author says, and what it is told."""

    def __init__(self, lab, media):
        self.media, self.ssrc = media, media.ssrc
        self.sock = lab.net.socket("inside", media.address, socket.SOCK_DGRAM, media.port + 1)
        self.sock.setblocking(False)
        lab.opened.append(self.sock)

    def came(self):
        """Whether somebody has reported here: from then on the gateway knows where reports go (behind NAT)."""
        try:
            return bool(self.sock.recv(2048))
        except BlockingIOError:
            return False

    def send(self, bye=False):
        """A sender report with a name; with `bye` a farewell too."""
        n = self.media.begin + self.media.sent - 1
        report = struct.pack("!BBHIIIIII", 0x80, 200, 6, self.ssrc, 0x11110000, n, n * 160 & 0xFFFFFFFF, self.media.sent, self.media.sent * 160)
        name = struct.pack("!BBHIBB6s", 0x81, 202, 3, self.ssrc, 1, 3, b"own\0\0\0")
        end = struct.pack("!BBHI", 0x81, 203, 1, self.ssrc)
        self.sock.sendto(report + name + (end if bye else b""), (self.media.remote[0], self.media.remote[1] + 1))


class Capture:
    """Both sides of the gateway, for tshark."""

    def __init__(self, lab, name):
        self.lab, self.path = lab, f"{lab.folder}/{name}.pcapng"
        self.proc = Proc(lab.net, "gw", f"dumpcap-{name}", lab.folder, ["dumpcap", "-q", "-i", "eth1", "-i", "eth0", "-f", "udp", "-w", self.path])
        lab.opened.append(self)
        self.proc.wait_for("File:", 8)

    def close(self):
        self.proc.stop(2)

    def tshark(self, *argv, **ports):
        known = [part for kind, all_of_it in ports.items() for port in all_of_it for part in ("-d", f"udp.port=={port},{kind}")]
        return self.lab.net.run("gw", "tshark", "-n", "-r", self.path, *known, *argv).stdout.splitlines()

    def rows(self, kind, ports, where, *fields):
        """Fields of the packets that `where` chooses, a list a packet; of a compound, all that are in it, with commas."""
        asked = [part for field in fields for part in ("-e", f"{kind}.{field}" if field != "frame.time_epoch" else field)]
        return [line.split("\t") for line in self.tshark("-Y", f"{kind} && !icmp && {where}", "-T", "fields", *asked, **{kind: ports})]

    def streams(self, port, to):
        """tshark's RTP streams from a port of the gateway to this address: (SSRC, packets, lost)."""
        rows = [line.split() for line in self.tshark("-q", "-z", "rtp,streams", rtp=[port]) if "0x" in line]
        found = []
        for r in (r for r in rows if (r[2], r[3], r[4]) == (GW_OUT4, str(port), to)):
            at = next(n for n, cell in enumerate(r) if cell.startswith("("))  # 40 (10.1%)
            found.append((int(next(cell for cell in r if cell.startswith("0x")), 16), int(r[at - 2]), int(r[at - 1])))
        return found


def numbers(rows, column):
    """All numbers of a column of tshark's, in order."""
    return [int(text, 0) for row in rows for text in row[column].split(",") if text]


def others(rows):
    """Whom reports are about: in the first column; in the third stands who reports, which names of sources name again."""
    authors = set(numbers(rows, 2))
    return [ssrc for ssrc in numbers(rows, 0) if ssrc not in authors]


def steps(rows):
    """Distances in sequence of the packets of one SSRC, and how far timestamps were from the clock at most, in ms."""
    apart, drift = set(), 0.0
    for (at, _, n, stamp), (then, _, m, later) in zip(rows, rows[1:]):
        apart.add((int(m) - int(n)) % 65536)
        drift = max(drift, abs((int(later) - int(stamp)) % 2**32 / 8 - (float(then) - float(at)) * 1000))
    return apart, drift


def transferred(lab, caller, phone):
    """One call whose inside end becomes another after two seconds: another port, SSRC, sequence and clock. Returns both."""
    caller.tone, phone.events[:] = FIRST, []

    def pick_up():
        phone.wait("CALL_INCOMING")
        phone.command("accept")
    threading.Thread(target=pick_up, daemon=True).start()
    call, final = caller.call(phone.mac)
    same(final.status, 200, "INVITE")
    first = call.media
    reports = Reports(lab, first)
    until("the softphone is heard, and reports", lambda: reports.came() and len(first.got) > 50, 10)
    reports.send()
    time.sleep(1)
    reports.send(bye=True)
    first.quiet = True
    caller.tone = SECOND
    second = call.media = caller.open_media()
    second.begin = BEGIN
    answer = call.request("INVITE", second.sdp())
    same(answer.status, 200, "re-INVITE")
    call.request("ACK")
    second.aim(answer.body)
    reports = Reports(lab, second)
    until("the softphone is heard by the other", lambda: len(second.got) > 50, 10)
    reports.send()
    # A softphone reports every five seconds.
    time.sleep(REPORT)
    same(call.bye().status, 200, "BYE")
    first.close()
    time.sleep(0.3)
    return first, second


def judge(capture, mode, port, first, second):
    """What went to the softphone and what came of it inside."""
    continued = mode == "use"
    outer, inner = f"ip.src=={GW_OUT4} && ip.dst=={NAT4['home1']}", f"ip.src=={GW_IN4} && udp.dstport=={second.port + 1}"
    ssrcs = [first.ssrc] if continued else [first.ssrc, second.ssrc]
    streams = capture.streams(port, NAT4["home1"])
    same(sorted(ssrc for ssrc, _, _ in streams), ssrcs, f"{mode}: SSRCs that tshark sees go to the softphone")
    same([lost for _, _, lost in streams], [0 for _ in ssrcs], f"{mode}: lost by tshark")
    packets = sum(count for _, count, _ in streams)
    check(packets > 300, f"{mode}: {packets} packets")
    rows = capture.rows("rtp", [port], outer, "frame.time_epoch", "ssrc", "seq", "timestamp")
    apart, drift = steps(rows)
    check(not continued or (apart == {1} and drift < 150), f"{mode}: steps of the sequence {sorted(apart)}, timestamps {drift:.0f} ms off")
    # Reports of the inside: the stream's name, and its clock.
    said = capture.rows("rtcp", [port + 1], outer, "pt", "senderssrc", "timestamp.rtp")
    same(sorted(set(numbers(said, 1))), sorted(ssrcs), f"{mode}: who reports to the softphone")
    same(203 in numbers(said, 0), not continued, f"{mode}: a farewell in the middle")
    stamps = numbers(said, 2)
    check(len(stamps) == 3 and set(stamps) <= {int(row[3]) for row in rows}, f"{mode}: reported timestamps {stamps} are none of the stream")
    # Reports of the softphone: of the stream outside, of who sent it inside.
    told = capture.rows("rtcp", [port + 1], f"ip.dst=={GW_OUT4} && ip.src=={NAT4['home1']}", "ssrc.identifier", "ssrc.high_seq", "senderssrc")
    about = capture.rows("rtcp", [second.port + 1], inner, "ssrc.identifier", "ssrc.high_seq", "senderssrc")
    same(others(told)[-1], ssrcs[-1], f"{mode}: whom the softphone reports of")
    same(set(others(about)), {second.ssrc}, f"{mode}: whom its reports are about inside")
    high = numbers(about, 1)
    check(high and all(BEGIN < n < BEGIN + second.sent for n in high), f"{mode}: reported sequence numbers {high}, sent {second.sent} from {BEGIN}")
    return f"{mode}: {len(streams)} SSRC, {packets} packets, 0 lost, reports of {len(ssrcs)}, highest {numbers(told, 1)[-1]} told, {high[-1]} inside"


@case("proxy")
def proxy(lab):
    """media.proxy: a call whose inside end becomes another (re-INVITE: port, SSRC, sequence, clock) is one stream to a baresip with "use", two with "no"; RTCP names that stream both ways"""
    gateway = Gateway(lab, ttl="64", replace=(("[media]", '[media]\nproxy = "use"'),))
    phone = Baresip(lab, "home1", "08000FC00001", hertz=440).start().registered()
    caller = Caller(lab, CALLER, KAMAILIO)
    figures = []
    for mode in ("use", "no"):
        if mode == "no":
            since = gateway.proc.size()
            gateway.reload(replace=(("[media]", '[media]\nproxy = "no"'),))
            until("the configuration is in force", lambda s=since: gateway.events("the new configuration is in force", s))
        tap, capture = Tap(lab, "gw", "eth1"), Capture(lab, mode)
        first, second = transferred(lab, caller, phone)
        capture.close()
        tone = phone.recording("dec")[-RATE:-RATE // 4]
        check(goertzel(tone, SECOND) > 0.8, f"{mode}: the softphone hears the other with {goertzel(tone, SECOND):.2f}")
        port = next(p.src[1] for p in tap.rtp() if p.out and p.dst[0] == NAT4["home1"])
        figures.append(judge(capture, mode, port, first, second))
    return "; ".join(figures)
