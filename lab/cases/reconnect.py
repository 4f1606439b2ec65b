"""One phone loses its TLS connection: who is reachable, what the switch sees, and whether its call can still be ended."""

import signal
import time

from cases import case, check, same
from gateway import Gateway
from net import CALLER, KAMAILIO, NAT4
from proc import until
from sip import Caller, Phone

PHONES = (("home1", 7, "08000FA00001"), ("home1", 8, "08000FA00002"), ("home2", 7, "08000FA00003"))


def setting(lab, port=0):
    """A gateway, three registered phones (the first from the given source port), the calling script."""
    gateway = Gateway(lab)
    phones = []
    for home, number, mac in PHONES:
        phone = Phone(lab, mac, home, number, mac, KAMAILIO).connect(0 if phones else port)
        same(phone.register().status, 200, f"REGISTER of {mac}")
        phones.append(phone)
    return gateway, phones, Caller(lab, CALLER, KAMAILIO)


def cut(gateway, phone):
    """RST; wait until the gateway's host knows."""
    peer = f"{NAT4[phone.home]}:{phone.wire.local[1]}"
    until("the gateway sees the connection", lambda: peer in gateway.peers())
    phone.wire.close(reset=True)
    until("the gateway has lost the connection", lambda: peer not in gateway.peers())
    time.sleep(0.1)


def again(phone):
    """From another port, with the same REGISTER Contact."""
    before = phone.wire.local[1]
    phone.connect()
    check(phone.wire.local[1] != before, "another source port")
    same(phone.register().status, 200, "REGISTER after the cut")


@case("reconnect")
def reconnect(lab):
    """only the cut phone answers 480; from another port it is reachable again under the same Contact at Kamailio"""
    gateway, phones, caller = setting(lab)
    before = lab.kamailio.contacts()
    same(len(before), 3, "bindings at Kamailio")
    cut(gateway, phones[0])
    start = gateway.proc.size()
    same([caller.ring(p.mac) for p in phones], [480, 180, 180], "status of calls to the cut phone and to the others")
    same([(e["method"], e["status"]) for e in gateway.events("refused", start)], [("INVITE", 480)], "what the gateway itself refused")
    again(phones[0])
    same(lab.kamailio.contacts(), before, "Kamailio's location")
    counts = [p.ring_count() for p in phones]
    same([caller.ring(p.mac) for p in phones], [180, 180, 180], "status of calls after the reconnect")
    same([p.ring_count() - c for p, c in zip(phones, counts, strict=True)], [1, 1, 1], "INVITEs each phone got")
    return "480, 180, 180; after the reconnect 180 three times, the same 3 Contacts at Kamailio"


@case("reconnect-silent")
def silent(lab):
    """the NAT forgets the connection and nobody says so: the phone comes back on a new one and takes its binding along"""
    gateway, phones, caller = setting(lab)
    before = lab.kamailio.contacts()
    lost = phones[0].wire
    lab.net.nft("nat1", f"add rule inet home cut tcp sport {lost.local[1]} drop\nadd rule inet home cut tcp dport {lost.local[1]} drop\n")
    try:
        start = time.monotonic()
        again(phones[0])
        took = time.monotonic() - start
        same(lab.kamailio.contacts(), before, "Kamailio's location")
        same([caller.ring(p.mac) for p in phones], [180, 180, 180], "status of calls")
        same([p.ring_count() for p in phones], [1, 1, 1], "INVITEs each phone got")
        check(took < 4, f"registered again after {took:.1f} s")
    finally:
        lab.net.nft("nat1", "flush chain inet home cut\n")
    return f"registered again in {took:.1f} s over the half-open connection; 180 three times"


