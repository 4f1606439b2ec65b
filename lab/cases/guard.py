"""The guard: a word list and a flood from a phone with a good certificate, beside a phone behind the same NAT that keeps working."""

import hashlib
import re
import time

from cases import case, check, same
from gateway import Gateway
from net import KAMAILIO
from proc import until
from sip import Phone, token

BAD, GOOD, OTHER = "08000FD00001", "08000FD00002", "08000FD00003"
REALM, USER, PASSWORD = "farend", "117", "open sesame"


def md5(text):
    return hashlib.md5(text.encode()).hexdigest()


def phones(lab):
    bad = Phone(lab, "bad", "home1", 7, BAD, KAMAILIO).connect()
    good = Phone(lab, "good", "home1", 8, GOOD, KAMAILIO).connect()
    other = Phone(lab, "other", "home2", 7, OTHER, KAMAILIO).connect()
    other.on_invite = "answer"
    for phone in (good, other):
        same(phone.register().status, 200, "REGISTER")
    return bad, good, other


def works(good, other):
    """A call of the good phone; the seconds from INVITE to 200."""
    start = time.monotonic()
    call, final = good.call(f"sips:inst-{other.mac}@{KAMAILIO}")
    took = time.monotonic() - start
    check(call, f"the call got {final.status}")
    same(call.bye().status, 200, "BYE")
    return took


def guess(phone, word, nonce, count):
    """An INVITE with a Route of its own and, once there is a nonce, with credentials."""
    uri = f"sips:200@{KAMAILIO}"
    answer = md5(f"{md5(f'{USER}:{REALM}:{word}')}:{nonce}:{count:08x}:c:auth:{md5(f'INVITE:{uri}')}")
    credentials = (f'Proxy-Authorization: Digest username="{USER}", realm="{REALM}", nonce="{nonce}", uri="{uri}", response="{answer}", '
                   f'algorithm=MD5, qop=auth, nc={count:08x}, cnonce="c"\r\n') if nonce else ""
    text = (f"INVITE {uri} SIP/2.0\r\nVia: {phone.via(phone.wire)}\r\nMax-Forwards: 70\r\nRoute: <sips:{KAMAILIO};lr>\r\n"
            f"From: <sips:{USER}@{KAMAILIO}>;tag={token()}\r\nTo: <{uri}>\r\nCall-ID: {token()}@lab\r\nCSeq: 1 INVITE\r\n"
            f"Contact: {phone.contact(phone.wire)}\r\n{credentials}Content-Length: 0\r\n\r\n")
    return phone.transact(phone.wire, text, 3)


@case("guard-words")
def words(lab):
    """ten wrong passwords close a certificate's connection and bar it for the time set; a phone behind the same NAT calls on; then the right password is let in"""
    users = f'users = [{{ name = "{USER}", ha1 = "{md5(f"{USER}:{REALM}:{PASSWORD}")}" }}]'
    gateway = Gateway(lab, replace=(('preloaded_routes = "remove"', f'preloaded_routes = "authenticate"\n{users}'), ("[log]", '[guard.auth]\nblock = "4s"\n[log]')))
    bad, good, other = phones(lab)
    first = guess(bad, "", "", 0)
    same(first.status, 407, "without credentials")
    nonce = next(re.search(r'nonce="([0-9a-f]+)"', row).group(1) for row in first.all("proxy-authenticate") if "algorithm=MD5" in row)
    for n in range(1, 11):
        check(not bad.wire.closed.is_set(), f"closed before guess {n}")
        same(guess(bad, f"word{n}", nonce, n).status, 407, f"guess {n}")
    check(bad.wire.closed.wait(2), "the connection stands after ten wrong passwords")
    blocked = time.monotonic()
    again = Phone(lab, "again", "home1", 7, BAD, KAMAILIO).connect()
    check(again.wire.closed.wait(2), "the certificate is let in while it is blocked")
    took = works(good, other)
    until("the block ends", lambda: gateway.events("unblocked"), 6)
    lasted = time.monotonic() - blocked
    late = Phone(lab, "late", "home1", 7, BAD, KAMAILIO).connect()
    check(guess(late, PASSWORD, nonce, 11).status != 407, "the right password is refused")
    return f"closed at the 11th, barred {lasted:.1f} s; the phone beside it calls in {took * 1000:.0f} ms"


@case("guard-flood")
def flood(lab):
    """1,000 messages a second from one phone get 503 and the end of the connection; a phone behind the same NAT calls in less than a second"""
    gateway = Gateway(lab)
    bad, good, other = phones(lab)
    start, sent = time.monotonic(), 0
    while not bad.wire.closed.is_set() and sent < 3000:
        try:
            bad.wire.send(f"OPTIONS sips:203.0.113.10 SIP/2.0\r\nVia: {bad.via(bad.wire)}\r\nMax-Forwards: 70\r\nFrom: <sips:x@{KAMAILIO}>;tag={token()}\r\n"
                          f"To: <sips:203.0.113.10>\r\nCall-ID: {token()}@lab\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n")
        except OSError:
            break
        sent += 1
        time.sleep(max(0.0, start + sent / 1000 - time.monotonic()))
    lasted = time.monotonic() - start
    check(bad.wire.closed.wait(2), f"the connection stands after {sent} messages")
    with open(f"{lab.folder}/sip-bad.log", "rb") as log:
        heard = log.read()
    check(heard.count(b"SIP/2.0 503 ") == 1 and b"Retry-After: " in heard, f"{heard.count(b'SIP/2.0 503 ')} answers 503")
    took = works(good, other)
    check(took < 1, f"the call took {took:.2f} s")
    check(gateway.events("too many messages: the connection was closed"), "nothing is logged")
    return f"closed after {sent} messages in {lasted * 1000:.0f} ms; the phone beside it calls in {took * 1000:.0f} ms"


@case("guard-scanner")
def scanner(lab):
    """a scanner is gone at its first packet, and nothing of it comes inside"""
    gateway = Gateway(lab)
    bad, good, other = phones(lab)
    bad.wire.send(f"REGISTER sips:{KAMAILIO} SIP/2.0\r\nVia: {bad.via(bad.wire)}\r\nMax-Forwards: 70\r\nFrom: <sips:100@{KAMAILIO}>;tag={token()}\r\nTo: <sips:100@{KAMAILIO}>\r\n"
                  f"Call-ID: {token()}@lab\r\nCSeq: 1 REGISTER\r\nContact: <sips:100@192.168.1.7>\r\nUser-Agent: friendly-scanner\r\nContent-Length: 0\r\n\r\n")
    check(bad.wire.closed.wait(2), "the scanner's connection stands")
    same(bad.answers, 0, "answers to the scanner")
    check(gateway.events("blocked"), "nothing is logged")
    return f"the phone beside it calls in {works(good, other) * 1000:.0f} ms"
