"""Many RTP ends in a process of its own, so that what is measured is the gateway and not the script: each sends 50 packets a second and
notes the longest silence of what comes back.

As a program (in a namespace): `choir.py ADDRESS FIRST-PORT COUNT`; one command a line on standard input, one line of JSON for each answer.
"""

import json
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import time

PERIOD = 0.02


class Choir:
    """The program seen from a case."""

    def __init__(self, lab, short, address, first, count):
        self.lab, self.address, self.first, self.count, self.taken = lab, address, first, count, 0
        command = lab.net.argv(short, sys.executable, os.path.abspath(__file__), address, first, count)
        self.proc = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
        lab.opened.append(self)
        self.ask("ready")

    def ask(self, *words):
        self.proc.stdin.write(" ".join(map(str, words)) + "\n")
        self.proc.stdin.flush()
        return json.loads(self.proc.stdout.readline())

    def voice(self):
        self.taken += 1
        return Voice(self, self.taken - 1)

    def begin(self):
        """Silences count from now on."""
        self.ask("begin")

    def silences(self):
        """[(packets heard in all, longest silence since `begin` in seconds)] of those that sing."""
        return self.ask("tell")

    def close(self):
        if self.proc.poll() is None:
            self.proc.send_signal(signal.SIGKILL)
        self.proc.wait()
        self.proc.stdin.close()
        self.proc.stdout.close()


class Voice:
    """One end, in the place of an `rtp.Media`."""

    def __init__(self, choir, index):
        self.choir, self.index, self.port = choir, index, choir.first + 2 * index

    def sdp(self):
        address = self.choir.address
        return (f"v=0\r\no=- {self.port} 1 IN IP4 {address}\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\n"
                f"m=audio {self.port} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=ptime:20\r\na=sendrecv\r\n")

    def aim(self, body, start=True):
        text = body.decode()
        host = re.search(r"^c=IN IP4 (\S+)", text, re.M).group(1)
        self.choir.ask("aim", self.index, host, re.search(r"^m=audio (\d+)", text, re.M).group(1))

    def heard(self):
        return self.choir.ask("heard", self.index)

    def close(self):
        if self.choir.proc.poll() is None:
            self.choir.ask("aim", self.index, "-", 0)


class End:
    def __init__(self, address, port, index):
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((address, port))
        self.sock.setblocking(False)
        self.to, self.sent, self.heard, self.last, self.longest = None, 0, 0, None, 0.0
        self.ssrc = 0xC4010000 + index

    def send(self):
        packet = struct.pack("!BBHII", 0x80, 0, self.sent & 0xFFFF, self.sent * 160 & 0xFFFFFFFF, self.ssrc) + b"\xd5" * 160
        self.sent += 1
        try:
            self.sock.sendto(packet, self.to)
        except OSError:
            pass

    def take(self, now):
        while True:
            try:
                self.sock.recv(2048)
            except OSError:
                return
            self.heard += 1
            if self.last is not None:
                self.longest = max(self.longest, now - self.last)
            self.last = now

    def silence(self, now):
        return max(self.longest, now - self.last) if self.last is not None else now


def obey(words, ends):
    now = time.monotonic()
    if words[0] == "aim":
        ends[int(words[1])].to = (words[2], int(words[3])) if words[2] != "-" else None
    elif words[0] == "begin":
        for end in ends:
            end.longest, end.last = 0.0, now if end.last is not None else None
    elif words[0] == "tell":
        return [(end.heard, round(end.silence(now), 3)) for end in ends if end.to]
    elif words[0] == "heard":
        return ends[int(words[1])].heard
    return "done"


def sing(address, first, count):
    ends = [End(address, first + 2 * n, n) for n in range(count)]
    poll = select.epoll()
    by_fd = {end.sock.fileno(): end for end in ends}
    [poll.register(fd, select.EPOLLIN) for fd in by_fd]
    poll.register(0, select.EPOLLIN)
    pending, due = b"", time.monotonic()
    while True:
        for fd, _ in poll.poll(max(0, due - time.monotonic())):
            if fd:
                by_fd[fd].take(time.monotonic())
                continue
            read = os.read(0, 65536)
            if not read:
                return
            *lines, pending = (pending + read).split(b"\n")
            for line in lines:
                print(json.dumps(obey(line.decode().split(), ends)), flush=True)
        if (now := time.monotonic()) >= due:
            [end.send() for end in ends if end.to]
            due = max(due + PERIOD, now - PERIOD)


if __name__ == "__main__":
    sing(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
