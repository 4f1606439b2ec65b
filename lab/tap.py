"""What is on the wire: a packet socket on one interface, read when the case asks. It starts at once and costs nothing while packets pass."""

import socket
import struct
from dataclasses import dataclass

ETH_P_ALL, PACKET_OUTGOING, SOL_PACKET, PACKET_STATISTICS, SO_RCVBUFFORCE = 3, 4, 263, 6, 33
BUFFER = 64 << 20


@dataclass(frozen=True)
class Seen:
    """One UDP packet: did it leave by this interface, who sent it to whom, with which TTL or hop limit."""

    out: bool
    src: tuple
    dst: tuple
    ttl: int
    payload: bytes

    @property
    def rtp(self):
        p = self.payload
        return len(p) >= 12 and p[0] >> 6 == 2 and not 64 <= p[1] & 0x7F <= 95

    @property
    def ssrc(self):
        return int.from_bytes(self.payload[8:12], "big")

    @property
    def sequence(self):
        return int.from_bytes(self.payload[2:4], "big")


class Tap:
    def __init__(self, lab, short, interface):
        with lab.net.inside_of(short):
            self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
        self.sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        self.sock.bind((interface, ETH_P_ALL))
        self.sock.setblocking(False)
        self.interface, self.packets = interface, []
        lab.opened.append(self)

    def read(self):
        """Every UDP packet since the tap began, in order."""
        while True:
            try:
                data, (name, _, kind, *_) = self.sock.recvfrom(65536)
            except BlockingIOError:
                break
            seen = parse(data, kind == PACKET_OUTGOING) if name == self.interface else None
            if seen:
                self.packets.append(seen)
        _, lost = struct.unpack("II", self.sock.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        if lost:
            raise RuntimeError(f"the tap on {self.interface} lost {lost} packets")
        return self.packets

    def rtp(self):
        return [p for p in self.read() if p.rtp]

    def close(self):
        self.sock.close()


def parse(data, out):
    """The UDP packet that an IP packet holds, or None; of a fragmented one its first part."""
    if data[0] >> 4 == 4:
        at, kind, ttl, family, src, dst = (data[0] & 15) * 4, data[9], data[8], socket.AF_INET, data[12:16], data[16:20]
    else:
        at, kind, ttl, family, src, dst = 40, data[6], data[7], socket.AF_INET6, data[8:24], data[24:40]
    later_fragment = family == socket.AF_INET and int.from_bytes(data[6:8], "big") & 0x1FFF
    if kind != socket.IPPROTO_UDP or later_fragment:
        return None
    sport, dport, length = struct.unpack_from("!HHH", data, at)
    return Seen(out, (socket.inet_ntop(family, src), sport), (socket.inet_ntop(family, dst), dport), ttl, data[at + 8:at + length])


def flows(packets):
    """{SSRC: {sequence number: how often}} of RTP."""
    table = {}
    for p in packets:
        row = table.setdefault(p.ssrc, {})
        row[p.sequence] = row.get(p.sequence, 0) + 1
    return table
