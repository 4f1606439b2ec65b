"""Without a gateway (--direct): the same phones against Kamailio and the other servers, so that later only the gateway is unknown."""

import socket
import ssl
import struct
import threading
import time

import rtp
from cases import Failed, audio, case, check, same, ttl
from cases.tags import everybody, ring_each
from net import CALLER, GW_OUT4, GW_OUT6, HOME6, HOPS, KAMAILIO, LITERAL, NAT4, PEBBLE
from proc import until
from sip import Caller, Phone, Wire, tls_client
from switch import Switch


def seen_as(lab, home, source, target):
    """The address under which `target` in the gateway's namespace sees a connection from `source`."""
    server = lab.net.socket("gw", target, port=7000)
    client = lab.net.socket(home, source)
    try:
        server.listen()
        client.settimeout(3)
        client.connect((target, 7000))
        peer, address = server.accept()
        peer.close()
        return address[0]
    finally:
        client.close()
        server.close()


@case("direct-nat", direct=True)
def nat(lab):
    """both homes reach the outside, masqueraded in IPv4 and as themselves in IPv6; nothing new comes in"""
    for home in ("home1", "home2"):
        same(seen_as(lab, home, lab.phone_address(home, 7), GW_OUT4), NAT4[home], f"{home} in IPv4")
        same(seen_as(lab, home, lab.phone_address(home, 7, 6), GW_OUT6), HOME6[home].format(7), f"{home} in IPv6")
        inner = lab.net.socket(home, lab.phone_address(home, 7, 6), port=7001)
        inner.listen()
        knock = lab.net.socket("gw", GW_OUT6)
        knock.settimeout(1)
        try:
            knock.connect((lab.phone_address(home, 7, 6), 7001))
            check(False, f"{home}: a connection from outside came in")
        except OSError:
            pass
        finally:
            knock.close()
            inner.close()
    return "2 homes, IPv4 and IPv6; unasked connections stay out"


@case("direct-tags", direct=True)
def direct_tags(lab):
    """three scripted phones and three baresips at Kamailio itself: each instance rings alone"""
    phones = everybody(lab)
    same(len(lab.kamailio.contacts()), 6, "bindings")
    wrong = ring_each(Caller(lab, CALLER, KAMAILIO), phones)
    check(not wrong, "; ".join(wrong))
    return "6 of 6"


@case("direct-audio", direct=True)
def direct_audio(lab):
    """two baresips of one home talk: recording and tone detection work"""
    return audio.judge(*audio.talk(lab, "home1", "home1"))


@case("direct-call", direct=True)
def direct_call(lab):
    """scripted phone and calling script: INVITE, audio, TTL as sent minus the hops, BYE from either side"""
    phone = Phone(lab, "08000FA00001", "home1", 7, "08000FA00001", KAMAILIO).connect()
    phone.on_invite, phone.tone = "answer", 880
    same(phone.register().status, 200, "REGISTER")
    caller = Caller(lab, CALLER, KAMAILIO)
    for end in ("caller", "phone"):
        call, final = caller.call(phone.mac)
        same(final.status, 200, "INVITE")
        theirs = phone.calls[call.call_id]
        theirs.media.set_ttl(70)
        until("audio", lambda: len(call.media.got) > 60)
        check(call.media.hears(880) > 0.9, f"880 Hz heard: {call.media.hears(880):.2f}")
        same({ttl for ttl, _, _ in call.media.got[-20:]}, {70 - HOPS - 1}, "TTL at the caller")
        check(theirs.acked.is_set(), "the phone got the ACK")
        ending, other = (call, theirs) if end == "caller" else (theirs, call)
        same(ending.bye().status, 200, f"BYE by the {end}")
        check(other.ended.wait(2), "the other side got the BYE")
    return f"880 Hz heard, TTL 70 arrives as {70 - HOPS - 1} over 3 routers, BYE from both"


@case("direct-switch", direct=True)
def direct_switch(lab):
    """the literal-text switch: mutual TLS, REGISTER, a call on the phone's connection; no certificate, no service"""
    switch = Switch(lab)
    phone = Phone(lab, "08000FA00001", "home1", 7, "08000FA00001", LITERAL)
    sock = lab.net.socket("home1", phone.address)
    phone.wire = Wire(tls_client(lab, sock, lab.pki.phone(phone.mac), lab.pki.path("hq.pem"), (LITERAL, 5061)), phone.message, trace=phone.trace)
    same(phone.register().status, 200, "REGISTER")
    uri, own = switch.binding(phone.mac)
    same(switch.ring_once(own, uri, switch.local), 180, "INVITE on the connection of the REGISTER")
    bare = lab.net.socket("home1", phone.address)
    try:
        tls = tls_client(lab, bare, None, lab.pki.path("hq.pem"), (LITERAL, 5061))
        tls.settimeout(2)
        check(tls.recv(1) == b"", "a client without certificate is turned away")
    except (ssl.SSLError, socket.error):
        pass
    finally:
        bare.close()
    return "REGISTER, INVITE on the same connection, no service without certificate"


