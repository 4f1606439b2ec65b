"""SRTP that ends with the gateway: softphones that insist on it, a script and a softphone without it, and what the wire shows."""

import os
import re
import signal
import threading
import time

from baresip import Baresip
from cases import case, check, same
from cases.audio import dial, hang_up, heard, judge
from cases.killed_media import Media
from gateway import Gateway
from libsrtp import SUITES, Keyed
from linphone import Linphone
from net import CALLER, GW_IN4, KAMAILIO, NAT4
from proc import until
from rtp import tone
from sip import Caller, Phone
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
    """a baresip that insists on SRTP, called by a script with plain RTP, and calling a baresip without SRTP: all hear; outside no octet in clear, inside all; 488 where SRTP is required and not offered; a baresip that can do both gets SRTP, and where SRTP is preferred so does the one that insists on it"""
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
    # It answers RTP/AVP with 488, and hears of the second offer alone.
    called(lab, a, outer, inner)
    either = Baresip(lab, "home1", "08000FB5000C", hertz=440, encryption="srtp").start().registered()
    called(lab, either, outer, inner)
    keys = {key for phone in (a, either) for key in re.findall(r"inline:([A-Za-z0-9+/=]+)", phone.proc.text())}
    log = gateway.proc.text()
    check(not any(key in log for key in keys) and "inline:" not in log, "a key is in the gateway's log")
    return f"{said}; outside {counts[0]} packets of {SILENT + TAG} octets, none in clear, inside {counts[1]} of {SILENT}; without SRTP 488 where it is required"


class Insisting(Phone):
    """A phone that a script plays, with libsrtp beneath."""

    suite = None

    def open_media(self):
        return Keyed(self.lab, *self.media_home, self.suite, tone=self.tone)


def insisting(lab, name, home, mac, suite, tone):
    phone = Insisting(lab, name, home, 7, mac, KAMAILIO)
    phone.suite, phone.tone, phone.on_invite = suite, tone, "answer"
    same(phone.connect().register().status, 200, "REGISTER")
    return phone


def both_hear(what, near, far, hertz):
    """Each end hears the other now, not only once."""
    marks = [len(end.got) for end in (near, far)]
    until(f"{what}: both go on", lambda: all(len(end.got) > mark + 40 for end, mark in zip((near, far), marks)), 10)
    until(f"{what}: both hear", lambda: near.hears(hertz[1]) > 0.8 and far.hears(hertz[0]) > 0.8, 10)


@case("secure-libsrtp")
def secure_libsrtp(lab):
    """libsrtp at the other end: a script with each suite, called by a script in clear, and two with different suites by the gateway, each across a roll-over of its numbers; then the media process is killed and all go on, with the keys and numbers they had"""
    process = Media(lab)
    gateway = Gateway(lab, ttl="64", replace=ended("preferred") + [("[media]\n", "[media]\nprocess = true\n")])
    suites = list(SUITES)
    phones = [insisting(lab, f"phone{n}", ("home1", "home2")[n % 2], f"08000FB5100{n}", suite, 440) for n, suite in enumerate(suites)]
    caller = Caller(lab, CALLER, KAMAILIO)
    caller.tone = 880
    calls, pairs = [], []
    for phone in phones:
        call, final = caller.call(phone.mac)
        check(call, f"{phone.suite}: {final.start}")
        calls.append(call)
        pairs.append((phone.suite, list(phone.calls.values())[-1].media, call.media))
    call, final = phones[0].call(f"sip:inst-{phones[3].mac}@{KAMAILIO}")
    check(call, f"between two phones: {final.start}")
    calls.append(call)
    pairs.append((f"{suites[0]} to {suites[3]}", call.media, list(phones[3].calls.values())[-1].media))

    def all_hear(when):
        for what, near, far in pairs:
            both_hear(f"{what} {when}", near, far, (440, 440) if isinstance(far, Keyed) else (440, 880))

    all_hear("at first")
    keyed = [end for _, *ends in pairs for end in ends if isinstance(end, Keyed)]
    until("numbers have rolled over", lambda: all(end.sent > 65_536 + 100 for end in keyed), 30)
    all_hear("after the roll-over")
    same([end.sizes for end in keyed], [{SUITES[end.suite][2]} for end in keyed], "octets that each suite adds")
    # Told how far it was every five seconds, a few more for the first time.
    time.sleep(10)
    before = process.one()
    os.kill(before, signal.SIGKILL)
    until("another media process", lambda: process.processes() not in ([], [before]), 10)
    all_hear("by another media process")
    lost = max(end.unreadable for end in keyed)
    check(lost <= 2, f"{lost} packets of the gateway's were not readable")
    check("inline:" not in gateway.proc.text(), "a key is in the gateway's log")
    same([call.bye().status for call in calls], [200] * len(calls), "BYE")
    return f"{len(pairs)} calls, {sum(len(end.got) for end in keyed)} packets opened by libsrtp, {lost} not; across roll-overs and kill -9 of the media process"


@case("secure-linphone")
def secure_linphone(lab):
    """linphone with SDES calls a script's phone with libsrtp and another suite, holds and resumes: its packets are read before and after"""
    gateway = Gateway(lab, ttl="64", replace=ended("preferred"))
    outer = Tap(lab, "gw", "eth1")
    phone = insisting(lab, "phone", "home2", "08000FB52001", "AES_CM_128_HMAC_SHA1_32", 440)
    soft = Linphone(lab, "home1", "08000FB52002", "soft", encryption="srtp").start()
    soft.wait("to [LinphoneRegistrationOk]", 15)
    mark = soft.speak(880).mark()
    soft.do(f"call sip:inst-{phone.mac}@{KAMAILIO}")
    soft.wait("LinphoneCallStreamsRunning", since=mark)
    media = list(phone.calls.values())[-1].media

    def comes(when):
        before = len(media.got)
        until(f"the script's phone reads what linphone sends {when}", lambda: len(media.got) > before + 50, 10)
    comes("at first")
    for word, state in (("pause", "to LinphoneCallPaused"), ("resume", "LinphoneCallStreamsRunning")):
        mark = soft.mark()
        soft.do(word)
        soft.wait(state, since=mark)
        time.sleep(1)
    comes("after the resumption")
    sealed = [p for p in outer.rtp() if NAT4["home1"] in (p.src[0], p.dst[0])]
    check(len(sealed) > 100, f"{len(sealed)} packets of linphone's")
    said = re.findall(r"a=crypto:\S+ \S+", soft.said())
    mark = soft.mark()
    soft.do("terminate")
    soft.wait("LinphoneCallReleased", since=mark)
    check("inline:" not in gateway.proc.text(), "a key is in the gateway's log")
    return f"{len(media.got)} packets of linphone's read, {media.unreadable} not; {len(sealed)} outside; it said {sorted(set(said))}"
