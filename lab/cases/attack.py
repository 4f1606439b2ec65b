"""The attack table S1 to S19 over TLS, TCP and UDP: what a stranger on the Internet may try against the signalling, and what must come of it.

A decoy waits wherever a message must not go; the switch inside writes down everything that reaches it.
"""

import queue
import re
import socket
import threading
import time

from cases import Failed, case, check, same
from gateway import Gateway
from net import FORBIDDEN, GW_IN4, GW_OUT4, LITERAL
from proc import until
from sip import Agent, Msg, Phone, Wire, tls_client, token
from switch import Switch

OUT_DECOY = "203.0.113.1"  # a host on the Internet segment
STREAMS = ("tls", "tcp")
SECRET_ROWS = ("P-Asserted-Identity", "p-asserted-identity", "P-Preferred-Identity", "Remote-Party-ID", "P-Charging-Vector", "P-Access-Network-Info", "Identity", "History-Info",
               "Diversion", "P-Asserted-Identity ")
PLAIN_ROW = '''[[sip.ports]]
name = "plain"
interface = "outside"
port = 5060
transport = "udp+tcp"
allow_from = "homes"
trust_source = true
[[sip.ports]]
name = "switches"'''


class Decoy:
    """TCP and UDP on one address: whatever comes here is a fault."""

    def __init__(self, lab, namespace, address):
        self.got = []
        self.tcp = [lab.net.socket(namespace, address, port=port) for port in (5060, 5061)]
        self.udp = [lab.net.socket(namespace, address, socket.SOCK_DGRAM, port) for port in (5060, 5061)]
        for s in self.tcp:
            s.listen(8)
            threading.Thread(target=self._run, args=(s.accept, s), daemon=True).start()
        for s in self.udp:
            threading.Thread(target=self._run, args=(lambda s=s: s.recvfrom(65536), s), daemon=True).start()
        lab.opened.append(self)

    def _run(self, get, s):
        while True:
            try:
                self.got.append(get())
            except OSError:
                return

    def close(self):
        for s in self.tcp + self.udp:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            s.close()


class Stranger(Agent):
    """Somebody with a good certificate (or an address that is let in) and bad manners."""

    def __init__(self, lab, transport, mac="08000FBAD001", home="home2", number=9):
        super().__init__(lab, f"stranger-{transport}-{mac}")
        self.transport, self.mac, self.home = transport, mac, home
        self.address = lab.phone_address(home, number)
        self.wire = None
        self.trace = lambda mark, data: None
        lab.opened.append(self)
        self.connect()

    def connect(self):
        self.close()
        if self.transport == "udp":
            self.wire = Wire(self.lab.net.socket(self.home, self.address, socket.SOCK_DGRAM), self.message, remote=(GW_OUT4, 5060))
            return self
        sock = self.lab.net.socket(self.home, self.address)
        if self.transport == "tls":
            sock = tls_client(self.lab, sock, self.lab.pki.phone(self.mac), self.lab.edge_roots, self.lab.edge)
        else:
            sock.settimeout(5)
            sock.connect((GW_OUT4, 5060))
        self.wire = Wire(sock, self.message)
        return self

    def via(self, wire=None):
        return f"SIP/2.0/{self.transport.upper()} {self.address}:{self.wire.local[1]};branch=z9hG4bK-{token()};rport"

    def contact(self, wire=None):
        return f"<sip:anonymous@{self.address}:{self.wire.local[1]};transport={self.transport}>"

    def text(self, method="OPTIONS", uri=f"sip:100@{LITERAL}", drop=(), rows=(), change=(), body="", version="SIP/2.0", length=True):
        """A request; `rows` are added, `drop` names are left out, `change` replaces text of the whole."""
        head = [("Via", self.via()), ("Max-Forwards", "70"), ("From", f"<sip:anonymous@{LITERAL}>;tag={token()}"), ("To", f"<{uri}>"), ("Call-ID", token()),
                ("CSeq", f"1 {method}"), ("Contact", self.contact())]
        head = [(n, v) for n, v in head if n not in drop] + list(rows)
        if length:
            head.append(("Content-Length", str(len(body))))
        text = f"{method} {uri} {version}\r\n" + "".join(f"{n}: {v}\r\n" for n, v in head) + f"\r\n{body}"
        for old, new in change:
            check(old in text, f"{old!r} is in the request")
            text = text.replace(old, new)
        return text

    def register(self, mac=None, seconds=3.0, rows=(), user="anonymous"):
        contact = f'<sip:{user}@{self.address}:{self.wire.local[1]};transport={self.transport}>;+sip.instance="<urn:uuid:00000000-0000-1000-8000-{mac or self.mac}>";expires=600'
        text = self.text("REGISTER", f"sip:{LITERAL}", drop=("Contact",), rows=[("Contact", contact), *rows])
        return self.ask(text.replace(f"To: <sip:{LITERAL}>", f"To: <sip:{user}@{LITERAL}>"), seconds)

    def ask(self, text, seconds=1.5):
        """The first answer, 100 aside: its Msg, "closed", or None for silence."""
        data = text.encode("latin-1") if isinstance(text, str) else text
        found = re.search(rb"branch=([^;,\s]+)", data)
        answers = self.pending[found.group(1).decode("latin-1") if found else ""] = queue.Queue()
        try:
            self.wire.send(data)
        except OSError:
            return "closed"
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                answer = answers.get(timeout=0.05)
                if answer.status > 100:
                    return answer
            except queue.Empty:
                if self.wire.closed.is_set() and answers.empty():
                    return "closed"
        return None

    def close(self):
        if self.wire:
            self.wire.close()


