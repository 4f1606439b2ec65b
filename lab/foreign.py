"""Those who have no part in a call but send to its ports: strangers with good RTP, copies, floods and junk."""

import socket
import struct
import time

from proc import Proc
from tap import SO_RCVBUFFORCE

MARK = b"FOREIGN!" * 20  # in every packet of a stranger, as long as a frame of G.711


def rtp_packet(ssrc, sequence, payload_type=0, payload=MARK):
    return struct.pack("!BBHII", 0x80, payload_type, sequence & 0xFFFF, sequence * 160 & 0xFFFFFFFF, ssrc) + payload


def rtcp_packet(ssrc):
    """A sender report without blocks, with the mark behind it as an APP packet."""
    return struct.pack("!BBHI", 0x80, 200, 6, ssrc) + bytes(20) + struct.pack("!BBHI", 0x80, 204, 2 + len(MARK) // 4, ssrc) + b"MARK" + MARK


class Foreigner:
    """A socket anywhere. What it gets is read when the case asks."""

    _count = 0

    def __init__(self, lab, short, address):
        Foreigner._count += 1
        self.ssrc, self.sequence = 0xBAD00000 + Foreigner._count, 1000
        self.sock = lab.net.socket(short, address, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
        self.sock.setblocking(False)
        self.address, self.got = self.sock.getsockname()[:2], []
        lab.opened.append(self)

    def send(self, target, data):
        try:
            self.sock.sendto(data, target)
        except OSError:
            pass  # an ICMP error of the packet before

    def talk(self, target, packets, gap=0.004, ssrc=None, sequence=None, rtcp=True):
        """That many good RTP packets to the port, and with each RTCP to the next."""
        for n in range(packets):
            self.sequence += 1
            self.send(target, rtp_packet(ssrc or self.ssrc, self.sequence if sequence is None else sequence + n))
            if rtcp:
                self.send((target[0], target[1] + 1), rtcp_packet(ssrc or self.ssrc))
            time.sleep(gap)

    def heard(self):
        """Everything that was sent to it."""
        while True:
            try:
                self.got.append(self.sock.recv(65536))
            except BlockingIOError:
                return self.got
            except OSError:
                pass  # an ICMP error

    def close(self):
        self.sock.close()


def all_at_once(foreigners, target, packets, **how):
    """They talk in turns, as if at once."""
    for _ in range(packets):
        for one in foreigners:
            one.talk(target, 1, gap=how.get("gap", 0.0005), rtcp=how.get("rtcp", True))


FLOOD = """
import socket, struct, sys, time
host, port, count, sources, per_ms = sys.argv[1], int(sys.argv[2]), *map(int, sys.argv[4:7])
socks = []
for n in range(sources):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((sys.argv[3], 0))
    s.setblocking(False)
    socks.append(s)
start, sent = time.monotonic(), 0
while sent < count:
    due = int((time.monotonic() - start) * 1000 * per_ms)
    while sent < min(due, count):
        packet = struct.pack("!BBHII", 0x80, 0, sent & 0xFFFF, sent * 160, 0xF1000000 + sent % sources) + b"FOREIGN!" * 20
        try:
            socks[sent % sources].sendto(packet, (host, port))
        except OSError:
            pass
        sent += 1
    time.sleep(0.0005)
print(f"sent {sent} in {time.monotonic() - start:.2f} s", flush=True)
"""


class Flood:
    """Good RTP of strangers by a process of its own, so that it does not slow the case's phones."""

    def __init__(self, lab, short, address, target, count, sources, per_ms):
        self.proc = Proc(lab.net, short, f"flood-{address}", lab.folder, ["python3", "-c", FLOOD, *target, address, count, sources, per_ms])
        lab.opened.append(self)

    def wait(self, seconds=20):
        self.proc.wait_for("sent", seconds)

    def close(self):
        self.proc.stop()


def junk(ssrc, sequence):
    """Everything that is not good RTP or RTCP: (name, bytes)."""
    good = rtp_packet(ssrc, sequence)
    yield "empty", b""
    for length in (1, 2, 4, 8, 11):
        yield f"{length} octets", good[:length]
    for version in (0, 1, 3):
        yield f"version {version}", bytes([version << 6]) + good[1:]
    yield "contributing sources beyond the end", b"\x8f" + good[1:30]
    yield "extension beyond the end", b"\x90" + good[1:12] + struct.pack("!HH", 0xBEDE, 0xFFFF) + bytes(8)
    yield "extension cut", b"\x90" + good[1:12] + b"\xbe"
    yield "padding beyond the end", b"\xa0" + good[1:20] + b"\xff"
    yield "padding of none", b"\xa0" + good[1:20] + b"\x00"
    yield "RTCP of version 1", b"\x40" + rtcp_packet(ssrc)[1:]
    yield "RTCP longer than it is", struct.pack("!BBHI", 0x80, 200, 0xFFFF, ssrc) + bytes(20)
    yield "RTCP of 4 octets", struct.pack("!BBH", 0x80, 201, 0)
    yield "RTCP whose second packet is cut", rtcp_packet(ssrc)[:-8]
    yield "STUN binding request", struct.pack("!HHI", 1, 0, 0x2112A442) + b"transaction!"
    yield "STUN with attributes", struct.pack("!HHI", 1, 12, 0x2112A442) + b"transaction!" + struct.pack("!HH", 0x0025, 0) + struct.pack("!HHI", 0x0024, 4, 1)
    yield "STUN response", struct.pack("!HHI", 0x0101, 0, 0x2112A442) + b"transaction!"
    yield "TURN channel data", struct.pack("!HH", 0x4000, 4) + b"data"
    hello = b"\x01\x00\x00\x2c\x00\x00\x00\x00\x00\x00\x00\x2c\xfe\xfd" + bytes(32) + b"\x00\x00\x00\x02\xc0\x2b\x01\x00"
    yield "DTLS ClientHello", b"\x16\xfe\xff\x00\x00" + bytes(6) + struct.pack("!H", len(hello)) + hello
    yield "DTLS alert", b"\x15\xfe\xfd\x00\x00" + bytes(6) + b"\x00\x02\x02\x28"
    yield "ZRTP Hello", b"\x10\x00\x00\x01ZRTP" + struct.pack("!I", ssrc) + b"\x50\x5a\x00\x1dHello   1.10" + bytes(96)
    yield "TLS ClientHello", b"\x16\x03\x01\x00\x10" + bytes(16)
    yield "SIP", b"OPTIONS sip:a@b SIP/2.0\r\n\r\n"
    yield "DNS", b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04test\x00\x00\x01\x00\x01"
    yield "64 KiB of nothing", bytes(65507)
    yield "1,500 octets of ones", b"\xff" * 1472
