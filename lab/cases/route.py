"""The way of media between two phones behind one NAT (MED-03, MED-11): asserted by capture, and by what softphones of others record."""

import time

from cases import case, check, same
from cases.audio import dial, hang_up, heard, judge
from cases.nat import pair
from gateway import Gateway
from net import NAT4
from proc import until
from tap import Tap
from ways import DoubleNat

TALK = 2.3  # seconds
ROUTE = 'media_route = "direct-behind-same-nat"'
LINE = "two phones behind one NAT talk directly"


def fent(*lines):
    """The template with these lines of `[fent]` in it, and these of `[media]` behind."""
    return (("[media]", "\n".join(("[fent]", *lines, "[media]"))),)


class Taps:
    """What passes the gateway, and what stays in the home."""

    def __init__(self, lab):
        self.outer, self.inner, self.home = Tap(lab, "gw", "eth1"), Tap(lab, "gw", "eth0"), Tap(lab, "home1", "lo")

    def counts(self):
        """Packets of media: on the gateway's outside, on its inside, in the home."""
        counted = [len(tap.rtp()) for tap in (self.outer, self.inner, self.home)]
        for tap in (self.outer, self.inner, self.home):
            tap.packets.clear()
        return counted


def converse(a, b):
    """One call of two softphones that have had none: their events and recordings are those of the first."""
    a.registered(), b.registered()
    dial(a, b)
    time.sleep(TALK)
    hang_up(a, b)
    time.sleep(0.3)
    judge(heard(a), heard(b))


def held(a, b):
    """A holds and resumes in a call of its own with B."""
    a.registered(), b.registered()
    dial(a, b)
    time.sleep(0.5)
    for command in ("hold", "resume"):
        since = len(b.events)
        a.command(command)
        b.wait("CALL_REMOTE_SDP", since=since)
        time.sleep(0.5)
    time.sleep(TALK)
    hang_up(a, b)
    time.sleep(0.3)


@case("route")
def route(lab):
    """baresips behind one NAT talk directly, hold and resume: no packet of theirs at the gateway; behind two NATs, in two homes, with always_relay, with proxy = "always" or on a denied network: by the relay"""
    gateway = Gateway(lab, ttl="64", replace=fent(ROUTE))
    DoubleNat(lab)
    taps = Taps(lab)
    converse(*pair(lab, 20, "home1", 7, "home1", 8))
    outer, inside, home = taps.counts()
    same((outer, inside), (0, 0), "packets of media at the gateway")
    check(home > 150, f"{home} packets of media in the home")
    same(len(gateway.events(LINE)), 2, f"lines '{LINE}'")
    # Hold and resume stay at home as well.
    held(*pair(lab, 25, "home1", 7, "home1", 8))
    outer, inside, home = taps.counts()
    same((outer, inside), (0, 0), "packets of media at the gateway, with a hold")
    check(home > 200, f"{home} packets of media in the home, with a hold")
    calls = len(gateway.events(LINE))
    check(calls >= 4, f"{calls} lines '{LINE}' after two calls")
    # One address outside, two networks behind it.
    converse(*pair(lab, 21, "inner", 10, "home2", 8))
    outer, inside, _ = taps.counts()
    check(outer > 300 and inside == 0, f"double NAT: {outer} packets outside, {inside} inside")
    same(len(gateway.events(LINE)), calls, "lines after one behind two NATs")
    # Two homes: both have 192.168.1.0/24.
    converse(*pair(lab, 22, "home1", 7, "home2", 8))
    outer, inside, _ = taps.counts()
    check(outer > 300 and inside == 0, f"two homes: {outer} packets outside, {inside} inside")
    same(len(gateway.events(LINE)), calls, "lines after one between two homes")
    relayed = []
    for number, name, lines in ((23, "denied", fent(ROUTE, f'direct_nets_deny = ["{NAT4["home1"]}"]')), (24, "always_relay", (("[media]", f"[fent]\n{ROUTE}\n[media]\nalways_relay = true"),)),
                                (27, "proxy", (("[media]", f'[fent]\n{ROUTE}\n[media]\nproxy = "always"'),))):
        since = gateway.proc.size()
        gateway.reload(replace=lines)
        until(f"the configuration {name} is in force", lambda s=since: gateway.events("the new configuration is in force", s))
        converse(*pair(lab, number, "home1", 7, "home1", 8))
        outer, inside, home = taps.counts()
        check(outer > 300 and (inside, home) == (0, 0), f"{name}: {outer} packets outside, {inside} inside, {home} in the home")
        relayed.append(outer)
    same(len(gateway.events(LINE)), calls, "lines in all")
    return f"direct, also held and resumed: 0 packets at the gateway; relayed: double NAT, two homes, denied {relayed[0]}, always_relay {relayed[1]}, proxy {relayed[2]}"
