"""A switch that rings two and lets both answer early (MED-13, SDP-03): two 183s of one INVITE, each with its own tag and tone."""

import re
import signal
import threading
import time

import rtp
from cases import case, check, same
from cases.killed_media import Media
from gateway import Gateway
from net import LITERAL
from proc import until
from sip import Call, Phone, token, uri_of
from sipp import Sipp, recv, scenario, send
from switch import Switch
from tap import Tap


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


def place(body):
    """Where a description asks for audio."""
    return re.search(rb"^c=IN IP[46] (\S+)", body, re.M).group(1).decode(), int(re.search(rb"^m=audio (\d+)", body, re.M).group(1))


def bound(lab):
    """The UDP ports of the gateway, each with its address: another one may have the same number."""
    ours = [line.split()[3].rsplit(":", 1) for line in lab.net.run("gw", "ss", "-Hanu").stdout.splitlines()]
    return {(address, int(number)) for address, number in ours}


def heard_by_port(packets, fork):
    """How many packets of a fork left towards the phone, by our address and port."""
    ports = {}
    for p in packets:
        if p.out and p.rtp and p.ssrc == fork.ssrc:
            ports[p.src] = ports.get(p.src, 0) + 1
    return ports


def run(lab, forked, mac, winner):
    """What the phone heard of each fork while it rang, and in the second after one was confirmed."""
    key = "forked = true\n" if forked else ""
    gateway = Gateway(lab, ttl="64", replace=(('sender_limit = "multiple"', 'sender_limit = "lock"'), ("max_senders = 10\n", f"max_senders = 10\n{key}")))
    switch = Forking(lab)
    switch.forks = [rtp.Media(lab, "inside", LITERAL, tone=hertz) for hertz in (600, 1000)]
    phone = Phone(lab, f"forked-{forked}-{winner}", "home1", 7, mac, LITERAL).connect()
    same(phone.register().status, 200, "REGISTER")
    media = phone.open_media()
    tap = Tap(lab, "gw", "eth1")
    early, made = [], []
    local, call_id = f"<sips:anonymous@{LITERAL}>;tag={token()}", f"{token()}@lab"
    text = phone.invite_text(phone.wire, f"sips:200@{LITERAL}", call_id, local, media.sdp())
    threading.Thread(target=lambda: made.append(phone.transact(phone.wire, text, provisional=early)), daemon=True).start()
    progress = lambda: [answer for answer in early if answer.status == 183]  # noqa: E731
    until("two 183s", lambda: len(progress()) == 2)
    told = [place(answer.body) for answer in progress()]
    check((told[0] != told[1]) == forked, f"the 183s name the ports {told}")
    media.aim(progress()[0].body, start=False)
    # a phone behind NAT speaks to each early dialog that it wants to hear (RFC 6263)
    media.also = [told[1]] if forked else []
    media.talk()
    time.sleep(1.5)
    before = [len(media.heard_of(fork)) for fork in switch.forks]
    spoken = [len(fork.heard_of(media)) for fork in switch.forks]
    if forked:
        for fork, at in zip(switch.forks, told):
            same(set(heard_by_port(tap.read(), fork)), {at}, "where a tone left from")
            check(rtp.goertzel(tone_of(media, fork), fork.hertz) > 0.9, "each tone is whole")
        check(min(spoken) > 40, f"the phone reaches both: {spoken}")
        check(set(told) <= bound(lab), "both ports are open")
    # one is accepted, and its 200 says nothing of media: its 183 did
    switch.accept(winner)
    until("the 200", lambda: made)
    media.remote, media.also = told[winner], []
    final = made[0]
    call = Call(phone, phone.wire, call_id, local, final.one("to"), uri_of(final.one("contact")), final.values("record-route")[::-1], 1)
    call.request("ACK")
    time.sleep(0.3)
    open_ports = bound(lab)
    check(told[winner] in open_ports and (not forked or told[1 - winner] not in open_ports), f"{told} of {sorted(open_ports)} after the 200")
    counts = [len(media.heard_of(fork)) for fork in switch.forks]
    sent = [len(fork.heard_of(media)) for fork in switch.forks]
    time.sleep(1)
    after = [len(media.heard_of(fork)) - count for fork, count in zip(switch.forks, counts)]
    reached = [len(fork.heard_of(media)) - count for fork, count in zip(switch.forks, sent)]
    call.bye()
    until("the ports are closed", lambda: not set(told) & bound(lab))
    for fork in [*switch.forks, media]:
        fork.close()
    for thing in (phone, switch, tap):
        thing.close()
        lab.opened.remove(thing)
    gateway.stop()
    return before, after, reached


