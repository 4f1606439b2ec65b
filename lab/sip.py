"""SIP as literal text: what the scripted phones, the literal-text switch and the calling script send and read.

Written from the requirements with plain strings, so that a mistake of the gateway's message code can't agree with itself.
"""

import queue
import re
import secrets
import select
import socket
import ssl
import struct
import threading

import rtp

COMPACT = {"v": "via", "f": "from", "t": "to", "i": "call-id", "m": "contact", "l": "content-length", "c": "content-type", "k": "supported"}


def token():
    return secrets.token_hex(6)


class Msg:
    """One received message: start line, rows in order, body."""

    def __init__(self, raw):
        self.raw = raw
        head, _, self.body = raw.partition(b"\r\n\r\n")
        lines = re.sub(r"\r\n[ \t]+", " ", head.decode("utf-8", "replace")).split("\r\n")
        self.start = lines[0]
        self.rows = []
        for line in lines[1:]:
            name, _, value = line.partition(":")
            name = name.strip().lower()
            self.rows.append((COMPACT.get(name, name), value.strip()))
        parts = self.start.split(" ", 2)
        self.status = int(parts[1]) if parts[0] == "SIP/2.0" else None
        self.reason = parts[2] if self.status and len(parts) > 2 else ""
        self.method = None if self.status else parts[0]
        self.uri = None if self.status else parts[1]

    def all(self, name):
        return [v for n, v in self.rows if n == name.lower()]

    def one(self, name):
        return next(iter(self.all(name)), "")

    def values(self, name):
        """Rows and comma lists alike (commas inside quotes or <> do not separate)."""
        return [v.strip() for row in self.all(name) for v in re.findall(r'(?:"[^"]*"|<[^>]*>|[^,"<])+', row)]

    @property
    def branch(self):
        found = re.search(r"branch=([^;,\s]+)", self.one("via"))
        return found.group(1) if found else ""

    @property
    def text(self):
        return self.raw.decode("utf-8", "replace")

    def __repr__(self):
        return f"<{self.start} / {self.one('cseq')}>"


def tag_of(value):
    found = re.search(r";\s*tag=([^;\s]+)", value)
    return found.group(1) if found else ""


def uri_of(value):
    found = re.search(r"<([^>]*)>", value)
    return found.group(1) if found else value.split(";")[0].strip()


class Wire:
    """A connection (TLS, TCP) or UDP socket that cuts its input into messages and hands them to `on_message(wire, msg)`."""

    def __init__(self, sock, on_message, remote=None, trace=None):
        self.sock, self.on_message, self.remote, self.trace = sock, on_message, remote, trace
        self.closed = threading.Event()
        self.pongs = 0
        self._lock = threading.Lock()
        self.local = sock.getsockname()[:2]
        sock.setblocking(bool(remote))
        threading.Thread(target=self._datagrams if remote else self._stream, daemon=True).start()

    def send(self, data):
        if isinstance(data, str):
            data = data.encode()
        if self.trace:
            self.trace(">", data)
        if self.remote:
            self.sock.sendto(data, self.remote)
            return
        while data:
            with self._lock:
                try:
                    data = data[self.sock.send(data):]
                    continue
                except (ssl.SSLWantWriteError, ssl.SSLWantReadError, BlockingIOError):
                    pass
            self._ready(select.POLLOUT)

    def close(self, reset=False):
        """End the connection: FIN, or RST as when the phone loses power."""
        with self._lock:
            try:
                if reset:
                    self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            except OSError:
                pass
            self.sock.close()
        self.closed.set()

    def _deliver(self, raw):
        if self.trace:
            self.trace("<", raw)
        try:
            self.on_message(self, Msg(raw))
        except OSError:
            # Its own end was closed while it answered.
            if not self.closed.is_set():
                raise

    def _datagrams(self):
        while True:
            try:
                data, _ = self.sock.recvfrom(65536)
            except OSError:
                break
            if data.strip():
                self._deliver(data)
        self.closed.set()

    def _ready(self, what):
        """Waits a moment; select() would end at descriptor 1,024."""
        poll = select.poll()
        poll.register(self.sock, what)
        return poll.poll(50)

    def _read(self):
        """Bytes, b"" at the end, None when there is nothing yet. One thread at a time uses the TLS object."""
        try:
            if not (isinstance(self.sock, ssl.SSLSocket) and self.sock.pending()) and not self._ready(select.POLLIN):
                return None
            with self._lock:
                return self.sock.recv(65536)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
            return None
        except (OSError, ValueError):
            return b""

    def _stream(self):
        data = b""
        while True:
            more = self._read()
            if more is None:
                continue
            if not more:
                break
            data += more
            while True:
                while data.startswith(b"\r\n"):
                    data, self.pongs = data[2:], self.pongs + 1
                head, mark, rest = data.partition(b"\r\n\r\n")
                if not mark:
                    break
                found = re.search(rb"^(?:content-length|l)[ \t]*:[ \t]*(\d+)", head, re.I | re.M)
                length = int(found.group(1)) if found else 0
                if len(rest) < length:
                    break
                data = rest[length:]
                self._deliver(head + mark + rest[:length])
        self.close()


