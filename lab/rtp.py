"""RTP by hand: PCMU tones with a chosen TTL or hop limit, and a receiver that notes the TTL of what arrives."""

import math
import random
import re
import socket
import struct
import threading
import time

RATE, FRAME = 8000, 160
IP_RECVTTL = 12  # linux/in.h; Python 3.11 has no name for it


def ulaw(sample):
    """G.711 µ-law of one 16-bit sample."""
    sign = 0x80 if sample < 0 else 0
    sample = min(abs(sample), 32635) + 132
    exponent = sample.bit_length() - 8
    return ~(sign | exponent << 4 | sample >> (exponent + 3) & 0x0F) & 0xFF


def linear(byte):
    byte = ~byte & 0xFF
    value = ((byte & 0x0F) * 8 + 132 << (byte >> 4 & 7)) - 132
    return -value if byte & 0x80 else value


LINEAR = [linear(b) for b in range(256)]


def tone(hertz, seconds=1):
    """A whole number of periods, so that it can be repeated."""
    return bytes(ulaw(int(9000 * math.sin(2 * math.pi * hertz * n / RATE))) for n in range(RATE * seconds))


def goertzel(samples, hertz, rate=RATE):
    """Share of the energy of `samples` that lies at `hertz` (0..1; a pure tone gives about 1)."""
    total = sum(s * s for s in samples)
    if not samples or not total:
        return 0.0
    k = 2 * math.cos(2 * math.pi * hertz / rate)
    a = b = 0.0
    for s in samples:
        a, b = s + k * a - b, a
    return min(1.0, 2 * (a * a + b * b - k * a * b) / (len(samples) * total))


class Media:
    """One RTP stream of one end: sends a tone where the peer's SDP says, keeps what comes back."""

    _next = {}
    _count = 0

    def __init__(self, lab, short, address, tone=440, ttl=None):
        self.address, self.hertz, self.ttl = address, tone, ttl
        self.six = ":" in address
        with lab.port_lock:
            self.port = Media._next[short] = Media._next.get(short, 40000) + 2
            Media._count += 1
            self.ssrc = 0x5EED0000 + Media._count  # the homes have the same ports; a capture tells streams apart by this
        self.remote = None
        self.also = []  # others that get the same
        self.begin = 0  # the first sequence number
        self.sent = 0  # packets
        self.quiet = False  # a pause in what it says
        self.jitter = 0.0  # packets leave up to so many seconds late
        self.kind = 0  # payload type of what it sends
        self.got = []  # (ttl, source, payload)
        self._stop, self._talking = threading.Event(), False
        self._version = 1
        self._open = lambda: lab.net.socket(short, address, socket.SOCK_DGRAM, self.port)
        self._bind()

    def _bind(self):
        self.sock = self._open()
        self.sock.settimeout(0.5)
        if self.six:
            self.sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
        else:
            self.sock.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
        threading.Thread(target=self._receive, args=(self.sock,), daemon=True).start()

    def move(self):
        """Go on from another port, as behind a NAT that forgot. What comes to the old one is no longer read."""
        old, self.port = self.sock, self.port + 1
        self._bind()
        old.close()

    def sdp(self, host=None, direction="a=sendrecv\r\n"):
        """Its description, each of a higher version (RFC 3264 §8)."""
        kind, self._version = "IP6" if self.six else "IP4", self._version + 1
        return (f"v=0\r\no=- {self.port} {self._version} IN {kind} {self.address}\r\ns=-\r\nc=IN {kind} {host or self.address}\r\nt=0 0\r\n"
                f"m=audio {self.port} RTP/AVP 0 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\n{direction}")

    def aim(self, body, start=True):
        """Take the peer's address from its SDP and start to talk."""
        text = body.decode()
        host = re.search(r"^c=IN IP[46] (\S+)", text, re.M).group(1)
        port = int(re.search(r"^m=audio (\d+)", text, re.M).group(1))
        self.remote = (host, port)
        if start:
            self.talk()

    def talk(self):
        if not self._talking:
            self._talking = True
            threading.Thread(target=self._send, daemon=True).start()

    def set_ttl(self, ttl):
        level, option = (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS) if self.six else (socket.IPPROTO_IP, socket.IP_TTL)
        self.sock.setsockopt(level, option, ttl)

    def _send(self):
        if self.ttl:
            self.set_ttl(self.ttl)
        samples = tone(self.hertz)
        start = time.monotonic() - self.sent * 0.02
        while not self._stop.is_set():
            if self.quiet:
                time.sleep(0.02)
                start += 0.02
                continue
            n = self.begin + self.sent
            at = n * FRAME % len(samples)
            packet = struct.pack("!BBHII", 0x80, self.kind, n & 0xFFFF, n * FRAME & 0xFFFFFFFF, self.ssrc) + samples[at:at + FRAME]
            try:
                for remote in (self.remote, *self.also):
                    self.sock.sendto(packet, remote)
            except OSError:
                if self._stop.is_set():
                    return
            self.sent += 1
            time.sleep(max(0, start + self.sent * 0.02 + random.uniform(0, self.jitter) - time.monotonic()))

    def _receive(self, sock):
        while not self._stop.is_set():
            try:
                data, control, _, source = sock.recvmsg(2048, 256)
            except TimeoutError:
                continue
            except OSError:
                return
            ttl = next((struct.unpack("=i", c[:4])[0] for level, kind, c in control
                        if (level, kind) in ((socket.IPPROTO_IP, socket.IP_TTL), (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT))), None)
            self.got.append((ttl, source[:2], data))

    def heard_of(self, other):
        """The sequence numbers of another end that came, in order."""
        return [int.from_bytes(p[2:4], "big") for _, _, p in self.got if len(p) >= 12 and int.from_bytes(p[8:12], "big") == other.ssrc]

    def samples(self, last=RATE * 2):
        """What was heard: the last `last` samples."""
        heard = b"".join(p[12:] for _, _, p in self.got[-(last // FRAME + 1):] if len(p) >= 12 and p[1] & 0x7F == 0)
        return [LINEAR[b] for b in heard[-last:]]

    def hears(self, hertz):
        return goertzel(self.samples(RATE // 2), hertz)

    def close(self):
        self._stop.set()
        self.sock.close()
