"""Far-end NAT: every kind of it between phones and gateway, and the gateway's own 1:1 NAT. What media does is read off the wire."""

import socket
import time
from collections import Counter

from baresip import Baresip
from cases import case, check, same
from cases.audio import dial, hang_up, heard, judge
from cases.http import boot
from gateway import Gateway
from net import CALLER, GW_IN4, GW_IN6, GW_OUT4, GW_OUT6, KAMAILIO, LITERAL, NAT4
from proc import until
from sip import Caller, Phone
from switch import Switch
from tap import Tap, flows
from ways import DMZ4, DoubleNat, OneToOneNat, SymmetricNat

BEHIND_ONE_NAT = 2.3  # seconds of talk


def pair(lab, number, home_a, host_a, home_b, host_b):
    """Two registered softphones, one that plays 440 Hz and one that plays 880."""
    a = Baresip(lab, home_a, f"08000FB1{number:02}0A", hertz=440, number=host_a).start()
    b = Baresip(lab, home_b, f"08000FB1{number:02}0B", hertz=880, number=host_b).start()
    return a, b


def converse(pairs, seconds=BEHIND_ONE_NAT):
    """All pairs talk at once; both ends of each must have heard the other."""
    for phone in (phone for both in pairs for phone in both):
        phone.registered()
    for a, b in pairs:
        dial(a, b)
    time.sleep(seconds)
    for a, b in pairs:
        hang_up(a, b)
    time.sleep(0.3)
    for a, b in pairs:
        judge(heard(a), heard(b))


def ports_seen(lab, home, nat):
    """The source ports that one socket in a home has for two destinations."""
    tap = Tap(lab, "outside", nat)
    with lab.net.socket(home, lab.phone_address(home, 7), socket.SOCK_DGRAM) as s:
        for target in (GW_OUT4, "203.0.113.1"):
            s.sendto(b"which port?", (target, 9))
    until("two packets behind the NAT", lambda: sum(p.payload == b"which port?" for p in tap.read()) == 2)
    return [p.src[1] for p in tap.packets if p.payload == b"which port?"]


def relayed_once(outer, inner, wanted):
    """Every packet came to the gateway once and left it once, on the outside; `wanted` are (from, to) of the streams. Returns how many."""
    packets = outer.rtp()
    same(len(inner.rtp()), 0, "packets between two phones that went through the inside")
    ways = Counter()
    came, left = flows(p for p in packets if not p.out), flows(p for p in packets if p.out)
    sources = {p.ssrc: p.src[0] for p in packets if not p.out}
    targets = {p.ssrc: p.dst[0] for p in packets if p.out}
    for ssrc, once in came.items():
        ways[sources[ssrc], targets.get(ssrc)] += 1
        gone = left.get(ssrc, {})
        check(set(once.values()) == {1} and set(gone.values()) <= {1}, f"a packet of {ssrc:08x} passed the gateway's outside twice")
        # until the other end has spoken there is nowhere to send to
        first = min(gone, key=list(once).index, default=0)
        missing = [s for s in list(once)[list(once).index(first):] if s not in gone]
        check(gone and len(missing) <= 3, f"{len(missing)} of {len(once)} packets from {sources[ssrc]} did not leave")
    same(ways, Counter(wanted), "streams (from, to) on the gateway's outside")
    return sum(map(len, came.values()))


@case("nat")
def nat(lab):
    """baresips behind different NATs, one NAT, a NAT behind a NAT and a symmetric NAT: all talk; media passes the relay once and never the inside"""
    Gateway(lab, ttl="64")
    lab.net.more_homes(3, ())
    DoubleNat(lab)
    SymmetricNat(lab, "nat3")
    one, other = ports_seen(lab, "home3", "nat3")
    check(one != other, "the symmetric NAT uses one port for two destinations")
    same(len(set(ports_seen(lab, "home1", "nat1"))), 1, "ports of a usual NAT for two destinations")
    outer, inner = Tap(lab, "gw", "eth1"), Tap(lab, "gw", "eth0")
    converse([pair(lab, 1, "home1", 10, "home2", 10), pair(lab, 2, "home1", 7, "home1", 8), pair(lab, 3, "home2", 7, "inner", 10), pair(lab, 4, "home3", 7, "home2", 8)])
    n1, n2, n3 = (NAT4[f"home{n}"] for n in (1, 2, 3))
    packets = relayed_once(outer, inner, [(n1, n2), (n2, n1), (n1, n1), (n1, n1), (n2, n2), (n2, n2), (n3, n2), (n2, n3)])
    return f"4 calls, both ways each; {packets} packets came and left once, 0 on the inside; the symmetric NAT showed ports {one} and {other}"