def status(answer):
    return answer.status if isinstance(answer, Msg) else answer


class Stage:
    """The gateway, the switch that writes down what it gets, the decoys, one stranger; and what the process held at the start."""

    def __init__(self, lab, transport):
        self.lab, self.transport = lab, transport
        replace = [('level = "debug"', 'level = "info"'), ('vphones    =', 'homes      = ["198.51.100.0/24"]\nvphones    =')]
        # The guard would block the stranger after a few of these; it has a case of its own.
        replace.append(("[log]\n", '[guard]\nallow = ["homes"]\n[guard.limits]\nbindings_per_address = 10\n\n[log]\n'))
        if transport != "tls":
            replace.append(('[[sip.ports]]\nname = "switches"', PLAIN_ROW))
        self.gateway = Gateway(lab, replace=replace)
        self.switch = Switch(lab)
        self.decoys = [Decoy(lab, "inside", FORBIDDEN), Decoy(lab, "outside", OUT_DECOY)]
        self.stranger = Stranger(lab, transport)
        self.wrong = []
        same(status(self.stranger.ask(self.stranger.text())), 200, "an OPTIONS to the switch passes")
        # The relay opens its ports ahead of need.
        until("the gateway has opened what it wants", lambda: self.gateway.held()[0] == (time.sleep(0.5), self.gateway.held()[0])[1], 10)
        self.descriptors, self.memory = self.gateway.held()

    def inside(self):
        return len(self.switch.received)

    def expect(self, row, text, wanted, reach=0, says=None):
        """Sends it: the status (or "closed", None; a set of those), how many requests reach the switch; reconnects after a close."""
        before = self.inside()
        answer = self.stranger.ask(text)
        got = status(answer)
        wanted = wanted if isinstance(wanted, set) else {wanted}
        if got not in wanted:
            self.wrong.append(f"{row}: {got}, expected {wanted}: {text[:90]!r}")
        elif says and isinstance(answer, Msg) and says.lower() not in answer.text.split("\r\n\r\n")[0].lower():
            self.wrong.append(f"{row}: {answer.start!r} does not say {says}")
        if self.transport == "udp" and isinstance(answer, Msg) and len(answer.raw) >= 3 * len(text):
            self.wrong.append(f"S19: {len(text)} octets are answered with {len(answer.raw)}")
        time.sleep(0.03)
        if self.inside() - before > reach:
            self.wrong.append(f"{row}: {self.inside() - before} reached the switch: {text[:90]!r}")
        if self.wire_lost():
            self.stranger.connect()
        return answer

    def wire_lost(self):
        if self.transport == "udp":
            return False
        time.sleep(0.02)
        return self.stranger.wire.closed.is_set()

    def end(self):
        caught = [bool(d.got) for d in self.decoys]
        if any(caught):
            self.wrong.append(f"the decoys got something: {[d.got[:2] for d in self.decoys]}")
        # The stranger has used up what its address may have; somebody else has not.
        other = Phone(self.lab, "afterwards", "home1", 8, "08000FA00002", LITERAL).connect()
        try:
            until("a phone registers and asks", lambda: other.register().status == 200 and other.options().status == 200, 20)
        except TimeoutError as problem:
            self.wrong.append(f"afterwards: {problem}")
        descriptors, memory = self.gateway.held()
        if descriptors > self.descriptors + 50:
            self.wrong.append(f"descriptors: {self.descriptors} -> {descriptors}")
        if memory > self.memory + 64:
            self.wrong.append(f"memory: {self.memory} -> {memory} MiB")
        check(not self.wrong, f"{len(self.wrong)} faults: " + " | ".join(self.wrong[:12]))
        return f"descriptors {self.descriptors} -> {descriptors}, memory {self.memory} -> {memory} MiB"


