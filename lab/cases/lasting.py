"""Flows over time: pings and NATs, keep-alive, slow and silent connections, half-open handshakes, who may come at all."""

import re
import threading
import time

from cases import case, check, same
from gateway import Gateway
from net import CALLER, GW_OUT4, KAMAILIO
from proc import Proc, until
from servers import listening
from sip import Caller, Phone, tls_client, token
from sipp import Sipp, answering, calling, waiting
from cases.sipp import WIRE

MACS = [f"08000FA0000{n}" for n in range(1, 6)]
HALF_OPEN = """
import socket, sys, time
held = []
while True:
    for s in held[:40]:
        s.close()
    del held[:40]
    while len(held) < 200:
        s = socket.socket()
        s.setblocking(False)
        s.connect_ex((sys.argv[1], 5061))
        held.append(s)
    time.sleep(0.1)
    for s in held[-40:]:
        try:
            s.send(bytes.fromhex("16030102000100"))
        except OSError:
            pass
    print("held", flush=True)
"""


class Deaf(Phone):
    """Answers no OPTIONS."""

    def on_other(self, wire, msg):
        if msg.method != "OPTIONS":
            super().on_other(wire, msg)


def closed_after(wire, start, noted, what):
    wire.closed.wait(60)
    noted[what] = time.monotonic() - start if wire.closed.is_set() else None


def drip(phone, text, stop):
    """One octet in five seconds."""
    for octet in text:
        if stop.wait(5) or phone.wire.closed.is_set():
            return
        try:
            phone.wire.send(octet)
        except OSError:
            return


@case("lasting-flows")
def flows(lab):
    """NAT that forgets after 6 s: a phone that pings stays reachable; OPTIONS at 10 s to one that doesn't, two misses close; one octet in 5 s and silence are closed at 10 and 15 s"""
    Gateway(lab, replace=(("[media]\n", '[fent]\nkeep_alive = "auto"\nkeep_alive_stream = 10\n\n[media]\n'),))
    lab.net.sysctl("nat1", "net.netfilter.nf_conntrack_tcp_timeout_established=6", "net.netfilter.nf_conntrack_tcp_timeout_unacknowledged=6")
    stop, noted = threading.Event(), {}
    try:
        pinging = Phone(lab, "pinging", "home1", 7, MACS[0], KAMAILIO).connect()
        silent = Phone(lab, "silent", "home2", 7, MACS[1], KAMAILIO).connect()
        deaf = Deaf(lab, "deaf", "home2", 8, MACS[2], KAMAILIO).connect()
        slow = Phone(lab, "slow", "home2", 9, MACS[3], KAMAILIO).connect()
        mute = Phone(lab, "mute", "home2", 11, MACS[4], KAMAILIO).connect()
        start = time.monotonic()
        for phone in (pinging, silent, deaf):
            same(phone.register().status, 200, "REGISTER")
        waits = [threading.Thread(target=closed_after, args=(p.wire, start, noted, p.name), daemon=True) for p in (deaf, slow, mute)]
        [w.start() for w in waits]
        threading.Thread(target=drip, args=(slow, "OPTIONS sip:x", stop), daemon=True).start()
        while time.monotonic() < start + 16:
            pinging.wire.send("\r\n\r\n")
            time.sleep(4)
        caller = Caller(lab, CALLER, KAMAILIO)
        same([caller.ring(p.mac) for p in (pinging, silent)], [180, 180], "calls to the phone that pings and to the silent one")
        check(pinging.wire.pongs >= 4, f"{pinging.wire.pongs} pongs")
        same(len(pinging.requests("OPTIONS")), 0, "OPTIONS to the phone that pings")
        check(silent.requests("OPTIONS"), "the silent phone was asked")
        waits[0].join(50)
        check(noted.get("deaf") and len(deaf.requests("OPTIONS")) >= 2, f"the deaf phone after {len(deaf.requests('OPTIONS'))} questions: {noted}")
        same(caller.ring(deaf.mac), 480, "call to the deaf phone")
        same(caller.ring(silent.mac), 180, "call to the silent phone, later")
        check(noted.get("slow") and noted["slow"] < 17, f"one octet in five seconds: closed at {noted.get('slow')}")
        check(noted.get("mute") and 13 < noted["mute"] < 18, f"silence after the handshake: closed at {noted.get('mute')}")
        return (f"{pinging.wire.pongs} pongs through NAT; silent phone asked {len(silent.requests('OPTIONS'))} times, deaf one closed at {noted['deaf']:.0f} s; "
                f"slow {noted['slow']:.0f} s, mute {noted['mute']:.0f} s")
    finally:
        stop.set()
        lab.net.sysctl("nat1", "net.netfilter.nf_conntrack_tcp_timeout_established=432000", "net.netfilter.nf_conntrack_tcp_timeout_unacknowledged=300")


