"""A switch that rings two and lets both answer early (MED-13, SDP-03): two 183s of one INVITE, each with its own tag and tone."""

import threading
import time

import rtp
from cases import case, check, same
from gateway import Gateway
from net import LITERAL
from proc import until
from sip import Call, Phone, token, uri_of
from switch import Switch


class Forking(Switch):
    """Answers an INVITE with a 183 of each of two forks."""

    def on_invite_request(self, wire, msg):
        self.asked = (wire, msg)
        self.tags = [token(), token()]
        for tag, media in zip(self.tags, self.forks):
            media.aim(msg.body)
            self.respond(wire, msg, 183, "Progress", f"Contact: {self.contact(wire)}\r\n", media.sdp(), to_tag=tag)
            time.sleep(0.1)

    def accept(self, fork):
        wire, msg = self.asked
        self.respond(wire, msg, 200, "OK", f"Contact: {self.contact(wire)}\r\n", to_tag=self.tags[fork])


def run(lab, forked, mac):
    """What the phone heard of each fork while it rang, and in the second after the first was confirmed."""
    key = "forked = true\n" if forked else ""
    gateway = Gateway(lab, ttl="64", replace=(('sender_limit = "multiple"', 'sender_limit = "lock"'), ("max_senders = 10\n", f"max_senders = 10\n{key}")))
    switch = Forking(lab)
    switch.forks = [rtp.Media(lab, "inside", LITERAL, tone=hertz) for hertz in (600, 1000)]
    phone = Phone(lab, f"forked-{forked}", "home1", 7, mac, LITERAL).connect()
    same(phone.register().status, 200, "REGISTER")
    media = phone.open_media()
    early, made = [], []
    local, call_id = f"<sips:anonymous@{LITERAL}>;tag={token()}", f"{token()}@lab"
    text = phone.invite_text(phone.wire, f"sips:200@{LITERAL}", call_id, local, media.sdp())
    threading.Thread(target=lambda: made.append(phone.transact(phone.wire, text, provisional=early)), daemon=True).start()
    until("two 183s", lambda: len([answer for answer in early if answer.status == 183]) == 2)
    media.aim([answer for answer in early if answer.status == 183][0].body)
    time.sleep(1.5)
    before = [len(media.heard_of(fork)) for fork in switch.forks]
    # the first is accepted, and its 200 says nothing of media: its 183 did
    switch.accept(0)
    until("the 200", lambda: made)
    final = made[0]
    call = Call(phone, phone.wire, call_id, local, final.one("to"), uri_of(final.one("contact")), final.values("record-route")[::-1], 1)
    call.request("ACK")
    time.sleep(0.3)
    counts = [len(media.heard_of(fork)) for fork in switch.forks]
    sent = [len(fork.heard_of(media)) for fork in switch.forks]
    time.sleep(1)
    after = [len(media.heard_of(fork)) - count for fork, count in zip(switch.forks, counts)]
    reached = [len(fork.heard_of(media)) - count for fork, count in zip(switch.forks, sent)]
    call.bye()
    for fork in [*switch.forks, media]:
        fork.close()
    for thing in (phone, switch):
        thing.close()
        lab.opened.remove(thing)
    gateway.stop()
    return before, after, reached


@case("forks")
def forks(lab):
    """two early answers to one call: the last is heard, with media.forked both; the one that is accepted stays, and it is talked to"""
    said = []
    for forked, mac in ((False, "08000FA00011"), (True, "08000FA00012")):
        before, after, reached = run(lab, forked, mac)
        said.append(f"forked = {str(forked).lower()}: {before} packets early, {after} after the 200, {reached} from the phone")
        check(before[1] > 40 and (before[0] > 40 if forked else before[0] < 25), said[-1])
        check(after[0] > 35 and after[1] == 0, said[-1])
        check(reached[0] > 35 and reached[1] == 0, said[-1])
    return "; ".join(said)
