"""linphone over TLS: register, call both ways, hold, cancel, busy, transfers, through the gateway and Kamailio; and bodies that no relay looks at."""

import time

from cases import case, same
from gateway import Gateway
from linphone import Linphone
from net import KAMAILIO, LITERAL
from sip import Phone, token
from switch import Switch

RUNNING, RINGS, HELD, OVER = "to LinphoneCallStreamsRunning", "to LinphoneCallIncomingReceived", "to LinphoneCallPausedByRemote", "to LinphoneCallEnd"


def four(lab):
    """The last can have one call at a time."""
    homes = ((1, "home1"), (2, "home2"), (3, "home1"), (4, "home2"))
    phones = [Linphone(lab, home, f"08000FB1000{n}", f"20{n}", calls=1 if n == 4 else 10).start() for n, home in homes]
    for phone in phones:
        phone.wait("to [LinphoneRegistrationOk]", 15)
    return phones


def talk(caller, callee):
    """A call from one to the other, until media runs at both."""
    marks = caller.mark(), callee.mark()
    caller.do(f"call sip:{callee.user}@{KAMAILIO}")
    callee.wait(RINGS, since=marks[1])
    callee.do("answer")
    caller.wait(RUNNING, since=marks[0])
    callee.wait(RUNNING, since=marks[1])


def hang_up(one, *others):
    marks = [other.mark() for other in others]
    one.do("terminate all")
    for other, mark in zip(others, marks, strict=True):
        other.wait("LinphoneCallReleased", since=mark)
    time.sleep(0.3)


@case("linphone")
def linphone(lab):
    """four linphones: calls both ways, hold and resume, CANCEL in ringing, 486, blind and attended transfer"""
    Gateway(lab)
    one, two, three, single = four(lab)
    talk(one, two)
    marks = one.mark(), two.mark()
    one.do("pause")
    two.wait(HELD, since=marks[1])
    one.wait("to LinphoneCallPaused", since=marks[0])  # before that it refuses to resume
    mark = two.mark()
    one.do("resume")
    two.wait(RUNNING, since=mark)
    hang_up(two, one)
    marks = one.mark(), two.mark()
    two.do(f"call sip:{one.user}@{KAMAILIO}")
    one.wait(RINGS, since=marks[0])
    two.wait("LinphoneCallOutgoingRinging", since=marks[1])
    two.do("terminate")
    one.wait(OVER, since=marks[0])
    for phone, mark in zip((one, two), marks, strict=True):
        phone.wait("SIP/2.0 487", since=mark)
    talk(one, single)
    mark = two.mark()
    two.do(f"call sip:{single.user}@{KAMAILIO}")
    two.wait("SIP/2.0 486", since=mark)
    hang_up(one, single)
    blind(one, two, three)
    attended(one, two, three)
    return "registered with client certificates; call, hold, resume, BYE by the callee; CANCEL 487; 486; blind and attended transfer: the third answers, the first talks on"


def blind(one, two, three):
    talk(one, two)
    marks = one.mark(), two.mark(), three.mark()
    two.do(f"transfer sip:{three.user}@{KAMAILIO}")
    three.wait(RINGS, since=marks[2])
    three.do("answer")
    one.wait(RUNNING, since=marks[0])
    three.wait(RUNNING, since=marks[2])
    two.wait("LinphoneCallReleased", since=marks[1])
    hang_up(one, three)


def attended(one, two, three):
    talk(one, two)
    mark = one.mark()
    two.do("pause")
    one.wait(HELD, since=mark)
    marks = one.mark(), three.mark()
    talk(two, three)
    held, running = two.call_ids()[-2:]
    two.do(f"transfer {held} --to-call {running}")
    three.wait("Replaces: ", since=marks[1])
    one.wait(RUNNING, since=marks[0])
    time.sleep(0.5)
    hang_up(one, three)


@case("bodies")
def bodies(lab):
    """PUBLISH, csta+xml, multipart and all 256 octets pass bit for bit in both directions"""
    Gateway(lab)
    switch = Switch(lab)
    phone = Phone(lab, "bodies", "home1", 7, "08000FA00001", LITERAL).connect()
    same(phone.register().status, 200, "REGISTER")
    uri, wire = switch.binding(phone.mac)
    octets = bytes(range(256)) * 3
    csta = '<?xml version="1.0"?>\r\n<MakeCall xmlns="http://www.ecma-international.org/standards/ecma-323/csta/ed4">\r\n <x>ÄÖ</x>\n\t</MakeCall>\r\n'.encode()
    parts = b"--b\r\nContent-Type: text/plain\r\n\r\n\0\xff\r\n--b--\r\n"
    kinds = (("PUBLISH", "application/vq-rtcpxr", octets), ("NOTIFY", "application/csta+xml", csta), ("INFO", "application/octet-stream", octets), ("MESSAGE", "multipart/mixed;boundary=b", parts))
    for sender, over, target, receiver in ((phone, phone.wire, f"sips:vqswitch@{LITERAL}", switch), (switch, wire, uri, phone)):
        for method, kind, body in kinds:
            text = (f"{method} {target} SIP/2.0\r\nVia: {sender.via(over)}\r\nMax-Forwards: 70\r\nFrom: <sips:anonymous@{LITERAL}>;tag={token()}\r\nTo: <{target}>\r\nCall-ID: {token()}\r\n"
                    f"CSeq: 1 {method}\r\nContact: {sender.contact(over)}\r\nEvent: vq-rtcpxr\r\nSubscription-State: active\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n")
            got = send(sender, over, text, body)
            same(got, 200, f"{method} with {kind}")
            same(receiver.received[-1][1].body, body, f"the body of {method}")
            same(receiver.received[-1][1].one("content-type"), kind, f"Content-Type of {method}")
    return f"{2 * len(kinds)} bodies, all octets 0 to 255 among them, arrived as they were sent"


def send(agent, wire, head, body):
    """A request whose body is octets: its final status."""
    class Joined(str):
        def encode(self, *_):
            return head.encode() + body
    return agent.transact(wire, Joined(head)).status
