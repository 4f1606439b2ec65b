"""Media of the called end before its answer (MED-08)."""

import threading
import time

import rtp
from cases import case, check, same
from foreign import MARK, Flood
from gateway import Gateway
from net import LITERAL
from proc import until
from sip import Phone
from switch import Switch

RATE = 200  # packets a second of a stream before its answer


class Ringing:
    """The switch calls a phone that rings without a description and already talks to the port it was offered."""

    def __init__(self, lab, early):
        key = "early_rtp = true\n" if early else ""
        self.gateway = Gateway(lab, ttl="64", replace=(("max_senders = 10\n", f"max_senders = 10\n{key}"),))
        self.switch = Switch(lab)
        self.phone = Phone(lab, f"early-{early}", "home1", 7, "08000FA00001", LITERAL).connect()
        self.phone.tone = 880
        same(self.phone.register().status, 200, "REGISTER")
        self.near = rtp.Media(lab, "inside", LITERAL)
        self.switch.open_media = lambda: self.near
        uri, wire = self.switch.binding(self.phone.mac)
        self.made = []
        threading.Thread(target=lambda: self.made.append(self.switch.start_call(wire, uri, self.switch.local)), daemon=True).start()
        until("the phone rings", lambda: self.phone.calls)
        self.call = next(iter(self.phone.calls.values()))
        self.far = self.call.media = self.phone.open_media()
        self.far.aim(self.call.invite.body)
        until("the phone talks", lambda: self.far.sent > 25, 20)
        self.before = len(self.near.got)

    def answer(self):
        self.phone.respond(self.call.wire, self.call.invite, 200, "OK", f"Contact: {self.phone.contact(self.call.wire)}\r\n", self.far.sdp(), to_tag=self.call.tag)
        until("the call stands", lambda: self.made)
        until("audio both ways", lambda: self.near.hears(880) > 0.8 and self.far.hears(440) > 0.8, 20)

    def end(self):
        """BYE, and how many packets the relay dropped as early."""
        since = self.gateway.proc.size()
        same(self.made[0][0].bye().status, 200, "BYE")
        legs = until("the last counters", lambda: e if len(e := self.gateway.events("stream ended", since)) == 2 else None)
        drops = dict(reason.rsplit(" ", 1) for leg in legs if leg["side"] == "outside" for reason in leg["drops"].split(", ") if reason != "none")
        for thing in (self.phone, self.switch):
            thing.close()
            thing.lab.opened.remove(thing)
        self.gateway.stop()
        return int(drops.get("early", 0))


@case("media-early")
def early(lab):
    """MED-08: what the called end sends before its answer is dropped and counted; with early_rtp it is relayed, a flood within 200 packets a second; after the answer it is heard in either case"""
    shut = Ringing(lab, False)
    same(shut.before, 0, "packets before the answer")
    shut.answer()
    dropped = shut.end()
    check(dropped >= 25, f"{dropped} counted as early")
    let = Ringing(lab, True)
    check(let.before >= 20, f"{let.before} packets before the answer with early_rtp")
    start = time.monotonic()
    storm = Flood(lab, "home1", lab.phone_address("home1", 8), let.far.remote, 3000, 4, 2)
    storm.wait()
    took, foreign = time.monotonic() - start, sum(MARK[:8] in d for *_, d in let.near.got)
    # counted in windows of a second, of which the flood touches one more than it lasts
    check(foreign <= RATE * (int(took) + 2), f"{foreign} packets of a flood relayed in {took:.1f} s before the answer")
    let.answer()
    let.end()
    return f"off: 0 relayed, {dropped} counted; on: {let.before} relayed before the answer, {foreign} of 3,000 of a flood in {took:.1f} s; heard both ways after it"
