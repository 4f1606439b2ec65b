"""Offers and answers wherever SIP lets them stand (SDP-03): SIPp asks, the literal-text switch answers, tones run beside both."""

import re
import threading

import rtp
from cases import Failed, case, check, same
from cases.sipp import WIRE
from gateway import Gateway
from net import GW_IN4, GW_OUT4, LITERAL
from proc import until
from sip import Call, tag_of, token, uri_of
from sipp import HEADS, Sipp, recv, scenario, send
from switch import Switch

SPEAK = 2600  # ms between two steps: time to hear one another
NEAR, FAR = 880, 440


class Far(Switch):
    """Does what the user that is called is named after."""

    def __init__(self, lab):
        super().__init__(lab)
        self.glares = []  # what our own re-INVITE met

    def on_invite_request(self, wire, msg):
        contact = f"Contact: {self.contact(wire)}\r\n"
        if tag_of(msg.one("to")):
            return self.again(self.calls[msg.one("call-id")], wire, msg, contact)
        tag = token()
        call = Call(self, wire, msg.one("call-id"), f"{msg.one('to')};tag={tag}", msg.one("from"), uri_of(msg.one("contact")), msg.values("record-route"), 100)
        call.invite, call.tag, call.flow = msg, tag, re.match(r"sips?:(\w+)@", msg.uri).group(1)
        call.media = rtp.Media(self.lab, *self.media_home, tone=FAR)
        self.calls[call.call_id] = call
        self.take(call, msg)
        if call.flow.startswith("prack"):
            self.respond(wire, msg, 183, "Session Progress", f"{contact}Require: 100rel\r\nRSeq: 1\r\n", call.media.sdp(), to_tag=tag)
        else:
            self.respond(wire, msg, 200, "OK", contact, call.media.sdp(), to_tag=tag)

    def again(self, call, wire, msg, contact):
        if call.flow == "refused":
            return self.respond(wire, msg, 488, "Not Acceptable Here")

        def cross():
            self.glares.append(call.request("INVITE", call.media.sdp()).status)
            self.take(call, msg)
            self.respond(wire, msg, 200, "OK", contact, call.media.sdp())
        threading.Thread(target=cross, daemon=True).start()

    def take(self, call, msg):
        if msg.body:
            call.offers.append(msg.body)
            call.media.aim(msg.body)

    def on_prack_request(self, wire, msg):
        call = self.calls[msg.one("call-id")]
        self.take(call, msg)
        self.respond(wire, msg, 200, "OK", body=call.media.sdp() if call.flow == "prackoffer" else "")
        self.respond(call.wire, call.invite, 200, "OK", f"Contact: {self.contact(wire)}\r\n", to_tag=call.tag)

    def on_update_request(self, wire, msg):
        call = self.calls[msg.one("call-id")]
        self.take(call, msg)
        self.respond(wire, msg, 200, "OK", f"Contact: {self.contact(wire)}\r\n", call.media.sdp())

    def on_ack_request(self, wire, msg):
        self.take(self.calls[msg.one("call-id")], msg)

    def call_of(self, flow):
        return next((call for call in self.calls.values() if call.flow == flow), None)


def script(flow, first, second):
    """SIPp's side of a flow; `first` and `second` are its descriptions."""
    to = f"sip:{flow}@{LITERAL}"
    ours = f"From: <sip:caller@{LITERAL}>;tag=[pid]c[call_number]"
    contact = "Contact: <sip:caller@[local_ip]:[local_port];transport=[transport]>"

    def later(method, n, body="", more=""):
        text = f"{method} [next_url] SIP/2.0\n[routes]\n{HEADS}\n{ours}\n[last_To:]\nCSeq: {n} {method}\n{contact}{more}" + (f"\n\n{body}" if body else "")
        return send(text, **({} if method == "ACK" else {"retrans": 500}))
    pause = f'<pause milliseconds="{SPEAK}"/>'
    offers = flow not in ("late", "prack")
    require = "\nSupported: 100rel" if flow.startswith("prack") else ""
    steps = [send(f"INVITE {to} SIP/2.0\n{HEADS}\n{ours}\nTo: <{to}>\nCSeq: 1 INVITE\n{contact}{require}" + (f"\n\n{first}" if offers else ""), retrans=500), recv(100, True)]
    last = 2
    if flow.startswith("prack"):
        steps += [recv(183, rrs="true"), later("PRACK", 2, second if offers else first, "\nRAck: 1 1 INVITE"), recv(200), recv(200), later("ACK", 1), pause]
        last = 3
    else:
        steps += [recv(200, rrs="true"), later("ACK", 1, "" if offers else first), pause]
    if flow == "update":
        steps += [later("UPDATE", 2, second), recv(200), pause]
    if flow == "refused":
        steps += [later("INVITE", 2, second), recv(100, True), recv(488), later("ACK", 2).replace("[branch]", "[branch-2]"), pause]
    if flow == "glare":
        steps += [later("INVITE", 2, second), recv(100, True), recv(200), later("ACK", 2), pause]
    if flow in ("update", "refused", "glare"):
        last = 3
    return scenario(*steps, later("BYE", last), recv(200))