def tone_of(media, fork):
    """The samples of one of several tones that come to one port."""
    packets = [p for _, _, p in media.got if len(p) >= 12 and int.from_bytes(p[8:12], "big") == fork.ssrc]
    return [rtp.LINEAR[b] for p in packets[-25:] for b in p[12:]]


@case("forks")
def forks(lab):
    """two early answers to one call: the last is heard, with media.forked both, each by a port of its own; the one that is accepted stays, and the other's port closes"""
    said = []
    for forked, mac, winner in ((False, "08000FA00011", 0), (True, "08000FA00012", 0), (True, "08000FA00013", 1)):
        before, after, reached = run(lab, forked, mac, winner)
        loser = 1 - winner
        said.append(f"forked = {str(forked).lower()}: {before} packets early, {after} after the 200, {reached} from the phone")
        check(before[1] > 40 and (before[0] > 40 if forked else before[0] < 25), said[-1])
        check(after[winner] > 35 and after[loser] == 0, said[-1])
        check(reached[winner] > 35 and reached[loser] == 0, said[-1])
    return "; ".join(said)


@case("killed-ringing-media")
def killed_ringing(lab):
    """kill -9 of signalling while a call rings, with early media of two forks: the next process finds nobody's session and closes all of its ports; the phone, which is back, calls again"""
    media_process = ("[media]\n", "[media]\nprocess = true\nforked = true\n")
    process = Media(lab)
    gateway = Gateway(lab, ttl="64", replace=(media_process,))
    switch = Forking(lab)
    switch.forks = [rtp.Media(lab, "inside", LITERAL, tone=hertz) for hertz in (600, 1000)]
    phone = Phone(lab, "killed-ringing", "home1", 7, "08000FA00014", LITERAL).connect()
    same(phone.register().status, 200, "REGISTER")
    media, relay = phone.open_media(), process.one()
    idle = bound(lab)
    early = []
    local, call_id = f"<sips:anonymous@{LITERAL}>;tag={token()}", f"{token()}@lab"
    text = phone.invite_text(phone.wire, f"sips:200@{LITERAL}", call_id, local, media.sdp())

    def ask():
        try:
            phone.transact(phone.wire, text, provisional=early)
        except (OSError, TimeoutError):
            pass  # its connection goes with the gateway
    threading.Thread(target=ask, daemon=True).start()
    until("two 183s", lambda: len([answer for answer in early if answer.status == 183]) == 2)
    told = {place(answer.body) for answer in early if answer.status == 183} | {place(switch.asked[1].body)}
    check(len(told) == 3 and told <= bound(lab), f"{told} of {sorted(bound(lab))}")
    gateway.proc.stop(signal.SIGKILL)
    check(told <= bound(lab), "the media process has them still")
    gateway.start()
    same(process.one(), relay, "the media process of before")
    until("the ports of the call that rang are closed", lambda: not told & bound(lab), 5)
    same(len(gateway.events("nobody's: a session of an earlier process is ended")), 1, "sessions that were ended")
    same(phone.connect().register().status, 200, "REGISTER")
    for fork in switch.forks:
        fork.close()
    switch.forks = [rtp.Media(lab, "inside", LITERAL, tone=hertz) for hertz in (600, 1000)]
    made, again = [], []
    call_id = f"{token()}@lab"
    text = phone.invite_text(phone.wire, f"sips:200@{LITERAL}", call_id, local, media.sdp())
    threading.Thread(target=lambda: made.append(phone.transact(phone.wire, text, provisional=again)), daemon=True).start()
    until("two 183s again", lambda: len([answer for answer in again if answer.status == 183]) == 2)
    switch.accept(0)
    until("the 200", lambda: made)
    final = made[0]
    call = Call(phone, phone.wire, call_id, local, final.one("to"), uri_of(final.one("contact")), final.values("record-route")[::-1], 1)
    call.request("ACK")
    call.bye()
    until("the ports of the next call are closed", lambda: not {place(answer.body) for answer in again if answer.status == 183} & bound(lab))
    for end in (media, *switch.forks):
        end.close()  # else they go on talking in the cases to come
    return f"{len(told)} ports closed after the restart ({len(idle)} bound before the call), and the next call is answered"