@case("direct-http", direct=True)
def direct_http(lab):
    """HQ, CAS stub, DNS and pebble answer"""
    curl = ["curl", "-s", "--cacert", lab.pki.path("hq.pem")]
    same(lab.net.run("inside", *curl, "https://10.0.1.10/version.txt").stdout, lab.nginx.VERSION, "version.txt of HQ")
    same(lab.net.run("inside", *curl, "https://10.0.1.10:5448/").stdout, "cas: GET / HTTP/1.1\n", "CAS stub")
    query = lab.net.socket("inside", PEBBLE, socket.SOCK_DGRAM)
    query.settimeout(2)
    query.sendto(b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x02hq\x07example\x08internal\x00\x00\x01\x00\x01", (PEBBLE, 53))
    answer = query.recv(512)
    query.close()
    check(answer.endswith(bytes([10, 0, 1, 10])), "hq.example.internal is 10.0.1.10")
    check("BEGIN CERTIFICATE" in open(lab.pebble().root()).read(), "pebble's root")
    return "version.txt, CAS, hq.example.internal, pebble's root"


class Relay:
    """A stand-in relay of thirty lines in the gateway's namespace, to prove the captures and the judgement of the ttl cases."""

    def __init__(self, lab, address, mode):
        self.six, self.mode = ":" in address, mode
        self.sock = lab.net.socket("gw", address, socket.SOCK_DGRAM, 20000)
        self.sock.setsockopt(*((socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1) if self.six else (socket.IPPROTO_IP, rtp.IP_RECVTTL, 1)))
        self.to = None
        lab.opened.append(self)
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        level, kind = (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT) if self.six else (socket.IPPROTO_IP, socket.IP_TTL)
        talker = None
        while True:
            try:
                data, control, _, source = self.sock.recvmsg(2048, 256)
            except OSError:
                return
            if len(data) < 100:  # the listening phone opens its NAT
                self.to = source
                continue
            talker = talker or source
            value = struct.unpack("=i", control[0][2][:4])[0] - 1 if self.mode == "keep" else self.mode
            if self.to and source == talker and value != 0:
                self.sock.sendmsg([data], [(level, kind, struct.pack("=i", value))] if value else [], 0, self.to)

    def close(self):
        self.sock.close()


def relayed(lab, mode, family):
    """One stream of phone A over the stand-in relay to phone B with all the values of the ttl cases, captured and judged."""
    ours = GW_OUT6 if family == 6 else GW_OUT4
    Relay(lab, ours, mode)
    a = rtp.Media(lab, "home1", lab.phone_address("home1", 7, family))
    b = rtp.Media(lab, "home2", lab.phone_address("home2", 8, family))
    near, far = ttl.both_ends(lab)
    b.sock.sendto(b"open", (ours, 20000))
    time.sleep(0.2)
    a.set_ttl(128 + HOPS)
    a.aim(f"c=IN IP{family} {ours}\r\nm=audio 20000 RTP/AVP 0".encode())
    ttl.send_values(a)
    a.close(), b.close()
    near.finish(), far.finish()
    try:
        return ttl.judge(near.packets, ours, far.packets, a.ssrc.to_bytes(4, "big"), mode or "keep")
    finally:
        lab.end()


@case("direct-ttl", direct=True)
def direct_ttl(lab):
    """captures and judgement of the ttl cases over a stand-in relay: right values pass, the host's default is noticed"""
    for mode in (64, "keep"):
        for family in (4, 6):
            relayed(lab, mode, family)
    for family in (4, 6):
        try:
            relayed(lab, None, family)
        except Failed:
            continue
        raise Failed(f"IPv{family}: a relay that leaves the host's default TTL passed")
    return "64 and keep pass in IPv4 and IPv6, a relay that sets nothing is found out"


@case("direct-takeover", direct=True)
def direct_takeover(lab):
    """behind the NAT a second phone gets the outside address and port of the one that was cut"""
    server = lab.net.socket("gw", GW_OUT4, port=7000)
    server.listen()
    seen = []
    try:
        for number in (7, 9):
            client = lab.net.socket("home1", lab.phone_address("home1", number), port=41000)
            client.settimeout(3)
            client.connect((GW_OUT4, 7000))
            peer, address = server.accept()
            seen.append(address)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            peer.close()
            time.sleep(1.5)
        same(seen, [(NAT4["home1"], 41000)] * 2, "seen at the gateway")
    finally:
        server.close()
    return f"both seen as {seen[0][0]}:{seen[0][1]}"
