"""Quantity: altered copies of real messages from both sides, churn, storms of signals, few descriptors, a full disk.

SIEGE_SECONDS=300 makes the fuzzing long; SIEGE_SEED repeats one.
"""

import os
import random
import re
import signal
import socket
import threading
import time

from cases import case, check, same
from cases.attack import PLAIN_ROW, Stranger
from cases.reload import call_up
from gateway import Gateway
from net import CALLER, GW_IN4, GW_OUT4, KAMAILIO, LITERAL, sh
from proc import Proc, until
from sip import Caller, Phone, tls_client, token
from switch import Switch

SECONDS = float(os.environ.get("SIEGE_SECONDS", 8))
OPEN = [('level = "debug"', 'level = "info"'), ('vphones    =', 'homes      = ["198.51.100.0/24"]\nvphones    ='), ('[[sip.ports]]\nname = "switches"', PLAIN_ROW)]
UNGUARDED = ("[log]\n", '[guard]\nallow = ["homes"]\n\n[log]\n')  # the guard would end it after a few
HOLD = """
import socket, sys, time
held = []
for n in range(1500):
    s = socket.socket()
    s.setblocking(False)
    s.connect_ex((sys.argv[1], 5061))
    held.append(s)
    time.sleep(0.001)
print("held", flush=True)
time.sleep(60)
"""
METHODS = ("REGISTER", "INVITE", "MESSAGE", "SUBSCRIBE", "NOTIFY", "REFER", "OPTIONS", "BYE", "ACK", "CANCEL", "UPDATE", "INFO", "PRACK", "PUBLISH")
BODY = "v=0\r\no=- 1 1 IN IP4 192.168.1.9\r\ns=-\r\nc=IN IP4 192.168.1.9\r\nt=0 0\r\nm=audio 20000 RTP/AVP 0 101\r\na=rtpmap:0 PCMU/8000\r\na=sendrecv\r\n"
PIECES = [b"", b"\0", b"\r\n", b"\r\n ", b"\n", b"\r", b";", b",", b"<", b">", b'"', b'\\"', b"%", b"%00", b"%zz", b"@", b":", b"::1", b"[", b"]", b"[::ffff:10.0.1.99]", b"?", b"&", b"=",
          b";lr", b";maddr=10.0.1.99", b";crt=", b";gr=", b";ft=", b";received=", b";rport=99999", b";tag=", b";branch=", b";expires=4294967296", b";expires=-1", b";reg-id=0", b";ob",
          b"sip:", b"sips:", b"tel:+1", b"urn:service:sos", b"*", b"\xff\xfe", "ü€𐍈".encode(), b"A" * 300, b"9" * 30, b"-1", b"0", b"4294967295", b"18446744073709551616", b"((((", b"a@b@c",
          b"e1.AAAA", b"s1.AAAAAAAAAAAAAAAAAAAAAA", b"sip:203.0.113.10:5061;lr", b"<sip:203.0.113.10;lr>,", b"SIP/2.0", b"Via: SIP/2.0/UDP a;branch=z9hG4bKx\r\n", b"Route: <sip:10.0.1.2;lr>\r\n",
          b"Replaces: a;to-tag=b;from-tag=c\r\n", b"Require: 100rel\r\n", b"RAck: 1 1 INVITE\r\n", b"m=audio 0 RTP/SAVP 0\r\n", b"m=audio 99999/99 RTP/AVP 0\r\n", b"c=IN IP6 ::\r\n", b"a=rtcp:1\r\n"]


