"""What Kamailio stores for a phone in each `sip.uri_encoding`, and that it leads back; Path and GRUU with Kamailio as registrar; rotation of the keys."""

import base64
import os
import re
import signal
import time

from cases import case, check, same
from cases.reload import call_up
from gateway import Gateway
from net import CALLER, KAMAILIO, LITERAL
from proc import until
from sip import Caller, Phone
from switch import Switch

MAC, OTHER = "08000FA00001", "08000FA00002"
HERE = r"@10\.0\.1\.2:5061;transport=tls"
MODES = {
    "always-encrypt": rf"sips:e1\.[A-Za-z0-9_~.-]{{40,200}}{HERE}",
    "shorter": rf"sips:s1\.[A-Za-z0-9_-]{{22}}{HERE}",
    "escape": rf"sips:anonymous%40192\.168\.1\.7{HERE};crt=[a-z0-9]{{20,40}}",
    "keep-username": rf"sips:anonymous{HERE};crt=[a-z0-9]{{20,40}}",
    "gruu": rf"sips:anonymous{HERE};gr=[a-z0-9]{{20,40}}",
}


def one_mode(lab, mode, form):
    lab.kamailio.restart()
    gateway = Gateway(lab, replace=(('uri_encoding = "keep-username"', f'uri_encoding = "{mode}"'),))
    phone, other = Phone(lab, "phone", "home1", 7, MAC, KAMAILIO).connect(), Phone(lab, "other", "home2", 7, OTHER, KAMAILIO).connect()
    other.on_invite = "answer"
    for one in (phone, other):
        same(one.register().status, 200, f"{mode}: REGISTER")
        same(one.register().status, 200, f"{mode}: REGISTER again")
    stored = lab.kamailio.contacts()
    same(len(stored), 2, f"{mode}: bindings at Kamailio")
    for uri, _ in stored:
        check(re.fullmatch(form, uri), f"{mode}: Kamailio stores {uri}")
        check(mode == "escape" or "192.168" not in uri, f"{mode}: the phone's address is shown: {uri}")
    caller = Caller(lab, CALLER, KAMAILIO)
    same(caller.ring(MAC), 180, f"{mode}: call in")
    same((phone.ring_count(), other.ring_count()), (1, 0), f"{mode}: who rang")
    call, final = phone.call(f"sips:inst-{OTHER}@{KAMAILIO}")
    same(final.status, 200, f"{mode}: call out")
    contact = other.requests("INVITE")[-1].one("contact")
    same(other.calls[call.call_id].bye().status, 200, f"{mode}: BYE by the called phone")
    check(mode == "escape" or "192.168.1.7" not in contact, f"{mode}: the called phone sees {contact}")
    gateway.stop()
    gateway.start()
    same(caller.ring(MAC), 480, f"{mode}: call in after the restart, before the phone is back")
    for one in (phone, other):
        one.connect()
        same(one.register().status, 200, f"{mode}: REGISTER after the restart")
    same(lab.kamailio.contacts(), stored, f"{mode}: bindings after the restart")
    same(caller.ring(MAC), 180, f"{mode}: call in after the restart")
    same((phone.ring_count(), other.ring_count()), (2, 1), f"{mode}: who rang after the restart")
    for thing in (caller, phone, other, gateway):
        thing.close()
    return max(len(uri) for uri, _ in stored)


@case("encodings")
def encodings(lab):
    """every sip.uri_encoding: the form Kamailio stores, call in, call out, and the same after a restart of the gateway between REGISTER and call"""
    lengths = {mode: one_mode(lab, mode, form) for mode, form in MODES.items()}
    return "Contact at Kamailio: " + ", ".join(f"{mode} {length}" for mode, length in lengths.items()) + " characters; 5 of 5 survive the restart"


def interop(line):
    return (("[media]\n", f"[sip.interop]\n{line}\n\n[media]\n"),)