def messages(sipp):
    """What it noted until now."""
    try:
        with open(sipp.errors.replace("-errors.log", "-messages.log"), errors="replace") as log:
            return log.read()
    except FileNotFoundError:
        return ""


def described(sipp):
    """The descriptions that this SIPp read."""
    return re.findall(r"message received \[\d+\] bytes :\s*\n\s*SIP/2\.0 \d+.*?\n\r?\n(v=0.*?)\r?\n(?:\r?\n|-{5})", messages(sipp), re.S)


def both_hear(flow, near, far):
    marks = len(near.got), len(far.got)

    def heard():
        return len(near.got) > marks[0] + 25 and len(far.got) > marks[1] + 25 and near.hears(FAR) > 0.8 and far.hears(NEAR) > 0.8
    until(f"{flow}: audio both ways", heard, 12)


def run(lab, far, flow, number):
    """One flow from INVITE to BYE; which of SIPp's two ports speaks at the end."""
    home = lab.phone_address("home2", 8)
    first, second = rtp.Media(lab, "home2", home, tone=NEAR), rtp.Media(lab, "home2", home, tone=NEAR)
    lab.opened += [first, second]
    plain = lambda media: media.sdp().replace("\r\n", "\n")  # noqa: E731
    with lab.port_lock:
        sipp = Sipp(lab, "home2", 8, "UDP", script(flow, plain(first), plain(second)), port=5070 + 2 * number)
    speaks = second if flow == "prackoffer" else first
    until(f"{flow}: SIPp reads a description", lambda: described(sipp), 10)
    speaks.aim(described(sipp)[-1].encode())
    call = until(f"{flow}: the switch reads one", lambda: (c := far.call_of(flow)) and c.offers and c, 10)
    both_hear(flow, speaks, call.media)
    if flow in ("update", "glare", "refused"):
        moved = flow != "refused"
        before = len(described(sipp))
        if moved:
            until(f"{flow}: SIPp reads another", lambda: len(described(sipp)) > before, 10)
            second.aim(described(sipp)[-1].encode())
            first.quiet = True
            speaks = second
        else:
            until(f"{flow}: SIPp is refused", lambda: "SIP/2.0 488" in messages(sipp), 10)
        begun = len(second.got)
        both_hear(f"{flow}, afterwards", speaks, call.media)
        check(moved or len(second.got) == begun, f"{flow}: media went where the refused offer said")
    sipp.done()
    for text, address in [(t, GW_OUT4) for t in described(sipp)] + [(b.decode(), GW_IN4) for b in call.offers]:
        same(re.search(r"^c=IN IP4 (\S+?)\r?$", text, re.M).group(1), address, f"{flow}: the address that is read")
    call.media.close()


FLOWS = {
    "early": "offer in INVITE",
    "late": "offer in 200, answer in ACK",
    "prack": "offer in 183, answer in PRACK",
    "prackoffer": "second offer in PRACK",
    "update": "UPDATE",
    "refused": "re-INVITE refused by 488",
    "glare": "491",
}


@case("sdp-offers")
def offers(lab):
    """SDP-03: SIPp offers in INVITE, PRACK, UPDATE and re-INVITE, answers in ACK and PRACK; a refused re-INVITE leaves the audio as it was, one that crosses another is 491; tones heard both ways after each"""
    Gateway(lab, ttl="64", replace=WIRE)
    far, problems = Far(lab), []

    def attempt(flow, number):
        try:
            run(lab, far, flow, number)
        except Exception as problem:  # told below, with the others
            problems.append(f"{type(problem).__name__} {problem}")
    threads = [threading.Thread(target=attempt, args=(flow, n)) for n, flow in enumerate(FLOWS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise Failed("; ".join(problems))
    same(far.glares, [491], "what the switch's crossing re-INVITE met")
    return "heard both ways: " + ", ".join(FLOWS.values())