INSIDE_ROW = '''[[sip.ports]]
name = "plain"
interface = "inside"
port = 5060
transport = "udp+tcp"
allow_from = "appliances"
trust_source = true
[[sip.ports]]
name = "switches"'''
ANSWER = """[last_Via:]
[last_Record-Route:]
[last_From:]
[last_To:];tag={tag}
[last_Call-ID:]
[last_CSeq:]
Contact: <sip:[local_ip]:[local_port];transport=[transport]>"""


@case("forks-sipp")
def by_sipp(lab):
    """SIPp as the switch: 183s of two To tags to one INVITE, each with a tone of its own; both are heard, the second wins and the first one's port closes"""
    # locked: what a loser still sends from the winner's address is let in beside it otherwise, as from any further sender
    lock = ('sender_limit = "multiple"', 'sender_limit = "lock"')
    gateway = Gateway(lab, ttl="64", replace=(lock, ("max_senders = 10\n", "max_senders = 10\nforked = true\n"), ('[[sip.ports]]\nname = "switches"', INSIDE_ROW)))
    switch, phone = Switch(lab), Phone(lab, "forks-sipp", "home1", 7, "08000FA00015", LITERAL).connect()
    same(phone.register().status, 200, "REGISTER")
    tones = [rtp.Media(lab, "inside", LITERAL, tone=hertz) for hertz in (600, 1000)]
    head = {tag: ANSWER.format(tag=tag) for tag in "ab"}
    early = [send(f"SIP/2.0 183 Session Progress\n{head[tag]}\n\n{tone.sdp()}") for tag, tone in zip("ab", tones)]
    done = "[last_Via:]\n[last_From:]\n[last_To:]\n[last_Call-ID:]\n[last_CSeq:]"
    script = scenario(recv("INVITE"), early[0], '<pause milliseconds="200"/>', early[1], '<pause milliseconds="2500"/>',
                      send(f"SIP/2.0 200 OK\n{head['b']}\n\n{tones[1].sdp()}", retrans=500), recv("ACK"), recv("BYE"), send(f"SIP/2.0 200 OK\n{done}"))
    sipp = Sipp(lab, "inside", LITERAL, "UDP", script, port=5070)
    time.sleep(0.5)
    media = phone.open_media()
    answers, made = [], []
    local, call_id = f"<sips:anonymous@{LITERAL}>;tag={token()}", f"{token()}@lab"
    text = phone.invite_text(phone.wire, f"sip:200@{LITERAL}:5070;transport=udp", call_id, local, media.sdp())
    threading.Thread(target=lambda: made.append(phone.transact(phone.wire, text, provisional=answers)), daemon=True).start()
    progress = lambda: [answer for answer in answers if answer.status == 183]  # noqa: E731
    until("two 183s", lambda: len(progress()) == 2)
    told = [place(answer.body) for answer in progress()]
    check(told[0] != told[1] and progress()[0].one("to") != progress()[1].one("to"), f"the 183s name {told}")
    for tone in tones:
        tone.aim(sipp.offers()[0].encode())
    media.aim(progress()[0].body, start=False)
    media.also = [told[1]]
    media.talk()
    time.sleep(1.5)
    heard = [rtp.goertzel(tone_of(media, tone), tone.hertz) for tone in tones]
    check(min(heard) > 0.9, f"both tones, whole: {heard}")
    until("the 200", lambda: made)
    media.remote, media.also = told[1], []
    final = made[0]
    call = Call(phone, phone.wire, call_id, local, final.one("to"), uri_of(final.one("contact")), final.values("record-route")[::-1], 1)
    call.request("ACK")
    until("the loser's port is closed", lambda: told[0] not in bound(lab))
    before = [len(media.heard_of(tone)) for tone in tones]
    time.sleep(1)
    after = [len(media.heard_of(tone)) - count for tone, count in zip(tones, before)]
    check(after[1] > 35 and after[0] == 0, f"{after} packets after the 200")
    same(call.bye().status, 200, "BYE")
    sipp.done()
    until("all ports are closed", lambda: not set(told) & bound(lab))
    for thing in (*tones, media):
        thing.close()
    for thing in (phone, switch):
        thing.close()
        lab.opened.remove(thing)
    gateway.stop()
    return f"tones at {told[0][1]} and {told[1][1]}, {after} packets a second after the 200"