@case("encodings-path")
def path(lab):
    """add_path: Kamailio's registrar keeps our Path and its INVITE carries it as Route (step 1 of the resolution); the phone sees none of it; a registrar without Path support gets a second REGISTER"""
    gateway = Gateway(lab, replace=interop("add_path = true"))
    lab.kamailio.restart(change=(('modparam("registrar", "append_branches", 0)', 'modparam("registrar", "append_branches", 0)\nmodparam("registrar", "use_path", 1)\nmodparam("registrar", "path_mode", 0)'),))
    phone = Phone(lab, "phone", "home1", 7, MAC, KAMAILIO).connect()
    answer = phone.register()
    same((answer.status, answer.all("path")), (200, []), "REGISTER, and the Path that the phone sees")
    dump = lab.kamailio.rpc("ul.dump")
    stored = re.search(r"Path:\s*(\S+)", dump).group(1)
    check(re.match(r"<sips:10\.0\.1\.2:5061;transport=tls;lr;ob;ft=\w+>", stored), f"the Path at Kamailio: {stored}")
    caller = Caller(lab, CALLER, KAMAILIO)
    start = gateway.proc.size()
    same(caller.ring_once(caller.wire, f"sip:anonymous@{KAMAILIO}", caller.local), 180, "call by the stored Path")
    same({e["step"] for e in gateway.events("resolved", start) if e["method"] == "INVITE"}, {1}, "step in the log")
    check(not phone.requests("INVITE")[-1].all("route"), "the phone sees no Route")
    # Kamailio in its strict mode answers 420 to a phone that doesn't support Path, and this phone does not
    lab.kamailio.restart(change=(('modparam("registrar", "append_branches", 0)', 'modparam("registrar", "append_branches", 0)\nmodparam("registrar", "use_path", 1)\nmodparam("registrar", "path_mode", 2)'),))
    again = Phone(lab, "again", "home2", 7, OTHER, KAMAILIO).connect()
    same(again.register().status, 200, "REGISTER at a registrar that answers 420")
    check("Path:" not in lab.kamailio.rpc("ul.dump").replace("Path: [not set]", ""), "no Path is stored there")
    return "stored with ob and ft, INVITE by step 1; 420 ends in 200 without Path"


@case("encodings-gruu")
def gruu(lab):
    """Kamailio with gruu_enabled: its GRUUs are taken out of the 200, or passed with gruu_passthrough; then a call to one arrives at that phone alone"""
    lab.kamailio.restart(change=(('"gruu_enabled", 0', '"gruu_enabled", 1'),))
    gateway = Gateway(lab)
    phone, other = Phone(lab, "phone", "home1", 7, MAC, KAMAILIO).connect(), Phone(lab, "other", "home2", 7, OTHER, KAMAILIO).connect()
    for one in (phone, other):
        answer = one.register()
        same((answer.status, "gruu=" in answer.text), (200, False), "REGISTER, and GRUUs in the 200")
    gateway.reload(replace=interop("gruu_passthrough = true"))
    until("GRUUs pass after the reload", lambda: "pub-gruu=" in phone.register().text, 5, 0.2)
    pub = re.search(r'pub-gruu="([^"]+)"', phone.register().text).group(1)
    check(f"{MAC};gr" in pub or "gr=urn:uuid" in pub, f"the GRUU: {pub}")
    caller = Caller(lab, CALLER, KAMAILIO)
    same(caller.ring_once(caller.wire, pub.replace("sips:", "sip:"), caller.local), 180, f"call to {pub}")
    same((phone.ring_count(), other.ring_count()), (1, 0), "who rang")
    return f"{pub}: only that phone rang"


@case("encodings-rotation")
def rotation(lab):
    """a new key for routing tokens by SIGUSR1 and by `farend keys rotate` during a call: audio and BYE stay, Kamailio's bindings stay; a new phone gets a new key"""
    gateway, phone, caller, call, theirs = call_up(lab)
    stored = lab.kamailio.contacts()
    keys = lambda: open(f"{gateway.folder}/state/token.key").read()  # noqa: E731
    kid = lambda mac: next(base64.b32decode(re.search(r"crt=(\w{8})", uri).group(1).upper())[1] for uri, i in lab.kamailio.contacts() if mac in i)  # noqa: E731
    got, sent, before = len(call.media.got), theirs.media.sent, keys()
    gateway.proc.send(signal.SIGUSR1)
    until("the key file has changed", lambda: keys() != before, 3)
    same(phone.register().status, 200, "REGISTER after SIGUSR1")
    other = Phone(lab, "other", "home2", 7, OTHER, KAMAILIO).connect()
    same(other.register().status, 200, "a new phone registers")
    first = kid(OTHER)
    same(other.register(expires=0).status, 200, "it leaves")
    before = keys()
    done = lab.net.run("gw", lab.farend, "keys", "rotate", gateway.config, check=False)
    same(done.returncode, 0, f"farend keys rotate: {done.stdout}{done.stderr}")
    until("the key file has changed again", lambda: keys() != before, 3)
    same(phone.register().status, 200, "REGISTER after keys rotate")
    same(lab.kamailio.contacts(), stored, "Kamailio's bindings")
    same(other.register().status, 200, "the new phone registers anew")
    second = kid(OTHER)
    same((kid(MAC), first, second), (1, 2, 3), "numbers of the keys")
    missing = (theirs.media.sent - sent) - (len(call.media.got) - got)
    check(missing <= 10, f"{missing} packets lost")
    same(call.bye().status, 200, "BYE")
    check(theirs.ended.wait(2), "the phone got the BYE")
    gateway.stop()
    gateway.start()
    same(caller.ring(OTHER), 480, "after a restart the phone of the newest key is known")
    phone.connect()
    phone.on_invite = "ring"
    same(phone.register().status, 200, "REGISTER after the restart")
    same([c for c in lab.kamailio.contacts() if MAC in c[1]], stored, "its binding under the oldest key")
    same(caller.ring(phone.mac), 180, "call in after the restart")
    return f"bindings as before, {max(0, missing)} packets lost; the new phone's key is number {first}, then {second}"