def s1_s2_s3(stage):
    s, stream = stage.stranger, stage.transport in STREAMS
    refused = {400, "closed"} if stream else {400}
    for field in ("From", "To", "Call-ID", "CSeq"):
        stage.expect("S1", s.text(drop=(field,)), refused, says=field)
    stage.expect("S1", s.text(drop=("Via",)), {None, "closed"})
    for name, value in (("From", "<sip:b@x>;tag=2"), ("To", "<sip:b@x>"), ("CSeq", "2 OPTIONS"), ("Call-ID", "twice"), ("Max-Forwards", "3")):
        stage.expect("S1", s.text(rows=[(name, value)]), refused, says=name)
    stage.expect("S1", s.text(version="SIP/2.0 junk"), {400, 505, "closed", None})
    stage.expect("S1", s.text().replace("OPTIONS sip", "OPT IONS sip", 1), {400, 501, "closed", None})
    for bad in ("\0", "\r", "\n", "\x07", "\x1b"):
        for row in ("Subject", "X-Any", "Contact"):
            stage.expect("S2", s.text("MESSAGE", drop=(row,), rows=[(row, f"<sip:a@b>;x=1{bad}X-Injected: yes")]), {400, "closed", None})
        stage.expect("S2", s.text("MESSAGE", uri=f"sip:100{bad}x@{LITERAL}"), {400, "closed", None})
    stage.expect("S3", s.text(version="SIP/3.0"), {505})
    stage.expect("S3", s.text(uri="nobodyKnowsThisScheme:totallyopaquecontent"), {416})
    stage.expect("S3", s.text(rows=[("Proxy-Require", "nothingSupportsThis")]), {420}, says="Unsupported: nothingSupportsThis")


def s4_s5_s6(stage):
    s, stream = stage.stranger, stage.transport in STREAMS
    for lengths in (["4", "5"], ["-1"], ["+4"], ["0x4"], ["4, 4"], ["4294967297"], ["99999999999999999999"], ["131073"], ["4 4"]):
        for compact in ("Content-Length", "l"):
            rows = [(compact if n else "Content-Length", value) for n, value in enumerate(lengths)]
            rows = [(compact, v) for _, v in rows] if len(lengths) == 1 else rows
            wire = s.wire
            stage.expect("S4", s.text("MESSAGE", rows=rows, body="body", length=False), {400, 413, "closed"})
            if stream and not wire.closed.wait(2):
                stage.wrong.append(f"S4: {lengths} leaves the stream open")
            if stream and s.wire is wire:
                s.connect()
    if stream:
        answer = s.ask(s.text(length=False))
        if status(answer) not in (400, "closed") or not s.wire.closed.wait(2):
            stage.wrong.append(f"S5: {status(answer)} and open")
        s.connect()
    else:
        stage.expect("S5 (message-framed)", s.text(length=False), 200, reach=1)
    for via in (f"SIP/2.0/UDP {OUT_DECOY}:5060;branch=z9hG4bKs6", f"SIP/2.0/UDP {GW_OUT4};branch=z9hG4bKs6, SIP/2.0/UDP {FORBIDDEN};branch=z9hG4bKx",
                f"SIP/2.0/UDP {GW_IN4}:5061;branch=z9hG4bKs6\r\nVia: SIP/2.0/UDP {OUT_DECOY}:5060;branch=z9hG4bKy"):
        text = f"SIP/2.0 200 OK\r\nVia: {via}\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>;tag=2\r\nCall-ID: {token()}\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"
        stage.expect("S6", text, None)


