"""Eighty routers, forty on each side of the gateway: what becomes of media that starts with TTL 64, and why."""

import time

from cases import case, check, same
from gateway import Gateway
from net import KAMAILIO
from proc import until
from sip import Caller, Phone
from tap import Tap
from ways import Chain

ROUTERS = 40  # on each side
PLENTY = 128


def chains(lab):
    start = time.monotonic()
    hill, dale = Chain(lab, "hill", "outside", ROUTERS), Chain(lab, "dale", "inside", ROUTERS)
    return hill, dale, time.monotonic() - start


def call_up(lab, dale, family, ttl, number=0):
    """A call between a phone forty routers outside and an end forty routers inside. Both send with this TTL."""
    phone = Phone(lab, f"hill{family}{number}", "hill", 0, f"08000FA000{number}{family}", KAMAILIO, family).connect()
    phone.on_invite, phone.tone, phone.ttl = "answer", 880, ttl
    same(phone.register().status, 200, f"REGISTER through {ROUTERS} routers over IPv{family}")
    caller = Caller(lab, dale.ip4, KAMAILIO, port=5070 + 10 * number + family, home="dale")
    caller.ttl, caller.media_home = ttl, ("dale", dale.ip4 if family == 4 else dale.ip6)
    call, final = caller.call(phone.mac)
    same(final.status, 200, f"call over IPv{family}")
    return call, phone.calls[call.call_id].media


def ended(gateway, since):
    """The last counters of both legs."""
    found = gateway.events("stream ended", since)
    return found if len(found) == 2 else None


def expired(lab, gateway, family, ends, since, call):
    """Packets that reach the gateway with TTL 1: dropped there, and counted as the wire has them."""
    taps = [Tap(lab, "gw", interface) for interface in ("eth1", "eth0")]
    for media in ends:
        media.set_ttl(ROUTERS + 1)
    aims = [media.sent + 15 for media in ends]
    until("packets sent", lambda: all(media.sent >= aim for media, aim in zip(ends, aims, strict=True)), 20)
    for media in ends:
        media.set_ttl(PLENTY)
    marks = [len(media.got) for media in ends]
    until("audio again", lambda: all(len(media.got) > mark + 5 for media, mark in zip(ends, marks, strict=True)), 20)
    same(call.bye().status, 200, "BYE")
    came = sum(1 for tap in taps for p in tap.rtp() if not p.out and p.ttl == 1)
    legs = until("the counters of the call", lambda: ended(gateway, since))
    same(sum(leg["ttl_expired"] for leg in legs), came, f"IPv{family}: packets dropped for their TTL by the relay's count, and captured with TTL 1")
    check(came >= 20, f"only {came} packets with TTL 1")
    return legs, came


def diagnosis(gateway, since):
    """What the doctor says of the call that ended: (kind of trouble, sentence)."""
    found = until("the doctor's word", lambda: gateway.events("a call had trouble with its media", since) + gateway.events("a call had no trouble with its media", since), 8)
    return found[0]["verdict"], found[0]["sentence"]


@case("hops-keep")
def keep(lab):
    """40 + 40 routers, ttl = "keep": phones that send 64 are silent and the counters say why, those that send 128 are heard and arrive as sent - 80 - 1"""
    _, dale, took = chains(lab)
    gateway = Gateway(lab)
    counted = 0
    sick, hers = call_up(lab, dale, 4, 64, 1)  # nobody helps it while the others are judged
    begun = time.monotonic()
    for family in (4, 6):
        since = gateway.proc.size()
        call, theirs = call_up(lab, dale, family, 64)
        ends = call.media, theirs
        until("a second of sending", lambda e=ends: min(m.sent for m in e) > 50, 20)
        same([len(m.got) for m in ends], [0, 0], f"IPv{family}: packets heard by caller and phone that send with TTL 64")
        for media in ends:
            media.set_ttl(PLENTY)
        until("audio both ways", lambda e=ends: e[0].hears(880) > 0.8 and e[1].hears(440) > 0.8, 20)
        same({ttl for m in ends for ttl, *_ in m.got}, {PLENTY - 2 * ROUTERS - 1}, f"IPv{family}: TTL at the receivers")
        legs, came = expired(lab, gateway, family, ends, since, call)
        same({leg["ttl_minimum"] for leg in legs}, {1}, "least TTL counted")
        counted += came
    time.sleep(max(0, 6 - (time.monotonic() - begun)))
    same([len(m.got) for m in (sick.media, hers)], [0, 0], "packets heard in the call whose ends send 64")
    since = gateway.proc.size()
    same(sick.bye().status, 200, "BYE")
    verdict, sentence = diagnosis(gateway, since)
    same(verdict, "hop-limit-low", f"verdict on it: {sentence}")
    rings = "carried with epoll" not in gateway.proc.text()
    check(not rings or "on the way answered" in sentence, f"the ICMP answers of the routers are not in: {sentence}")
    check(f"TTL {64 - ROUTERS - 1}" in sentence and f"about {ROUTERS} routers" in sentence, f"the sentence has the figures: {sentence}")
    return (f"80 namespaces in {took:.1f} s; sent 64: 0 packets heard either way, \"{sentence}\"; sent 128: arrives as {PLENTY - 2 * ROUTERS - 1} over IPv4 and IPv6; "
            f"sent {ROUTERS + 1}: {counted} captured with 1, {counted} counted as expired")


@case("hops-reset")
def reset(lab):
    """40 + 40 routers, ttl = 64: phones that send 64 hear each other"""
    _, dale, _ = chains(lab)
    Gateway(lab, ttl="64")
    for family in (4, 6):
        call, theirs = call_up(lab, dale, family, 64)
        ends = call.media, theirs
        until("audio both ways", lambda e=ends: e[0].hears(880) > 0.8 and e[1].hears(440) > 0.8, 20)
        same({ttl for m in ends for ttl, *_ in m.got}, {64 - ROUTERS}, f"IPv{family}: TTL at the receivers")
        same(call.bye().status, 200, "BYE")
    return f"audio both ways over IPv4 and IPv6, arrives as {64 - ROUTERS}"