def altered(rng, data):
    """A few small changes; half of the time with a Content-Length that is right again."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        kind, at = rng.randrange(9), rng.randrange(len(data) + 1)
        if kind == 0 and data:
            data[at % len(data)] = rng.randrange(256)
        elif kind == 1:
            data[at:at + rng.randrange(1, 12)] = b""
        elif kind in (2, 3, 4):
            data[at:at] = rng.choice(PIECES)
        elif kind == 5:
            spots = [m.start() for m in re.finditer(rb"[:;=<>@,]", data)] or [0]
            spot = rng.choice(spots)
            data[spot:spot + rng.randrange(0, 2)] = rng.choice(PIECES)
        else:
            lines = bytes(data).split(b"\r\n")
            n, m = rng.randrange(len(lines)), rng.randrange(len(lines))
            if kind == 6:
                lines[n:n] = [lines[m]] * rng.choice((1, 1, 2, 70, 250))
            elif kind == 7:
                lines[n] = lines[n].partition(b":")[0] + b":" + lines[m].partition(b":")[2]
            else:
                del lines[n]
            data = bytearray(b"\r\n".join(lines))
    if rng.random() < 0.6:
        head, mark, body = bytes(data).partition(b"\r\n\r\n")
        head = re.sub(rb"(?im)^(content-length|l)[ \t]*:.*$", b"Content-Length: %d" % len(body), head)
        data = bytearray(head + (mark or b"\r\n\r\n") + body)
    return bytes(data[:60000])


def question(rng, stranger, stored):
    """A sound request, or an answer to nothing."""
    method = rng.choice(METHODS)
    uri = rng.choice([f"sip:100@{LITERAL}", f"sip:{LITERAL}", f"sip:{GW_OUT4}", f"sip:anonymous@{GW_OUT4}", *stored])
    rows = [("Supported", "gruu, path, outbound, 100rel, timer, replaces"), ("Allow", "INVITE, ACK, BYE"), ("Expires", "600"), ("User-Agent", "Mitel-6930/6.2")]
    rows += rng.sample([("Route", f"<sip:{GW_OUT4};lr>"), ("Record-Route", "<sip:h;lr>"), ("Refer-To", f"<sip:200@{LITERAL}?Replaces=a%3Bto-tag%3Db%3Bfrom-tag%3Dc>"), ("Event", "dialog"),
                        ("Accept-Contact", '*;+sip.instance="<urn:uuid:00000000-0000-1000-8000-08000FA00001>"'), ("Session-Expires", "1800;refresher=uac"), ("Replaces", "a;to-tag=b;from-tag=c"),
                        ("Proxy-Authorization", 'Digest username="a", realm="farend", nonce="b", uri="sip:x", response="c"'), ("Path", "<sip:p;lr>"), ("Referred-By", "<sip:a@192.168.1.9>"),
                        ("P-Asserted-Identity", "<sip:a@b>"), ("Subscription-State", "active"), ("RSeq", "1"), ("RAck", "1 1 INVITE"), ("Min-Expires", "1"), ("Max-Breadth", "60")], rng.randrange(5))
    if method == "REGISTER":
        rows.append(("Contact", f'<sip:anonymous@{stranger.address}>;+sip.instance="<urn:uuid:00000000-0000-1000-8000-08000FBAD{rng.randrange(1, 9):03d}>";reg-id=1;expires=600'))
    body = BODY if method in ("INVITE", "UPDATE", "MESSAGE") else ""
    rows += [("Content-Type", "application/sdp")] if body else []
    text = stranger.text(method, uri, rows=rows, body=body, drop=("Contact",) if method == "REGISTER" else ())
    if rng.random() < 0.3:
        text = text.replace(f"To: <{uri}>", f"To: <{uri}>;tag=t{rng.randrange(9)}")
    if rng.random() < 0.15:
        text = text.replace(text.split("\r\n")[0], rng.choice(("SIP/2.0 200 OK", "SIP/2.0 180 Ringing", "SIP/2.0 407 Proxy Authentication Required", "SIP/2.0 302 Moved")))
    return text.encode("latin-1")


class Odd(Switch):
    """A switch whose words are altered now and then."""

    def __init__(self, lab, seed):
        self.rng, self.odd, self.quiet = random.Random(seed), 0, False
        super().__init__(lab)
        self.trace = lambda mark, data: None

    def respond(self, wire, msg, status, reason, extra="", body="", to_tag=None):
        if self.quiet or self.rng.random() < 0.6:
            return super().respond(wire, msg, status, reason, extra, body, to_tag)
        self.odd += 1
        send = wire.send

        class Altering:
            @staticmethod
            def send(text):
                send(altered(self.rng, text.encode()))
        status = self.rng.choice((status, 100, 180, 183, 302, 401, 407, 420, 423, 488, 503, 600))
        return super().respond(Altering, msg, status, reason, extra + self.rng.choice(("", "RSeq: 1\r\nRequire: 100rel\r\n", "Retry-After: 3\r\n", "Min-Expires: 90\r\n")), body, to_tag)


def settled(gateway):
    """Descriptors and memory once the relay has opened its ports ahead of need."""
    until("the gateway has opened what it wants", lambda: gateway.held()[0] == (time.sleep(0.5), gateway.held()[0])[1], 10)
    return gateway.held()


def as_before(gateway, before, seconds=15, descriptors=60):
    """Descriptors back, memory not more than 64 MiB above."""
    until(f"descriptors come back to {before[0]} (now {gateway.held()[0]})", lambda: gateway.held()[0] <= before[0] + descriptors, seconds, 0.2)
    now = gateway.held()
    check(now[1] <= before[1] + 64, f"memory {before[1]} -> {now[1]} MiB")
    return f"descriptors {before[0]} -> {now[0]}, memory {before[1]} -> {now[1]} MiB"


def afterwards(lab, switch=LITERAL, number=8, mac="08000FA00002"):
    """Somebody else registers and asks: how long that took."""
    other = Phone(lab, "afterwards", "home1", number, mac, switch).connect()
    start = time.monotonic()
    until("a phone registers and asks", lambda: other.register().status == 200 and other.options().status == 200, 20)
    took = time.monotonic() - start
    other.close()
    return took


def pelt(lab, transport, seed, end, stored, counts):
    """One stranger sends altered messages until `end`."""
    rng, sent = random.Random(seed), 0
    stranger = Stranger(lab, transport, mac=f"08000FBAD{seed % 9 + 1:03d}", number=7 + seed % 3)
    while time.monotonic() < end:
        data = question(rng, stranger, stored)
        if rng.random() < 0.9:
            data = altered(rng, data)
        try:
            if transport != "udp" and (stranger.wire.closed.is_set() or rng.random() < 0.01):
                stranger.connect()
            stranger.wire.send(data)
            sent += 1
        except OSError:
            time.sleep(0.01)
        stranger.received.clear()
        stranger.pending.clear()
        if transport == "udp":
            time.sleep(0.001)
    counts.append(sent)


def pelt_inside(switch, seed, end, stored, counts):
    """The switch's own requests, altered, at the gateway's inside port."""
    rng, sent, wire = random.Random(seed), 0, None
    while time.monotonic() < end:
        try:
            if wire is None or wire.closed.is_set():
                wire = switch.dial()
            method = rng.choice(METHODS)
            uri = rng.choice([f"sip:117@{GW_IN4}:5061", f"sip:{GW_IN4}", *stored])
            body = BODY if method in ("INVITE", "MESSAGE") else ""
            text = switch.invite_text(wire, uri, token(), f"<sip:100@{LITERAL}>;tag={token()}", body, "Event: dialog\r\nSubscription-State: active\r\n").replace("INVITE", method, 1)
            wire.send(altered(rng, text.replace("CSeq: 1 INVITE", f"CSeq: 1 {method}").encode()))
            sent += 1
        except OSError:
            wire = None
        time.sleep(0.002)
    counts.append(sent)


@case("siege-fuzz")
def fuzz(lab):
    """altered copies of real messages over TLS, TCP and UDP from outside and over TLS from inside, and a switch whose answers are altered: no panic, the others go on"""
    seed = int(os.environ.get("SIEGE_SEED", time.time_ns() % 1_000_000))
    gateway = Gateway(lab, replace=[*OPEN, UNGUARDED])
    switch = Odd(lab, seed)
    switch.quiet = True
    victim = Phone(lab, "victim", "home1", 11, "08000FA00001", LITERAL).connect()
    victim.trace = victim.wire.trace = None
    victim.trace = lambda mark, data: None
    same(victim.register().status, 200, "REGISTER")
    stored = [switch.binding(victim.mac)[0]]
    before = settled(gateway)
    switch.quiet = False
    counts, end = [], time.monotonic() + SECONDS
    runs = [threading.Thread(target=pelt, args=(lab, transport, seed + n, end, stored, counts), daemon=True) for n, transport in enumerate(("tls", "tcp", "udp", "tls"))]
    runs.append(threading.Thread(target=pelt_inside, args=(switch, seed + 9, end, stored, counts), daemon=True))
    [r.start() for r in runs]
    slowest = 0.0
    while time.monotonic() < end:
        start = time.monotonic()
        text = f"OPTIONS sip:{GW_OUT4} SIP/2.0\r\nVia: {victim.via(victim.wire)}\r\nMax-Forwards: 70\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:{GW_OUT4}>\r\nCall-ID: {token()}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
        check(not victim.wire.closed.is_set(), f"seed {seed}: the phone's connection is closed")
        same(victim.transact(victim.wire, text, 5).status, 200, f"seed {seed}: OPTIONS of another phone to the gateway")
        slowest = max(slowest, time.monotonic() - start)
        victim.received.clear()
        time.sleep(0.05)
    [r.join(10) for r in runs]
    switch.quiet = True
    for stranger in [o for o in lab.opened if isinstance(o, Stranger)]:
        stranger.close()
    took = afterwards(lab)
    # Calls that were answered stand until their session ends, with four sockets each.
    held = as_before(gateway, before, descriptors=1000)
    gateway.proc.send(signal.SIGTERM)
    time.sleep(0.5)
    gateway.proc.send(signal.SIGTERM)  # not waiting for those calls
    until("the second SIGTERM ends it", lambda: not gateway.proc.running(), 5)
    return f"seed {seed}: {sum(counts)} messages, {switch.odd} odd answers, the slowest OPTIONS beside it {slowest * 1000:.0f} ms, REGISTER afterwards {took * 1000:.0f} ms; {held}"


@case("siege-signals")
def signals(lab):
    """forty SIGHUP and forty SIGUSR1 and forty phones that come and go during a call: audio and BYE stay, Kamailio's bindings of living phones don't grow"""
    gateway, phone, caller, call, theirs = call_up(lab)
    before = settled(gateway)
    got, sent = len(call.media.got), theirs.media.sent
    stored = lab.kamailio.contacts()
    macs = [f"08000FD{n:05X}" for n in range(8)]
    failed = []
    [lab.pki.phone(mac) for mac in macs]

    def churn(n):
        for turn in range(5):
            one = Phone(lab, f"churn{n}", "home2", (7, 8, 9, 11)[n % 4], macs[n], KAMAILIO)
            one.trace = lambda mark, data: None
            try:
                answer = one.connect().register(timeout=8)
                if answer.status != 200:
                    failed.append(answer.start)
                if turn == 4:
                    answer = one.register(expires=0)
                one.wire.close(reset=turn % 2 == 1)
            except (OSError, TimeoutError) as problem:
                failed.append(f"{problem}")
    runs = [threading.Thread(target=churn, args=(n,), daemon=True) for n in range(len(macs))]
    [r.start() for r in runs]
    for n in range(40):
        gateway.proc.send(signal.SIGHUP)
        gateway.proc.send(signal.SIGUSR1)
        time.sleep(0.05)
    [r.join(60) for r in runs]
    check(not failed, f"{len(failed)} registrations failed: {failed[:4]}")
    same(phone.register().status, 200, "REGISTER after the storm")
    same(lab.kamailio.contacts(), stored, "Kamailio's bindings before and after")
    time.sleep(0.3)
    missing = (theirs.media.sent - sent) - (len(call.media.got) - got)
    check(missing <= 10, f"{missing} packets lost")
    same(call.bye().status, 200, "BYE")
    check(theirs.ended.wait(2), "the phone got the BYE")
    with open(f"{gateway.folder}/state/token.key") as keys:
        count = len(keys.read().split())
    return f"{max(0, missing)} packets lost, bindings unchanged, token.key holds {count} words; {as_before(gateway, before)}"


@case("siege-connections")
def connections(lab):
    """1,500 silent connections of one address, TLS and half-open: another phone registers, and all of it comes back"""
    gateway = Gateway(lab, replace=[('level = "debug"', 'level = "info"')])
    Switch(lab)
    before = settled(gateway)
    held = Proc(lab.net, "home2", "held", lab.folder, ["python3", "-c", HOLD, GW_OUT4])
    try:
        held.wait_for("held", 20)
        took = [afterwards(lab)]
        at_most = gateway.held()
    finally:
        held.stop()
    took.append(afterwards(lab, number=9, mac="08000FA00003"))
    return f"1,500 held: descriptors {at_most[0]}, memory {at_most[1]} MiB, REGISTER beside them {took[0] * 1000:.0f} ms, after them {took[1] * 1000:.0f} ms; {as_before(gateway, before)}"


@case("siege-descriptors")
def descriptors(lab):
    """256 descriptors, the narrowest port range, and 400 connections of one address: it refuses, goes on, and afterwards a phone registers"""
    gateway = Gateway(lab, start=False, replace=[('level = "debug"', 'level = "info"'), ("port_range = [16384, 32767]", "port_range = [16384, 16483]")])
    gateway.start(limit=256)
    Switch(lab)
    before = settled(gateway)
    first = Phone(lab, "first", "home1", 7, "08000FA00001", LITERAL).connect()
    same(first.register().status, 200, "REGISTER before")
    held = Proc(lab.net, "home2", "held", lab.folder, ["python3", "-c", HOLD.replace("1500", "400"), GW_OUT4])
    try:
        held.wait_for("held", 20)
        time.sleep(1)
        at_most, start = gateway.held()[0], cpu_seconds(gateway)
        time.sleep(2)
        busy = (cpu_seconds(gateway) - start) / 2
        same(first.register().status, 200, "REGISTER of the phone that is there")
    finally:
        held.stop()
    check(busy < 0.5, f"{busy * 100:.0f} % of a core while nothing can be accepted")
    took = afterwards(lab, number=9, mac="08000FA00003")
    return f"{at_most} of 256 descriptors, {busy * 100:.0f} % of a core meanwhile; REGISTER afterwards {took * 1000:.0f} ms; {as_before(gateway, before)}"


def cpu_seconds(gateway):
    with open(f"/proc/{gateway.proc.pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@case("siege-full-disk")
def full_disk(lab):
    """state_dir on a full disk of 1 MB: phones register and are called, a rotation of keys is refused and nothing is lost; with room again it works, after a restart too"""
    gateway = Gateway(lab, start=False, replace=[('level = "debug"', 'level = "info"')])
    state, filler = f"{gateway.folder}/state", f"{gateway.folder}/state/filler"
    sh("mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", state)
    lab.opened.insert(0, type("Mount", (), {"close": lambda self: sh("umount", "-l", state)})())
    gateway.start()
    first = Phone(lab, "first", "home1", 7, "08000FA00001", KAMAILIO).connect()
    same(first.register().status, 200, "REGISTER with room")
    stored = lab.kamailio.contacts()
    fill_up(filler)
    with open(f"{state}/token.key") as f:
        keys = f.read()
    other = Phone(lab, "other", "home2", 7, "08000FA00002", KAMAILIO).connect()
    for phone in (first, other):
        same(phone.register().status, 200, "REGISTER on a full disk")
    gateway.proc.send(signal.SIGUSR1)
    done = lab.net.run("gw", lab.farend, "keys", "rotate", gateway.config, check=False)
    time.sleep(0.7)
    with open(f"{state}/token.key") as f:
        same(f.read(), keys, "the keys")
    caller = Caller(lab, CALLER, KAMAILIO)
    same([caller.ring(p.mac) for p in (first, other)], [180, 180], "calls on a full disk")
    for n in range(80):
        same(other.register().status, 200, f"REGISTER {n} on a full disk")
    os.unlink(filler)
    gateway.proc.send(signal.SIGUSR1)
    until("the keys turn once there is room", lambda: open(f"{state}/token.key").read() != keys, 3)
    late = Phone(lab, "late", "home2", 8, "08000FA00003", KAMAILIO).connect()
    same(late.register().status, 200, "REGISTER with room again")
    if gateway.events("registrations can't be kept: after a restart phones that have not come back are unknown"):
        until("registrations are kept again", lambda: gateway.events("registrations are kept again"), 8)
    time.sleep(0.2)
    gateway.proc.stop(signal.SIGKILL)
    gateway.start()
    statuses = [caller.ring(p.mac) for p in (first, other, late)]
    same((statuses[0], statuses[2]), (480, 480), "those that registered with room, after kill -9")
    same(first.connect().register().status, 200, "REGISTER after the restart")
    same([c for c in lab.kamailio.contacts() if first.mac in c[1]], stored, "its Contact")
    return f"keys rotate on a full disk ends with {done.returncode}; the phone that first registered on the full disk is {statuses[1]} after kill -9, the others 480"


def fill_up(path):
    with open(path, "wb", buffering=0) as out:
        try:
            while True:
                out.write(b"x" * 512)
        except OSError:
            pass


@case("siege-ignored")
def ignored(lab):
    """a phone whose requests the switch leaves without an answer, time after time: the switch stays in use for everybody else"""
    gateway = Gateway(lab, replace=[('level = "debug"', 'level = "info"'), ("[sip]\n", "[sip]\nt1 = 0.1\nother_retrans = 4\n")])
    switch = Switch(lab)
    answer = switch.on_other
    switch.on_other = lambda wire, msg: None if msg.method == "MESSAGE" else answer(wire, msg)
    bad, good = Phone(lab, "bad", "home2", 7, "08000FA00001", LITERAL).connect(), Phone(lab, "good", "home1", 7, "08000FA00002", LITERAL).connect()
    for phone in (bad, good):
        same(phone.register().status, 200, "REGISTER")
    start, asked = time.monotonic(), 0
    while time.monotonic() < start + 9:
        bad.wire.send(f"MESSAGE sips:100@{LITERAL} SIP/2.0\r\nVia: {bad.via(bad.wire)}\r\nMax-Forwards: 70\r\nFrom: <sips:a@b>;tag={token()}\r\nTo: <sips:100@{LITERAL}>\r\n"
                      f"Call-ID: {token()}\r\nCSeq: 1 MESSAGE\r\nContent-Length: 0\r\n\r\n")
        same(good.options().status, 200, f"OPTIONS of another phone after {time.monotonic() - start:.1f} s")
        asked += 1
        time.sleep(0.2)
    timed_out = sum(e["status"] == 408 for e in gateway.events("refused"))
    check(timed_out > 5, f"{timed_out} requests ended with 408")
    return f"{asked} of {asked} OPTIONS answered beside as many requests that the switch ignored, {timed_out} of which ended meanwhile"


DEAF = """
import socket, ssl, sys, time
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
context.load_cert_chain(sys.argv[2], sys.argv[3])
lines, closed = [], 0
for n in range(int(sys.argv[4])):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    s.settimeout(5)
    s.connect((sys.argv[1], 5061))
    s = context.wrap_socket(s)
    s.setblocking(False)
    lines.append(s)
