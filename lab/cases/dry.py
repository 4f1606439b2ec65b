"""A port range that is used up."""

import re
import time

from cases import case, check, same
from gateway import Gateway
from net import LITERAL
from proc import until
from sip import Phone
from switch import Switch

PAIRS = 50  # of the narrowest range there is
REST = 30  # seconds that a used pair is not used again


class Described:
    """Media that is only described."""

    def __init__(self, address):
        self.address, self.remote = address, None

    def sdp(self):
        return f"v=0\r\no=- 1 1 IN IP4 {self.address}\r\ns=-\r\nc=IN IP4 {self.address}\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0\r\n"

    def aim(self, body, start=True):
        self.remote = int(re.search(rb"^m=audio (\d+)", body, re.M).group(1))

    def close(self):
        pass


@case("media-dry")
def dry(lab):
    """a range of 100 ports carries 50 calls; the 51st is refused by 503 and an alarm, from either side; calls that run stay; 30 s after a BYE there is room again"""
    gateway = Gateway(lab, replace=(("port_range = [16384, 32767]", "port_range = [20000, 20099]"),))
    switch = Switch(lab)
    phone = Phone(lab, "dry", "home1", 7, "08000FA00001", LITERAL).connect()
    phone.on_invite = "answer"
    phone.open_media, switch.open_media = lambda: Described(phone.address), lambda: Described(LITERAL)
    same(phone.register().status, 200, "REGISTER")
    uri, wire = switch.binding(phone.mac)

    def call_phone():
        return switch.start_call(wire, uri, switch.local)
    calls, refused, mark = [], None, gateway.proc.size()
    while refused is None and len(calls) <= PAIRS:
        call, final = call_phone()
        calls += [call] if call else []
        refused = None if call else final
    same((len(calls), refused and refused.status), (PAIRS, 503), "calls until one is refused, and how")
    ports = {phone.calls[c.call_id].media.remote for c in calls}
    same(len(ports), PAIRS, "outside ports")
    same(phone.call(f"sips:100@{LITERAL}")[1].status, 503, "a call of the phone")
    alarms = until("the alarm", lambda: gateway.events("the relay is out of ports", mark))
    check(all(a["level"] == "WARN" for a in alarms) and len(alarms) < 40, f"{len(alarms)} alarms")
    over = calls.pop()
    port = phone.calls[over.call_id].media.remote
    same(over.bye().status, 200, "BYE")
    ended = time.monotonic()
    same(call_phone()[1].status, 503, "a call right after a BYE: its ports rest")
    time.sleep(REST - 1 - (time.monotonic() - ended))
    call = until("a call after the rest", lambda: call_phone()[0], 12, 0.5)
    took = time.monotonic() - ended
    check(took >= REST, f"a port was used again after {took:.1f} s")
    same(phone.calls[call.call_id].media.remote, port, "the port of the call that ended")
    for one in (*calls, call):
        same(one.bye().status, 200, "BYE of the others")
    return f"{PAIRS} calls, then 503 both ways and {len(alarms)} alarms in {REST} s; 503 within the rest, 200 after {took:.0f} s on the port that came free"