@case("lasting-handshakes")
def handshakes(lab):
    """200 half-open handshakes of one address that come anew all the time: a phone behind another NAT completes a hundred, p99 < 300 ms"""
    gateway = Gateway(lab, replace=(('level = "debug"', 'level = "info"'),))
    half = Proc(lab.net, "home2", "half-open", lab.folder, ["python3", "-c", HALF_OPEN, GW_OUT4])
    took = []
    try:
        half.wait_for("held", 5)
        cert = lab.pki.phone(MACS[0])
        for _ in range(100):
            sock = lab.net.socket("home1", lab.phone_address("home1", 7))
            sock.settimeout(5)
            start = time.monotonic()
            tls = tls_client(lab, sock, cert, lab.edge_roots, lab.edge)
            tls.sendall(b"\r\n\r\n")
            same(tls.recv(2), b"\r\n", "the pong under TLS")
            took.append(time.monotonic() - start)
            tls.close()
        until("the half-open ones make way", lambda: gateway.events("a stalled TLS handshake made way"), 15)
    finally:
        half.stop()
    took.sort()
    check(took[98] < 0.3, f"p99 {took[98] * 1000:.0f} ms")
    return f"handshake and pong of another phone: median {took[50] * 1000:.0f} ms, p99 {took[98] * 1000:.0f} ms"


ROWS = '''[[sip.ports]]
name = "carrier"
interface = "outside"
port = 5060
transport = "udp+tcp"
allow_from = "carrier"
trust_source = true
[[sip.ports]]
name = "carrier-tls"
interface = "outside"
port = 5063
transport = "tls"
allow_from = "carrier"
certificate = "outside"
require_client_cert = true
trust = "authorized"
[[sip.ports]]
name = "switches"'''


def asked(lab, home, transport, port):
    """The first octets of the answer to an OPTIONS to the gateway; b"" for none."""
    sock = lab.net.socket(home, lab.phone_address(home, 7), 2 if transport == "udp" else 1)
    text = (f"OPTIONS sip:{GW_OUT4} SIP/2.0\r\nVia: SIP/2.0/{transport.upper()} h;branch=z9hG4bK{token()};rport\r\nMax-Forwards: 70\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:{GW_OUT4}>\r\n"
            f"Call-ID: {token()}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n").encode()
    sock.settimeout(1.5)
    try:
        if transport == "tls":
            sock = tls_client(lab, sock, lab.pki.phone(MACS[0]), lab.edge_roots, (GW_OUT4, port), timeout=1.5)
        else:
            sock.connect((GW_OUT4, port))
        sock.send(text)
        return sock.recv(200)
    except OSError:
        return b""
    finally:
        sock.close()


@case("lasting-allow")
def allow(lab):
    """allow_from over UDP, TCP and TLS: the carrier's address is answered, another gets nothing, the phones' row takes both"""
    Gateway(lab, replace=(("[net.networks]", '[net.networks]\ncarrier = ["198.51.100.2"]'), ('[[sip.ports]]\nname = "switches"', ROWS)))
    until("UDP 5060 is bound", lambda: listening(lab.net, "gw", 5060, "u"))
    ways = (("udp", 5060), ("tcp", 5060), ("tls", 5063), ("tls", 5061))
    got = {(home, *way): asked(lab, home, *way)[:11] for home in ("home1", "home2") for way in ways}
    for (home, transport, port), answer in got.items():
        same(answer, b"SIP/2.0 200" if home == "home1" or port == 5061 else b"", f"{transport} {port} from {home}")
    done = lab.net.run("home2", "timeout", "3", "openssl", "s_client", "-connect", f"{GW_OUT4}:5063", check=False, text="", timeout=5)
    check("Certificate chain" not in done.stdout, "openssl from outside the network sees a certificate")
    return "5060 UDP and TCP and 5063 TLS answer the carrier alone, 5061 both"


@case("lasting-hiding")
def hiding(lab):
    """what tshark sees outside of SIPp's registration and calls over UDP: no inside address in Via, Contact, Record-Route, Route or SDP"""
    gateway = Gateway(lab, replace=WIRE)
    capture = f"{lab.folder}/hiding.pcap"
    shark = Proc(lab.net, "outside", "tshark-hiding", lab.folder, ["tshark", "-q", "-n", "-i", "gw", "-f", "udp port 5060", "-w", capture])
    lab.opened.append(type("Shark", (), {"close": lambda self: shark.stop()})())
    shark.wait_for("Capturing", 10)
    time.sleep(0.7)
    callee = Sipp(lab, "home1", 7, "UDP", waiting("callee", MACS[0], 4000), beside=answering())
    until("the phone is registered at Kamailio", lambda: len(lab.kamailio.contacts()) == 1, 5)
    Sipp(lab, "home2", 8, "UDP", calling("callee"), calls=3).done()
    callee.done()
    time.sleep(0.7)
    shark.stop()
    read = lab.net.run("outside", "tshark", "-r", capture, "-n", "-d", "udp.port==5060,sip", "-Y", f"ip.src == {GW_OUT4}", "-T", "fields", "-e", "udp.payload", check=False)
    messages = [bytes.fromhex(line.replace(":", "")).decode("utf-8", "replace") for line in read.stdout.split()]
    check(len(messages) >= 20, f"{len(messages)} messages in the capture")
    shown = []
    for message in messages:
        head, _, body = message.partition("\r\n\r\n")
        rows = [r for r in head.split("\r\n")[1:] if not re.match(r"(?i)(to|t|from|f)[ \t]*:", r)]
        shown += [r for r in rows + body.split("\r\n") if re.search(r"\b10\.0\.\d", r)]
    check(not shown, f"{len(shown)} rows: {sorted(set(shown))[:6]}")
    check(any("INVITE sip" in m for m in messages) and any(m.startswith("SIP/2.0 200") and "m=audio" in m for m in messages), "an INVITE and an answer with a description are in the capture")
    same(len(gateway.events("call answered")), 6, "legs answered")
    return f"{len(messages)} messages of the gateway, none shows 10.0.*"