def tls_client(lab, sock, cert, roots, remote, timeout=8.0):
    """Connect `sock` and put TLS with a client certificate over it. `roots`: PEM path, or None to check nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if roots:
        context.load_verify_locations(roots)
    else:
        context.verify_mode = ssl.CERT_NONE
    if cert:
        context.load_cert_chain(*cert)
    sock.settimeout(timeout)
    sock.connect(remote)
    return context.wrap_socket(sock)


class Call:
    """A dialog from one end's view, with what it needs to be ended from here."""

    def __init__(self, agent, wire, call_id, local, remote, target, routes, cseq):
        self.agent, self.wire, self.call_id = agent, wire, call_id
        self.local, self.remote, self.target, self.routes, self.cseq = local, remote, target, routes, cseq
        self.media = None
        self.invite = None
        self.offers = []  # of the re-INVITEs that came
        self.ended = threading.Event()
        self.acked = threading.Event()

    def request(self, method, body="", timeout=6.0, extra="", wait=True):
        self.cseq += method != "ACK"
        routes = "".join(f"Route: {r}\r\n" for r in self.routes)
        kind = "Content-Type: application/sdp\r\n" if body else ""
        text = (f"{method} {self.target} SIP/2.0\r\nVia: {self.agent.via(self.wire)}\r\nMax-Forwards: 70\r\n{routes}"
                f"From: {self.local}\r\nTo: {self.remote}\r\nCall-ID: {self.call_id}\r\nCSeq: {self.cseq} {method}\r\n"
                f"Contact: {self.agent.contact(self.wire)}\r\n{extra}{kind}Content-Length: {len(body.encode())}\r\n\r\n{body}")
        if method == "ACK" or not wait:
            self.wire.send(text)
            return None
        return self.agent.transact(self.wire, text, timeout)

    def bye(self, timeout=6.0):
        answer = self.request("BYE", timeout=timeout)
        self.ended.set()
        return answer