def reports(packets, out):
    """RTCP sender reports on an interface: (from, to, SSRC, the last report of the other end that the author says it got)."""
    found = []
    for p in packets:
        data = p.payload
        if p.out == out and len(data) >= 28 and data[0] >> 6 == 2 and data[1] == 200:
            heard = data[44:48] if data[0] & 31 else b""
            found.append((p.src, p.dst, int.from_bytes(data[4:8], "big"), int.from_bytes(heard, "big")))
    return found


@case("nat-rtcp")
def nat_rtcp(lab):
    """both phones behind NATs that give RTCP another port than RTP's next: each baresip says in its own sender report that it got the other's (LSR)"""
    Gateway(lab, ttl="64")
    lab.net.more_homes(3, ())
    for nat_ in ("nat2", "nat3"):
        SymmetricNat(lab, nat_)
    a, b = pair(lab, 11, "home3", 7, "home2", 8)
    a.registered(), b.registered()
    outer = Tap(lab, "gw", "eth1")
    dial(a, b)
    # A report every five seconds; what it says of the other end is of the one before.
    until("both say that they heard the other's reports", lambda: len({ssrc for _, _, ssrc, last in reports(outer.read(), False) if last}) == 2, 25, 0.2)
    hang_up(a, b)
    judge(heard(a), heard(b))
    came, left = reports(outer.packets, False), reports(outer.packets, True)
    media = {p.ssrc: (p.src, p.dst) for p in outer.rtp() if not p.out and p.payload[1] & 0x7F == 0}
    shifted = []
    for source, target, ssrc, _ in came:
        (host, port), (ours, at) = media[ssrc]
        same((source[0], target), (host, (ours, at + 1)), "where RTCP comes from, and goes to")
        shifted.append(source[1] - port)
    check(any(shift != 1 for shift in shifted), f"the NATs left RTCP on the port after RTP's: {shifted}")
    homes = {host: source for source, _, _, _ in came for host in [source[0]]}
    same({target for _, target, _, _ in left}, set(homes.values()), "where reports are sent to: the ports of the NATs")
    return f"{len(came)} reports came and {len(left)} left, from ports at {sorted(set(shifted))} from RTP's; each end got the other's"


DIRECT = ("[media]\n", '[fent]\nmedia_route = "direct-behind-same-nat"\n\n[media]\n')


@case("nat-direct")
def direct(lab):
    """media_route = "direct-behind-same-nat": two phones behind one NAT talk without a packet outside of it; a double NAT and different NATs are relayed, once; always_relay wins"""
    gateway = Gateway(lab, ttl="64", replace=(DIRECT,))
    lab.net.more_homes(3, ())
    DoubleNat(lab)
    outer, inner, wan, home = Tap(lab, "gw", "eth1"), Tap(lab, "gw", "eth0"), Tap(lab, "nat1", "wan"), Tap(lab, "home1", "lo")
    converse([pair(lab, 6, "home1", 10, "home1", 7), pair(lab, 7, "home2", 7, "inner", 10), pair(lab, 8, "home3", 10, "home2", 10)])
    n2, n3 = NAT4["home2"], NAT4["home3"]
    relayed = relayed_once(outer, inner, [(n2, n2), (n2, n2), (n3, n2), (n2, n3)])
    strays = [p for p in wan.read() if p.rtp or p.payload[:1] >= b"\x80"]
    same(len(strays), 0, "media packets of the two phones outside of their NAT")
    stayed = flows(home.rtp())
    # A baresip describes itself with the first address of its host, whichever it signals from: two ports there.
    same((len(stayed), {p.dst[0] for p in home.rtp()}, len({p.dst for p in home.rtp()})), (2, {lab.phone_address("home1", 10)}, 2), "streams within the home, their addresses and ends")
    packets = sum(map(len, stayed.values()))
    for softphone in [thing for thing in lab.opened if isinstance(thing, Baresip)]:
        softphone.close()
    gateway.stop()
    Gateway(lab, ttl="64", replace=(DIRECT, ("max_senders = 10\n", "max_senders = 10\nalways_relay = true\n")))
    outer = Tap(lab, "gw", "eth1")
    converse([pair(lab, 9, "home1", 10, "home1", 7)], 1.5)
    forced = relayed_once(outer, inner, [(NAT4["home1"], NAT4["home1"])] * 2)
    return f"one NAT: {packets} packets inside, 0 outside; double and different NATs: {relayed} relayed once; always_relay: {forced} relayed once"