def s7_s8(stage):
    s, switch = stage.stranger, stage.switch
    stage.expect("S7", s.text("MESSAGE", change=[("Max-Forwards: 70", "Max-Forwards: 0")]), 483)
    for given, wanted in (("Max-Forwards: 255\r\n", "69"), ("", "70"), ("Max-Forwards: 2\r\n", "1")):
        stage.expect("S7", s.text("MESSAGE", change=[("Max-Forwards: 70\r\n", given)]), 200, reach=1)
        got = switch.received[-1][1].one("max-forwards")
        if got != wanted:
            stage.wrong.append(f"S7: {given!r} arrives as {got!r}")
    decoys = [OUT_DECOY, FORBIDDEN, f"{OUT_DECOY}:5061;transport=tcp"]
    for decoy in decoys:
        stage.expect("S8", s.text("MESSAGE", rows=[("Route", f"<sip:{decoy};lr>")]), {200, 403}, reach=1)
        stage.expect("S8", s.text("MESSAGE", rows=[("Route", f"<sip:{GW_OUT4};lr>, <sip:{decoy};lr>")]), {200, 403}, reach=1)
        stage.expect("S8", s.text("MESSAGE", uri=f"sip:100@{decoy}"), {403, 404})
        stage.expect("S8", s.text("MESSAGE", uri=f"sip:100@{LITERAL};maddr={decoy.split(':')[0]}"), {200, 403}, reach=1)
        for row in ("Record-Route", "Path", "Service-Route"):
            stage.expect("S8", s.text("MESSAGE", rows=[(row, f"<sip:{decoy};lr>")]), {200, 403, 400}, reach=1)
    stage.expect("S8", s.text("MESSAGE", uri="sip:100@decoy.invalid"), 403)
    stage.expect("S8", s.text("MESSAGE", uri="sip:100@127.0.0.1"), 403)
    stage.expect("S8", s.text("MESSAGE", uri=f"sip:100@[::ffff:{FORBIDDEN}]"), {403, 400})


def s9_s10_s11(stage):
    s, switch = stage.stranger, stage.switch
    own = [("Route", f"<sip:{GW_OUT4};lr>")] * 30
    stage.expect("S9", s.text("MESSAGE", rows=own), {200, 482, 483, 403}, reach=1)
    stage.expect("S9", s.text("MESSAGE", uri=f"sip:100@{GW_OUT4}"), {404, 403, 482, 483, 200}, reach=1)
    stage.expect("S9", s.text("MESSAGE", uri=f"sip:100@{GW_IN4}:5061"), {404, 403, 482, 483, 200}, reach=1)
    for extra in (f";received={OUT_DECOY}", f";maddr={OUT_DECOY}", f";received={FORBIDDEN};rport=5060", ";rport=9"):
        stage.expect("S10", s.text().replace(";rport", extra, 1), {200, 400}, reach=1)
    stage.expect("S10", s.text().replace(f"{s.address}:{s.wire.local[1]};branch", f"{OUT_DECOY}:5060;branch", 1), 200, reach=1)
    for name in SECRET_ROWS:
        stage.expect("S11", s.text("MESSAGE", rows=[(name, '"Boss" <sip:boss@hq>;party=calling')]), {200, 400}, reach=1)
        got = switch.received[-1][1]
        if any(n == name.strip().lower() for n, _ in got.rows) and got.method == "MESSAGE":
            stage.wrong.append(f"S11: {name!r} reached the switch")