class Agent:
    """One end that speaks SIP over one or more wires. `on_invite`: ring | answer | busy | ignore."""

    def __init__(self, lab, name):
        self.lab, self.name = lab, name
        self.received = []  # every request, in order: (wire, msg)
        self.answers = 0  # responses, expected or not
        self.pending = {}  # branch -> queue of responses
        self.calls = {}  # Call-ID -> Call
        self.on_invite = "ring"
        self.media_home = None  # (namespace, address) for RTP
        self.tone, self.ttl = 440, None
        self.talks = True  # media is sent as soon as it is known where to
        self.lock = threading.Lock()

    # what a subclass says about itself
    def via(self, wire):
        raise NotImplementedError

    def contact(self, wire):
        raise NotImplementedError

    def trace(self, mark, data):
        with open(f"{self.lab.folder}/sip-{self.name}.log", "ab") as f:
            f.write(f"--- {self.lab.stamp()} {mark}\n".encode() + data + b"\n")

    def requests(self, method, since=0):
        return [m for _, m in self.received[since:] if m.method == method]

    def transact(self, wire, text, timeout=6.0, provisional=None):
        """Send a request and wait for its final response (TimeoutError if none). `provisional` collects the 1xx."""
        branch = Msg(text.encode()).branch
        answers = self.pending[branch] = queue.Queue()
        wire.send(text)
        method = text.split(" ", 1)[0]
        while True:
            try:
                msg = answers.get(timeout=timeout)
            except queue.Empty:
                raise TimeoutError(f"{self.name}: no final response to {method} in {timeout:g} s") from None
            if msg.status >= 200:
                if method == "INVITE" and msg.status >= 300:
                    self._ack_failure(wire, text, msg)
                return msg
            if provisional is not None:
                provisional.append(msg)

    def _ack_failure(self, wire, invite, answer):
        head = Msg(invite.encode())
        routes = "".join(f"Route: {r}\r\n" for r in head.all("route"))
        ack = (f"ACK {head.uri} SIP/2.0\r\nVia: {head.all('via')[0]}\r\nMax-Forwards: 70\r\n{routes}From: {head.one('from')}\r\nTo: {answer.one('to')}\r\n"
                  f"Call-ID: {head.one('call-id')}\r\nCSeq: {head.one('cseq').split()[0]} ACK\r\nContent-Length: 0\r\n\r\n")
        try:
            wire.send(ack)
        except OSError:
            pass  # who refused has closed the connection: nobody waits for it

    def message(self, wire, msg):
        if msg.status:
            self.answers += 1
            waiting = self.pending.get(msg.branch)
            if waiting:
                waiting.put(msg)
            return
        self.received.append((wire, msg))
        handler = getattr(self, f"on_{msg.method.lower()}_request", None)
        (handler or self.on_other)(wire, msg)

    def respond(self, wire, msg, status, reason, extra="", body="", to_tag=None):
        rows = "".join(f"Via: {v}\r\n" for v in msg.all("via")) + "".join(f"Record-Route: {v}\r\n" for v in msg.all("record-route"))
        to = msg.one("to")
        if to_tag and not tag_of(to):
            to += f";tag={to_tag}"
        kind = "Content-Type: application/sdp\r\n" if body else ""
        wire.send(f"SIP/2.0 {status} {reason}\r\n{rows}From: {msg.one('from')}\r\nTo: {to}\r\nCall-ID: {msg.one('call-id')}\r\nCSeq: {msg.one('cseq')}\r\n"
                  f"{extra}{kind}Content-Length: {len(body.encode())}\r\n\r\n{body}")

    def on_other(self, wire, msg):
        self.respond(wire, msg, 200, "OK", to_tag=token())

    def on_invite_request(self, wire, msg):
        call = self.calls.get(msg.one("call-id"))
        if call and tag_of(msg.one("to")):
            if call.ended.is_set():
                self.respond(wire, msg, 481, "No such call")
                return
            call.offers.append(msg.body)
            self.respond(wire, msg, 200, "OK", f"Contact: {self.contact(wire)}\r\n", call.media.sdp() if call.media else "")
            return
        if self.on_invite == "ignore":
            return
        tag = token()
        call = Call(self, wire, msg.one("call-id"), f"{msg.one('to')};tag={tag}", msg.one("from"), uri_of(msg.one("contact")), msg.values("record-route"), 100)
        call.invite, call.tag = msg, tag
        self.calls[call.call_id] = call
        contact = f"Contact: {self.contact(wire)}\r\n"
        if self.on_invite == "busy":
            self.respond(wire, msg, 486, "Busy Here", to_tag=tag)
            return
        self.respond(wire, msg, 180, "Ringing", contact, to_tag=tag)
        if self.on_invite == "answer":
            self.answer(call)

    def answer(self, call):
        body = ""
        if call.invite.body:
            call.media = self.open_media()
            call.media.aim(call.invite.body, self.talks)
            body = call.media.sdp()
        self.respond(call.wire, call.invite, 200, "OK", f"Contact: {self.contact(call.wire)}\r\n", body, to_tag=call.tag)

    def on_ack_request(self, wire, msg):
        call = self.calls.get(msg.one("call-id"))
        if call:
            call.acked.set()

    def on_bye_request(self, wire, msg):
        call = self.calls.get(msg.one("call-id"))
        self.respond(wire, msg, 200 if call else 481, "OK" if call else "No such call")
        if call:
            call.ended.set()

    def on_cancel_request(self, wire, msg):
        call = self.calls.get(msg.one("call-id"))
        self.respond(wire, msg, 200, "OK", to_tag=token())
        if call and call.invite:
            self.respond(call.wire, call.invite, 487, "Request Terminated", to_tag=call.tag)
            call.ended.set()

    def open_media(self):
        return rtp.Media(self.lab, *self.media_home, tone=self.tone, ttl=self.ttl)

    def invite_text(self, wire, target, call_id, local, body, extra="", to=None):
        kind = "Content-Type: application/sdp\r\n" if body else ""
        return (f"INVITE {target} SIP/2.0\r\nVia: {self.via(wire)}\r\nMax-Forwards: 70\r\nFrom: {local}\r\nTo: {to or f'<{target}>'}\r\n"
                f"Call-ID: {call_id}\r\nCSeq: 1 INVITE\r\nContact: {self.contact(wire)}\r\nAllow: INVITE, ACK, CANCEL, BYE, OPTIONS, NOTIFY\r\n"
                f"{extra}{kind}Content-Length: {len(body.encode())}\r\n\r\n{body}")

    def start_call(self, wire, target, local, media=True, timeout=8.0, extra="", to=None):
        """INVITE and wait for a final response; on 2xx the ACK is sent. Returns (Call or None, final response)."""
        call_id, local = f"{token()}@lab", f"{local};tag={token()}"
        session = self.open_media() if media else None
        text = self.invite_text(wire, target, call_id, local, session.sdp() if session else "", extra, to)
        final = self.transact(wire, text, timeout)
        if final.status >= 300:
            if session:
                session.close()
            return None, final
        call = Call(self, wire, call_id, local, final.one("to"), uri_of(final.one("contact")), final.values("record-route")[::-1], 1)
        self.calls[call_id] = call
        call.request("ACK")
        if session:
            call.media = session
            session.aim(final.body, self.talks)
        return call, final

    def ring_once(self, wire, target, local, seconds=3.0, extra="", to=None):
        """INVITE without SDP, wait for 180 or a final response, then CANCEL. Returns the status seen (180, 404, …)."""
        call_id, local = f"{token()}@lab", f"{local};tag={token()}"
        text = self.invite_text(wire, target, call_id, local, "", extra, to)
        head = Msg(text.encode())
        answers = self.pending[head.branch] = queue.Queue()
        wire.send(text)
        while True:
            try:
                msg = answers.get(timeout=seconds)
            except queue.Empty:
                return 0
            if msg.status >= 300:
                self._ack_failure(wire, text, msg)
                return msg.status
            if msg.status >= 180:
                break
        cancel = (f"CANCEL {target} SIP/2.0\r\nVia: {head.all('via')[0]}\r\nMax-Forwards: 70\r\nFrom: {local}\r\nTo: {head.one('to')}\r\n"
                  f"Call-ID: {call_id}\r\nCSeq: 1 CANCEL\r\nContent-Length: 0\r\n\r\n")
        wire.send(cancel)
        while True:
            try:
                final = answers.get(timeout=seconds)
            except queue.Empty:
                raise TimeoutError(f"{self.name}: no final response to the INVITE after its CANCEL in {seconds:g} s") from None
            if final.status >= 300:
                self._ack_failure(wire, text, final)
                return 180