@case("encodings-star")
def star(lab):
    """one of five phones sends Contact: *: the others stay registered at Kamailio, and with something else beside the star it is 400"""
    Gateway(lab)
    phones = [Phone(lab, f"p{n}", f"home{n % 2 + 1}", 7 + n // 2, f"08000FA0000{n}", KAMAILIO).connect() for n in range(5)]
    for phone in phones:
        same(phone.register().status, 200, "REGISTER")
    leaving = phones[2]
    same(leaving.register(contact="*").status, 400, "Contact: * without Expires: 0")
    same(len(lab.kamailio.contacts()), 5, "bindings after that")
    answer = leaving.register(contact="*\r\nExpires: 0")
    same(answer.status, 200, "Contact: *")
    left = lab.kamailio.contacts()
    same(len(left), 4, "bindings left")
    check(not any(leaving.mac in instance for _, instance in left), "the one that left is gone")
    caller = Caller(lab, CALLER, KAMAILIO)
    same([caller.ring(p.mac) for p in phones], [180, 180, 404, 180, 180], "calls to the five")
    return "4 of 5 stay and ring, the fifth is 404"


class Counting(Switch):
    """Counts the answers it gets."""

    def __init__(self, lab):
        self.statuses = {}
        super().__init__(lab)
        self.trace = lambda mark, data: None

    def message(self, wire, msg):
        if msg.status and msg.one("cseq").endswith("MESSAGE"):
            self.statuses[msg.status] = self.statuses.get(msg.status, 0) + 1
        else:
            super().message(wire, msg)


def guesses(token_text, count):
    """That many texts which differ from the token in one or two places, or in length."""
    letters = "abcdefghijklmnopqrstuvwxyz234567"
    made = 0
    while True:
        for at in range(len(token_text)):
            for more in range(len(token_text)):
                for letter in letters:
                    guess = list(token_text)
                    guess[at] = letter
                    guess[more] = letters[(letters.index(letter) + at + 1) % 32]
                    text = "".join(guess)[:None if at % 8 else more + 1]
                    if text != token_text:
                        yield text
                        made += 1
                        if made == count:
                            return


@case("encodings-forged")
def forged(lab):
    """altered tokens from the switch and from a phone (FORGED_TOKENS=100000 is the requirement): 404 and 403, none routed, and reported"""
    count = int(os.environ.get("FORGED_TOKENS", 10_000)) // 2
    gateway = Gateway(lab, replace=[('level = "debug"', 'level = "info"'), ('vphones    =', 'homes      = ["198.51.100.0/24"]\nvphones    ='), ("[log]\n", '[guard]\nallow = ["homes"]\n\n[log]\n')])
    switch = Counting(lab)
    victim, thief = Phone(lab, "victim", "home1", 7, MAC, LITERAL).connect(), Phone(lab, "thief", "home2", 7, OTHER, LITERAL).connect()
    for phone in (victim, thief):
        same(phone.register().status, 200, "REGISTER")
        phone.wire.trace = None
    stored = switch.binding(MAC)[0]
    crt = re.search(r"crt=(\w+)", stored).group(1)
    counted = {}

    def count_it(wire, msg):
        counted[msg.status] = counted.get(msg.status, 0) + 1
    thief.wire.on_message = count_it
    took = []
    for wire, statuses, wanted, host in ((switch.dial(), switch.statuses, 404, LITERAL), (thief.wire, counted, 403, thief.host)):
        wire.trace, start, sent, batch = None, time.monotonic(), 0, []
        statuses.clear()
        for text in guesses(crt, count):
            uri = stored.replace(crt, text)
            batch.append(f"MESSAGE {uri} SIP/2.0\r\nVia: SIP/2.0/TLS {host}:5061;branch=z9hG4bK{sent}{wanted}\r\nMax-Forwards: 70\r\nFrom: <sips:a@{host}>;tag=1\r\nTo: <{uri}>\r\n"
                         f"Call-ID: {sent}{wanted}\r\nCSeq: 1 MESSAGE\r\nContent-Length: 0\r\n\r\n")
            sent += 1
            if len(batch) == 50:
                wire.send("".join(batch))
                batch = []
                while sent - sum(statuses.values()) > 2000 and not wire.closed.is_set():
                    time.sleep(0.001)
        until(f"{count} answers (now {statuses})", lambda statuses=statuses: sum(statuses.values()) >= count, 10)
        same(statuses, {wanted: count}, "answers")
        took.append(time.monotonic() - start)
    same((len(victim.received), len(switch.requests("MESSAGE"))), (0, 0), "requests that reached the phone, or the switch")
    check(gateway.events("an offence of a peer that is never blocked"), "it is reported")
    same(switch.ring_once(switch.wires[-1], stored, switch.local), 180, "the right token, last")
    return f"{count} from inside 404 in {took[0]:.0f} s, {count} from outside 403 in {took[1]:.0f} s, none routed"