def s12_s13(stage):
    s, switch = stage.stranger, stage.switch
    victim = Phone(stage.lab, "victim", "home1", 7, "08000FA00001", LITERAL).connect()
    same(victim.register().status, 200, "REGISTER of the phone to be reached")
    uri, _ = switch.binding(victim.mac)
    crt = re.search(r"crt=([^;>]+)", uri).group(1)
    for guess in (crt, crt[:-1], crt + "a", crt[:-1] + ("a" if crt[-1] != "a" else "b"), "a" * len(crt), "", "%00", "../../etc"):
        stage.expect("S12", s.text("MESSAGE", uri=f"sip:anonymous@{GW_OUT4};crt={guess}"), {403, 404, 400})
        stage.expect("S12", s.text("MESSAGE", rows=[("Route", f"<sip:{GW_OUT4};lr;ft={guess}>")], uri=f"sip:anonymous@{GW_OUT4}"), {403, 404, 400})
    same(len(victim.received), 0, "requests that reached the phone")
    for method in ("BYE", "INVITE", "UPDATE", "INFO", "NOTIFY", "REFER", "SUBSCRIBE", "MESSAGE", "PRACK"):
        stage.expect("S13", s.text(method, change=[(f"To: <sip:100@{LITERAL}>", f"To: <sip:100@{LITERAL}>;tag=guess")]), 481)
    ack = s.text("ACK", change=[(f"To: <sip:100@{LITERAL}>", f"To: <sip:100@{LITERAL}>;tag=guess")])
    stage.expect("S13", ack, None)
    victim.close()


def s14(stage):
    """2,000 address-of-records by one peer; the others go on."""
    s = stage.stranger
    other = Phone(stage.lab, "other", "home1", 8, "08000FA00002", LITERAL).connect()
    same(other.register().status, 200, "REGISTER of another phone")
    accepted = 0
    for n in range(60):
        answer = s.register(mac=f"0800AA{n:06X}", seconds=2, user=f"flood{n}")
        accepted += status(answer) == 200
        if stage.wire_lost():
            s.connect()
    if not 1 <= accepted <= 10:
        stage.wrong.append(f"S14: {accepted} registrations accepted of one peer")
    start = time.monotonic()
    for n in range(2000):
        try:
            s.wire.send(s.text("REGISTER", f"sip:{LITERAL}", change=[(f"To: <sip:{LITERAL}>", f"To: <sip:flood{n}@{LITERAL}>")]))
        except OSError:
            s.connect()
    asked = time.monotonic()
    same(other.options(timeout=3).status, 200, "S14: OPTIONS of another phone under the flood")
    took = time.monotonic() - asked
    check(took < 2, f"S14: another phone's OPTIONS took {took:.1f} s")
    other.close()
    time.sleep(0.5)
    s.connect()
    return f"2,000 REGISTERs in {asked - start:.1f} s, {accepted} accepted of one peer, another phone's OPTIONS {took * 1000:.0f} ms"


def slow(stage):
    """S16 and SIP-10 on streams: half requests, silence."""
    lab, transport = stage.lab, stage.transport
    half = Stranger(lab, transport, number=8)
    half.wire.send(half.text()[:40])
    held = [Stranger(lab, transport, number=8) for _ in range(5)]
    for n, one in enumerate(held):
        one.wire.send("OPTIONS sip:x SIP/2.0\r\n" if n % 2 else "\r\n")
    start = time.monotonic()
    check(half.wire.closed.wait(13), "S16: half a request is closed within 10 s")
    took = time.monotonic() - start
    return f"half a request closed after {took:.0f} s"


def run(lab, transport):
    stage = Stage(lab, transport)
    for part in (s1_s2_s3, s4_s5_s6, s7_s8, s9_s10_s11, s12_s13):
        part(stage)
    more = [s14(stage)]
    if transport in STREAMS:
        more.append(slow(stage))
    time.sleep(0.5)
    return "; ".join([stage.end(), *more])


@case("attack-tls")
def over_tls(lab):
    """S1 to S14 and S16 by a peer with a good certificate: refused as the table says, nothing at the decoys, memory and descriptors flat"""
    return run(lab, "tls")


@case("attack-tcp")
def over_tcp(lab):
    """the same over TCP from a network whose addresses are trusted"""
    return run(lab, "tcp")


