"""Hold and resume through the gateway: softphones, and every dialect of it by scripted ends of which the held one goes on talking."""

import re
import time

from cases import case, check, same
from cases.audio import dial, hang_up
from cases.nat import pair
from gateway import Gateway
from net import CALLER, GW_IN4, GW_OUT4, KAMAILIO, NAT4
from proc import until
from rtp import LINEAR, goertzel
from sip import Caller, Phone
from tap import Tap

# what the one who holds writes: (where it receives, its direction), and the direction that the other end has to read
DIALECTS = {
    "sendonly": (None, "a=sendonly\r\n", "sendonly"),
    "inactive": (None, "a=inactive\r\n", "inactive"),
    "0.0.0.0": ("0.0.0.0", "", "sendonly"),
    "0.0.0.0 and sendonly": ("0.0.0.0", "a=sendonly\r\n", "sendonly"),
}


def described(body):
    """(address, port, direction) of a description with one stream."""
    text = body.decode()
    direction = re.search(r"^a=(sendrecv|sendonly|recvonly|inactive)\r?$", text, re.M)
    return re.search(r"^c=IN IP4 (\S+)", text, re.M).group(1), int(re.search(r"^m=audio (\d+)", text, re.M).group(1)), direction.group(1) if direction else "sendrecv"


def hold(holder, held, ours, name):
    """One end holds and resumes; both are (Call, Media). Returns how much of the other's talk came while it held."""
    (call, mine), (other, theirs) = holder, held
    address, direction, wanted = DIALECTS[name]
    port = theirs.remote[1]
    answer = call.request("INVITE", mine.sdp(address, direction))
    same(answer.status, 200, f"{name}: re-INVITE")
    call.request("ACK")
    same(described(other.offers[-1]), (ours, port, wanted), f"{name}: what the held end reads")
    time.sleep(0.15)
    begun, music = len(mine.got), len(theirs.got)
    time.sleep(0.4)
    came = len(mine.got) - begun
    check("0.0.0.0" not in name or came == 0, f"{name}: {came} packets were sent to who receives nowhere")
    check(len(theirs.got) - music > 10, f"{name}: what the holder plays is not heard")
    answer = call.request("INVITE", mine.sdp())
    same(answer.status, 200, f"{name}: resume")
    call.request("ACK")
    same(described(other.offers[-1]), (ours, port, "sendrecv"), f"{name}: what the held end reads at the end")
    begun, music = len(mine.got), len(theirs.got)
    until(f"{name}: audio both ways again", lambda: len(mine.got) > begun + 10 and len(theirs.got) > music + 10, 20)
    return came


def tones(packets):
    """Which tone the last half second sent to each address is."""
    found = {}
    for to in {p.dst[0] for p in packets if p.out}:
        samples = [LINEAR[b] for p in [p for p in packets if p.out and p.dst[0] == to][-25:] for b in p.payload[12:]]
        found[to] = next((hertz for hertz in (440, 880) if len(samples) >= 4000 and goertzel(samples, hertz) > 0.8), None)
    return found


@case("hold")
def holds(lab):
    """a baresip holds and resumes; then sendonly, inactive, 0.0.0.0 (RFC 2543) by either side: the relay's address stays, nothing goes to who receives nowhere, resume brings audio both ways"""
    Gateway(lab, ttl="64")
    a, b = pair(lab, 19, "home1", 10, "home2", 10)
    a.registered(), b.registered()
    dial(a, b)
    tap = Tap(lab, "gw", "eth1")
    a.command("hold")
    b.wait("CALL_REMOTE_SDP")
    phone = Phone(lab, "holder", "home1", 7, "08000FA00001", KAMAILIO).connect()
    phone.on_invite, phone.tone = "answer", 880
    same(phone.register().status, 200, "REGISTER")
    caller = Caller(lab, CALLER, KAMAILIO)
    call, final = caller.call(phone.mac)
    same(final.status, 200, "call from the inside")
    theirs = phone.calls[call.call_id]
    until("audio both ways", lambda: len(call.media.got) > 10 and len(theirs.media.got) > 10, 20)
    outer, inner = (theirs, theirs.media), (call, call.media)
    done = []
    for name in DIALECTS:
        done.append(hold(outer, inner, GW_IN4, name))
    for name in ("sendonly", "0.0.0.0"):
        done.append(hold(inner, outer, GW_OUT4, name))
    mark = len(tap.rtp())
    time.sleep(0.5)
    between = [p for p in tap.rtp()[mark:] if p.src[0] == NAT4["home2"] or p.dst[0] == NAT4["home2"]]
    same(len(between), 0, "packets between softphones of which one holds")
    same(call.bye().status, 200, "BYE")
    mark = len(tap.rtp())
    a.command("resume")
    until("both softphones are sent tones again", lambda: tones(tap.rtp()[mark:]) == {NAT4["home1"]: 880, NAT4["home2"]: 440}, 20)
    hang_up(a, b)
    text = b.proc.text()
    directions = re.findall(r"\nc=IN IP4 203\.0\.113\.10\r?\n(?:.*\n)*?a=(sendrecv|sendonly|recvonly|inactive)", text)
    same(directions, ["sendrecv", "sendonly", "sendrecv"], "directions in the offers that the held softphone read")
    return f"baresip: held silent, resumed with audio both ways; {len(done)} holds by 4 dialects from either side, resumed with audio; sent to who receives nowhere: 0 packets"