long = "x" * 60000
end, n, sent = time.monotonic() + float(sys.argv[5]), 0, 0
while time.monotonic() < end and lines:
    for s in list(lines):
        n += 1
        data = f"MESSAGE sip:{sys.argv[1]} SIP/2.0\\r\\nVia: SIP/2.0/TLS h;branch=z9hG4bK{n};rport\\r\\nMax-Forwards: 70\\r\\nFrom: <sip:a@b;x={long[:900]}>;tag=1\\r\\nTo: <sip:{sys.argv[1]}>\\r\\nCall-ID: {n}\\r\\nCSeq: 1 MESSAGE\\r\\nX: {long[:6000]}\\r\\nContent-Length: 0\\r\\n\\r\\n".encode()
        try:
            s.send(data)
            sent += 1
        except ssl.SSLWantWriteError:
            pass
        except OSError:
            lines.remove(s)
            closed += 1
    time.sleep(0.002)
print("sent", sent, "closed", closed, flush=True)
"""


@case("siege-deaf")
def deaf(lab):
    """eight connections that ask without end and read nothing: bounded memory, another phone goes on"""
    gateway = Gateway(lab, replace=[*OPEN[:2], UNGUARDED])
    Switch(lab)
    before = settled(gateway)
    other = Phone(lab, "other", "home1", 7, "08000FA00001", LITERAL).connect()
    same(other.register().status, 200, "REGISTER")
    proc = Proc(lab.net, "home2", "deaf", lab.folder, ["python3", "-c", DEAF, GW_OUT4, *lab.pki.phone("08000FBAD001"), "8", "8"])
    highest, slowest = 0, 0.0
    while proc.running():
        start = time.monotonic()
        same(other.options().status, 200, "OPTIONS of another phone")
        slowest, highest = max(slowest, time.monotonic() - start), max(highest, gateway.held()[1])
        time.sleep(0.1)
    said = proc.text().strip()
    check("sent" in said, said[-300:])
    check(highest <= before[1] + 64, f"memory {before[1]} -> {highest} MiB; {said}")
    return f"{said}; at most {highest} MiB, the slowest OPTIONS beside it {slowest * 1000:.0f} ms; {as_before(gateway, before)}"