@case("attack-udp")
def over_udp(lab):
    """the same over UDP from a network whose addresses are trusted, and S19: no answer is three times its question"""
    return run(lab, "udp")


def failed_handshake(lab, **how):
    """True when nothing is answered under TLS."""
    sock = lab.net.socket("home1", lab.phone_address("home1", 7))
    try:
        tls = tls_client(lab, sock, how.get("cert"), lab.edge_roots, lab.edge, timeout=4)
        tls.sendall(f"OPTIONS sip:{LITERAL} SIP/2.0\r\nVia: SIP/2.0/TLS h;branch=z9hG4bKa\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:b@b>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n".encode())
        return not tls.recv(100)
    except OSError:
        return True
    finally:
        sock.close()


def bad_certificates(lab):
    """{what: (certificate, key)} of S17, and the revocation list; made with openssl."""
    pki, made = lab.pki, {}

    def phone(what, mac, *how, root="makers"):
        pki.certificate(root, f"phones/{what}", mac, *how)
        made[what] = (pki.path(f"phones/{what}.pem"), pki.path(f"phones/{what}.key"))
    phone("expired", "08000FE00001", "-not_before", "20200101000000Z", "-not_after", "20210101000000Z")
    phone("not-yet-valid", "08000FE00002", "-not_before", "20490101000000Z", "-not_after", "20500101000000Z")
    phone("revoked", "08000FE00003")
    phone("of-a-stranger", "08000FE00004", root="stranger")
    pki.revoke("makers", "phones/revoked.pem", "makers.crl")
    pki.issue("makers", "phones/as-authority", "08000FE00005", "clientAuth")
    phone("of-a-leaf", "08000FE00006", root="phones/as-authority")
    with open(made["of-a-leaf"][0], "a") as chain, open(pki.path("phones/as-authority.pem")) as above:
        chain.write(above.read())
    made["none"] = None
    return made


@case("attack-certificates")
def certificates(lab):
    """S17 and S18: no, strange, expired, future, revoked, leaf-issued certificates and old TLS are answered with nothing"""
    bad = bad_certificates(lab)
    Gateway(lab, replace=[("crls = []", f'crls = ["{lab.pki.path("makers.crl")}"]')])
    wrong = [what for what, cert in bad.items() if not failed_handshake(lab, cert=cert)]
    check(not wrong, f"accepted: {wrong}")
    good = Phone(lab, "good", "home1", 8, "08000FA00002", LITERAL).connect()
    Switch(lab)
    same(good.register().status, 200, "a good certificate of the same maker")
    cert, key = lab.pki.phone("08000FA00002")
    for what, args in (("TLS 1.1", ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]), ("static RSA", ["-tls1_2", "-cipher", "AES128-GCM-SHA256"]), ("CBC", ["-tls1_2", "-cipher", "ECDHE-RSA-AES128-SHA256"])):
        done = lab.net.run("home1", "openssl", "s_client", "-connect", f"{GW_OUT4}:5061", "-cert", cert, "-key", key, *args, check=False, text="", timeout=10)
        if re.search(r"Cipher is (?!\(NONE\))", done.stdout):
            raise Failed(f"S18: {what} was accepted")
    done = lab.net.run("home1", "timeout", "3", "openssl", "s_client", "-connect", f"{GW_OUT4}:5061", "-cert", cert, "-key", key, "-tls1_2", check=False, text="R\n", timeout=10)
    check("Cipher is ECDHE" in done.stdout, "TLS 1.2 with ECDHE is spoken")
    before, _, after = done.stderr.partition("RENEGOTIATING")
    check("verify return" in before and "verify return" not in after, f"S18: a renegotiation was answered: {after[:200]}")
    plain = lab.net.socket("home1", lab.phone_address("home1", 7))
    plain.settimeout(5)
    plain.connect((GW_OUT4, 5061))
    plain.sendall(b"OPTIONS sip:x SIP/2.0\r\n\r\n")
    said = plain.recv(200)
    check(not said or said[0] == 21, f"S18: plain text on the TLS port is answered with {said!r}")
    return f"{len(bad)} kinds of bad certificate (revoked by a list among them), TLS 1.1, static RSA, CBC, renegotiation, plain text: nothing answered; a good one registers"