def running_call(lab, ender, registers=True):
    gateway, phones, caller = setting(lab)
    phone = phones[0]
    phone.on_invite = "answer"
    call, final = caller.call(phone.mac)
    same(final.status, 200, "INVITE")
    theirs = phone.calls[call.call_id]
    until("audio at both ends", lambda: len(call.media.got) > 20 and len(theirs.media.got) > 20)
    cut(gateway, phone)
    at = len(call.media.got)
    if registers:
        again(phone)
    else:
        phone.connect()
    theirs.wire = phone.wire
    until("audio after the reconnect", lambda: len(call.media.got) > at + 20)
    ending, other = (theirs, call) if ender == "phone" else (call, theirs)
    same(ending.bye().status, 200, f"BYE by the {ender}")
    check(other.ended.wait(2), "the other end got the BYE")
    if ender == "switch":
        wires = [w for w, m in phone.received if m.method == "BYE"]
        check(wires == [phone.wire], "the BYE came once, on the new connection")
    return f"INVITE 200, cut, back from another port, BYE by the {ender} 200 and seen at the other end"


@case("reconnect-bye-phone")
def bye_phone(lab):
    """a call that ran before the cut is ended by the phone over its new connection"""
    return running_call(lab, "phone")


@case("reconnect-bye-first")
def bye_first(lab):
    """the same when the BYE is the first thing that the phone says on its new connection"""
    return running_call(lab, "phone", registers=False)


@case("reconnect-bye-switch")
def bye_switch(lab):
    """a call that ran before the cut is ended from the switch side"""
    return running_call(lab, "switch")


@case("reconnect-takeover")
def takeover(lab):
    """another phone takes over the cut phone's address and port and gets none of its calls"""
    port = 41000
    gateway, phones, caller = setting(lab, port)
    cut_phone = phones[0]
    cut_phone.on_invite = "answer"
    call, final = caller.call(cut_phone.mac)
    same(final.status, 200, "INVITE")
    peer = f"{NAT4['home1']}:{port}"
    check(peer in gateway.peers(), f"the phone is seen as {peer}: {gateway.peers()}")
    cut(gateway, cut_phone)
    time.sleep(1.5)  # the NAT forgets the closed connection after a second
    taker = Phone(lab, "taker", "home1", 9, "08000FA00009", KAMAILIO).connect(port)
    check(peer in gateway.peers(), f"the other phone is seen as {peer}, the same address and port: {gateway.peers()}")
    same(taker.register().status, 200, "REGISTER of the other phone")
    received, start = len(taker.received), gateway.proc.size()
    same(caller.ring(cut_phone.mac), 480, "call to the cut phone")
    bye = call.request("BYE", timeout=12)
    same(bye.status, 480, "BYE of its running call")
    until("the call is over for the gateway and its relay", lambda: gateway.events("call ended", start) and len(gateway.events("stream ended", start)) == 2, 3)
    time.sleep(0.3)
    same([m.method for _, m in taker.received[received:]], [], "requests that the other phone got")
    same(caller.ring(taker.mac), 180, "call to the other phone itself")
    return f"same address and port ({peer}): call 480, BYE {bye.status}, the other phone got nothing but its own call"


@case("reconnect-restart")
def restart(lab):
    """kill -9: phones that have not come back answer 480, not 404; who comes back is reachable under the same Contact, and its call can be ended"""
    gateway, phones, caller = setting(lab)
    before = lab.kamailio.contacts()
    phone = phones[0]
    phone.on_invite = "answer"
    call, final = caller.call(phone.mac)
    same(final.status, 200, "INVITE")
    theirs = phone.calls[call.call_id]
    gateway.proc.stop(signal.SIGKILL)
    for other in phones:
        other.wire.close()
    start = time.monotonic()
    gateway.start()
    took = time.monotonic() - start
    same([caller.ring(p.mac) for p in phones[1:]], [480, 480], "status of calls to phones that have not come back")
    # Only the connection is new: no REGISTER, the switch's Contact and the call are those of before.
    phone.connect()
    theirs.wire = phone.wire
    same(theirs.bye().status, 200, "BYE of the call of before, by the phone")
    check(call.ended.wait(2), "the other end got the BYE")
    for other in phones[1:]:
        again(other)
    phone.on_invite = "ring"
    same([caller.ring(p.mac) for p in phones], [180, 180, 180], "status of calls after the return")
    same(lab.kamailio.contacts(), before, "Kamailio's location")
    return f"up again {took:.1f} s after kill -9; 480 for who is away, 180 three times, the same 3 Contacts; BYE of the running call 200"
