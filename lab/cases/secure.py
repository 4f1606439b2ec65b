"""SRTP that ends with the gateway: softphones that insist on it, a script and a softphone without it, and what the wire shows."""

import re
import threading
import time

from baresip import Baresip
from cases import case, check, same
from cases.audio import dial, hang_up, heard, judge
from gateway import Gateway
from net import CALLER, GW_IN4, KAMAILIO, NAT4
from proc import until
from rtp import tone
from sip import Caller
from tap import Tap

OURS = '[media]\nsrtp = {{ outside = "{}", inside = "{}" }}\n'
SILENT = 172  # octets of 20 ms of G.711 with their header
TAG = 10  # AES_CM_128_HMAC_SHA1_80


def ended(outside, inside="off"):
    return [("[media]\n", OURS.format(outside, inside))]


def clear(packets, hertz):
    """How many packets carry this tone as anybody can hear it."""
    wave = tone(hertz) * 2
    return sum(p.payload[12:SILENT] in wave for p in packets)


def called(lab, phone, outer, inner):
    """A script inside, which knows no SRTP, calls a softphone. Returns the packets of the phone on the outside, and those inside."""
    caller = Caller(lab, CALLER, KAMAILIO, port=5070 + 2 * len(lab.opened))
    marks, since = (len(outer.rtp()), len(inner.rtp())), len(phone.events)
    threading.Thread(target=lambda: (phone.wait("CALL_INCOMING", since=since), phone.command("accept")), daemon=True).start()
    call, final = caller.call(phone.mac)
    same(final.status, 200, "call from the inside, plain")
    until("the script hears the phone", lambda: call.media.hears(440) > 0.8, 20)
    time.sleep(2)
    same(call.bye().status, 200, "BYE")
    phone.wait("CALL_CLOSED", since=since)
    shares = heard(phone)
    check(shares[0] > 0.8, f"the phone should hear the script's 440 Hz: {shares}")
    without = [p for p in outer.rtp()[marks[0]:] if NAT4["home1"] in (p.src[0], p.dst[0])]
    within = [p for p in inner.rtp()[marks[1]:] if GW_IN4 in (p.src[0], p.dst[0])]
    check(len(without) > 100 and len(within) > 100, f"{len(without)} packets outside, {len(within)} inside")
    same({len(p.payload) for p in without}, {SILENT + TAG}, "octets of packets outside")
    same({len(p.payload) for p in within}, {SILENT}, "octets of packets inside")
    same(clear(without, 440), 0, "packets outside with a tone that anybody hears")
    check(clear(within, 440) > 50, "inside nobody hears the tone")
    return len(without), len(within)


@case("secure")
def secure(lab):
    """a baresip that insists on SRTP, called by a script with plain RTP, and calling a baresip without SRTP: all hear; outside no octet in clear, inside all; 488 where SRTP is required and not offered; a baresip that can do both gets SRTP"""
    gateway = Gateway(lab, ttl="64", replace=ended("required"))
    outer, inner = Tap(lab, "gw", "eth1"), Tap(lab, "gw", "eth0")
    a = Baresip(lab, "home1", "08000FB5000A", hertz=440, encryption="srtp-mand").start().registered()
    b = Baresip(lab, "home2", "08000FB5000B", hertz=880).start().registered()
    counts = called(lab, a, outer, inner)
    since = len(b.events)
    b.command("dial", f"sip:inst-{a.mac}@{KAMAILIO};transport=tls")
    closed = b.wait("CALL_CLOSED", since=since)
    check("488" in str(closed), f"a phone without SRTP should be refused with 488: {closed}")

    gateway.reload(replace=ended("preferred"))
    time.sleep(0.5)
    mark = len(outer.rtp())
    dial(a, b)
    time.sleep(3)
    hang_up(a, b)
    time.sleep(0.3)
    said = judge(heard(a), heard(b))
    packets = outer.rtp()[mark:]
    same({len(p.payload) for p in packets if NAT4["home1"] in (p.src[0], p.dst[0])}, {SILENT + TAG}, "octets to and from the phone with SRTP")
    same({len(p.payload) for p in packets if NAT4["home2"] in (p.src[0], p.dst[0])}, {SILENT}, "octets to and from the phone without")
    either = Baresip(lab, "home1", "08000FB5000C", hertz=440, encryption="srtp").start().registered()
    called(lab, either, outer, inner)
    keys = {key for phone in (a, either) for key in re.findall(r"inline:([A-Za-z0-9+/=]+)", phone.proc.text())}
    log = gateway.proc.text()
    check(not any(key in log for key in keys) and "inline:" not in log, "a key is in the gateway's log")
    return f"{said}; outside {counts[0]} packets of {SILENT + TAG} octets, none in clear, inside {counts[1]} of {SILENT}; without SRTP 488 where it is required"