@case("nat-dmz")
def dmz(lab):
    """the gateway at 192.168.0.112 behind a 1:1 NAT: files, CONNECT, registrations, calls out of both sides, audio; nobody outside reads the private address"""
    OneToOneNat(lab)
    Gateway(lab, ttl="64", replace=((f'outside = {{ addresses = ["{GW_OUT4}", "{GW_OUT6}"] }}',
                                     f'outside = {{ addresses = ["{DMZ4}", "{GW_OUT6}"], public_address = "{GW_OUT4}" }}'),))
    served = boot(lab)
    phone = Phone(lab, "dmz", "home1", 7, "08000FA00001", KAMAILIO).connect()
    phone.on_invite, phone.tone = "answer", 880
    same(phone.register().status, 200, "REGISTER")
    tap = Tap(lab, "outside", "nat1")
    caller = Caller(lab, CALLER, KAMAILIO)
    call, final = caller.call(phone.mac)
    same(final.status, 200, "call from the inside")
    theirs = phone.calls[call.call_id]
    until("audio both ways", lambda: call.media.hears(880) > 0.8 and theirs.media.hears(440) > 0.8, 20)
    same(theirs.media.remote[0], GW_OUT4, "where the phone was told to send")
    same(call.media.remote[0], GW_IN4, "where the inside was told to send")
    same(call.bye().status, 200, "BYE from the inside")
    out = {p.src[0] for p in tap.rtp() if p.out}
    same(out, {GW_OUT4}, "senders of media as the home sees them")
    converse([pair(lab, 5, "home1", 10, "home2", 10)])
    with open(f"{lab.folder}/sip-dmz.log", "rb") as log:
        check(DMZ4.encode() not in log.read(), "a message to the phone shows the private address")
    for n in "AB":
        with open(f"{lab.folder}/baresip-08000FB1050{n}.log", "rb") as log:
            check(DMZ4.encode() not in log.read(), "a message to a softphone shows the private address")
    return f"{served}; REGISTER, call from the inside with audio both ways, two baresips; 0 messages with {DMZ4}"


def media_named(call_body):
    """The (family, address) pairs of the lines that name one."""
    return {tuple(line.split()[-2:]) for line in call_body.decode().split("\r\n") if line.startswith(("c=", "o="))}


@case("families")
def families(lab):
    """IPv6 phone and IPv4 switch, IPv4 phone and a switch that wants media over IPv6: audio both ways, each side told its own family; 488 for one that has no listener"""
    gateway = Gateway(lab, ttl="64")
    switch = Switch(lab)
    switch.on_invite, switch.tone = "answer", 880
    done = 0
    for family, inside, ours, theirs in ((6, LITERAL, ("IP6", GW_OUT6), ("IP4", GW_IN4)), (4, "fd00:10:1::51", ("IP4", GW_OUT4), ("IP6", GW_IN6))):
        switch.media_home = ("inside", inside)
        phone = Phone(lab, f"family{family}", "home1", 7 if family == 4 else 8, f"08000FA0000{family}", LITERAL, family).connect()
        phone.on_invite = "answer"
        same(phone.register().status, 200, f"REGISTER over IPv{family}")
        uri, wire = switch.binding(phone.mac)
        by_phone = (phone, switch, lambda p=phone: p.call(f"sips:100@{LITERAL}"))
        by_switch = (switch, phone, lambda u=uri, w=wire: switch.start_call(w, u, switch.local))
        # An offer over IPv4 can't be answered over IPv6, so only the switch begins such a call.
        for caller, callee, make in (by_phone, by_switch)[":" in inside:]:
            call, final = make()
            same(final.status, 200, f"INVITE of the {caller.name} over IPv{family}")
            other = callee.calls[call.call_id]
            mine, yours = (call.media, other.media) if caller is phone else (other.media, call.media)
            until("audio both ways", lambda m=mine, y=yours: m.hears(880) > 0.8 and y.hears(440) > 0.8, 20)
            to_phone, to_switch = (final.body, other.invite.body) if caller is phone else (other.invite.body, final.body)
            same((media_named(to_phone), media_named(to_switch)), ({ours}, {theirs}), f"addresses told to the phone and to the switch, {caller.name} calling over IPv{family}")
            same(call.bye().status, 200, "BYE")
            done += 1
        phone.close()
    gateway.stop()
    Gateway(lab, replace=((f'inside  = {{ addresses = ["{GW_IN4}", "{GW_IN6}"] }}', f'inside  = {{ addresses = ["{GW_IN4}"] }}'),))
    phone = Phone(lab, "only4", "home1", 9, "08000FA00009", LITERAL).connect()
    same(phone.register().status, 200, "REGISTER")
    uri, wire = switch.binding(phone.mac)
    same(switch.start_call(wire, uri, switch.local)[1].status, 488, "an offer of IPv6 media to a gateway without IPv6 inside")
    return f"{done} calls with audio both ways; 488 without an address of the family"