class Phone(Agent):
    """A scripted 6900: the literal messages of the seed's phones, mutual TLS, one connection."""

    def __init__(self, lab, name, home, number, mac, switch, family=4):
        super().__init__(lab, name)
        self.home, self.mac, self.switch = home, mac, switch
        self.address = lab.phone_address(home, number, family)
        self.host = f"[{self.address}]" if family == 6 else self.address
        self.media_home = (home, self.address)
        self.user = "anonymous"
        self.wire = None
        self.reg_call_id, self.reg_cseq = f"{token()}@{self.address}", 0
        lab.opened.append(self)

    def via(self, wire):
        return f"SIP/2.0/TLS {self.host}:{wire.local[1]};branch=z9hG4bK-{token()};rport;alias"

    def contact(self, wire):
        return f"<sips:{self.user}@{self.host}>"

    def connect(self, port=0):
        edge = self.lab.edge6 if ":" in self.address else self.lab.edge
        sock = self.lab.net.socket(self.home, self.address, port=port)
        tls = tls_client(self.lab, sock, self.lab.pki.phone(self.mac), self.lab.edge_roots, edge)
        self.wire = Wire(tls, self.message, trace=self.trace)
        return self

    def instance_contact(self, expires=3600):
        return f'<sips:anonymous@{self.host}>;+sip.instance="<urn:uuid:00000000-0000-1000-8000-{self.mac}>";expires={expires}'

    def register(self, expires=3600, contact=None, timeout=6.0):
        self.reg_cseq += 1
        text = (f"REGISTER sips:{self.switch} SIP/2.0\r\n"
                f"Via: {self.via(self.wire)}\r\n"
                f"Max-Forwards: 70\r\n"
                f"From: <sips:anonymous@{self.switch}>;tag={token()}\r\n"
                f"To: <sips:anonymous@{self.switch}>\r\n"
                f"Call-ID: {self.reg_call_id}\r\n"
                f"CSeq: {self.reg_cseq} REGISTER\r\n"
                f"Contact: {contact or self.instance_contact(expires)}\r\n"
                f"Supported: gruu, replaces, join, 100rel, timer\r\n"
                f"User-Agent: Mitel-6930/6.2.0.1012\r\n"
                f"Content-Length: 0\r\n\r\n")
        return self.transact(self.wire, text, timeout)

    def options(self, timeout=6.0):
        text = (f"OPTIONS sips:{self.switch} SIP/2.0\r\nVia: {self.via(self.wire)}\r\nMax-Forwards: 70\r\nFrom: <sips:anonymous@{self.switch}>;tag={token()}\r\n"
                f"To: <sips:{self.switch}>\r\nCall-ID: {token()}@{self.address}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n")
        return self.transact(self.wire, text, timeout)

    def call(self, target, **how):
        return self.start_call(self.wire, target, f"<sips:anonymous@{self.switch}>", **how)

    def ring_count(self):
        return len(self.requests("INVITE"))

    def close(self):
        for call in self.calls.values():
            if call.media:
                call.media.close()
        if self.wire:
            self.wire.close()


class Caller(Agent):
    """The script on the inside that asks Kamailio, over UDP, for a call to one stored instance."""

    def __init__(self, lab, address, switch, port=5070, home="inside"):
        super().__init__(lab, "caller")
        self.address, self.switch, self.port = address, switch, port
        self.media_home = (home, address)
        sock = lab.net.socket(home, address, socket.SOCK_DGRAM, port)
        self.wire = Wire(sock, self.message, remote=(switch, 5060), trace=self.trace)
        lab.opened.append(self)

    def via(self, wire):
        return f"SIP/2.0/UDP {self.address}:{self.port};branch=z9hG4bK-{token()};rport"

    def contact(self, wire):
        return f"<sip:caller@{self.address}:{self.port}>"

    @property
    def local(self):
        return f"<sip:caller@{self.switch}>"

    def ring(self, mac, seconds=3.0):
        return self.ring_once(self.wire, f"sip:inst-{mac}@{self.switch}", self.local, seconds)

    def call(self, mac, **how):
        return self.start_call(self.wire, f"sip:inst-{mac}@{self.switch}", self.local, **how)

    def close(self):
        for call in self.calls.values():
            if call.media:
                call.media.close()
        self.wire.close()
