"""Routing by contact tag: all phones are `anonymous`, the switch calls one stored instance, exactly that phone rings."""

import time

from baresip import Baresip
from cases import Failed, case, check, same
from gateway import Gateway
from net import CALLER, GW_IN4, KAMAILIO, LITERAL
from proc import until
from sip import Caller, Phone, uri_of
from switch import Switch

SCRIPTED = (("home1", 7, "08000FA00001"), ("home1", 8, "08000FA00002"), ("home2", 7, "08000FA00003"))
SOFT = (("home1", "08000FB00001"), ("home1", "08000FB00002"), ("home2", "08000FB00003"))


def scripted(lab, switch=KAMAILIO, tagged=True):
    """Three registered phones; `tagged`: each must see its own Contact and no other in the 200."""
    phones = []
    for home, number, mac in SCRIPTED:
        phone = Phone(lab, mac, home, number, mac, switch).connect()
        answer = phone.register()
        same(answer.status, 200, f"REGISTER of {mac}")
        contacts = answer.values("contact")
        if tagged and not lab.direct:
            same([uri_of(c) for c in contacts], [f"sips:anonymous@{phone.host}"], f"the 200 to {mac} lists its own Contact, as it sent it, and no other")
        phones.append(phone)
    return phones


def everybody(lab, tagged=True):
    phones = scripted(lab, tagged=tagged)
    soft = [Baresip(lab, home, mac).start() for home, mac in SOFT]
    return phones + [b.registered() for b in soft]


def ring_each(caller, phones):
    """Call one stored instance after the other; every deviation as text."""
    wrong = []
    for phone in phones:
        before = [p.ring_count() for p in phones]
        status = caller.ring(phone.mac)
        time.sleep(0.15)
        rang = [p.mac for p, b in zip(phones, before, strict=True) for _ in range(p.ring_count() - b)]
        if rang != [phone.mac] or status != 180:
            wrong.append(f"call to {phone.mac}: status {status}, rang {rang or 'nobody'}")
    return wrong


def distinct_bindings(lab, phones):
    stored = lab.kamailio.contacts()
    same(len(stored), len(phones), "bindings at Kamailio")
    same(len({uri for uri, _ in stored}), len(phones), f"distinct Contact URIs among {[u for u, _ in stored]}")
    check(all(f"@{GW_IN4}" in uri for uri, _ in stored), f"every stored Contact is at the gateway: {[u for u, _ in stored]}")


@case("tags")
def tags(lab):
    """three scripted phones and three baresips behind two NATs: Kamailio calls each by its instance, only that one rings"""
    Gateway(lab)
    phones = everybody(lab)
    distinct_bindings(lab, phones)
    wrong = ring_each(Caller(lab, CALLER, KAMAILIO), phones)
    check(not wrong, "; ".join(wrong))
    return "6 of 6 rang alone, 6 distinct Contacts at Kamailio"


@case("tags-off")
def tags_off(lab):
    """the same with tag_routing.enabled = false must fail"""
    Gateway(lab, tags=False)
    phones = everybody(lab, tagged=False)
    try:
        distinct_bindings(lab, phones)
        stored = "the Contacts at Kamailio are still distinct"
    except Failed as problem:
        stored = str(problem)
    wrong = ring_each(Caller(lab, CALLER, KAMAILIO), phones)
    missed = [w for w in wrong if "A0000" in w.split(":")[0]]
    if len(missed) < 2:
        raise Failed(f"without tag routing the literal phones were still told apart: the case `tags` proves nothing ({wrong})")
    return f"as expected, {len(wrong)} of 6 calls go wrong without tag routing ({'; '.join(missed)}); {stored}"


def expect(phones, target, status, ring, what):
    """`ring()` returns a status; only `target` (or nobody) may get the INVITE."""
    before = [p.ring_count() for p in phones]
    same(ring(), status, f"{what}: status")
    time.sleep(0.1)
    rang = [p.mac for p, b in zip(phones, before, strict=True) for _ in range(p.ring_count() - b)]
    same(rang, [target.mac] if target else [], f"{what}: who rang")


def by_step(gateway, step, phones, target, ring, what):
    """As `expect` with 180, and the gateway's log says which step of the resolution found the phone."""
    start = gateway.proc.size()
    expect(phones, target, 180, ring, what)
    until("the resolution is in the log", lambda: gateway.events("resolved", start), 3)
    same({e["step"] for e in gateway.events("resolved", start) if e["method"] == "INVITE"}, {step}, f"{what}: step in the log")


@case("tags-literal")
def literal(lab):
    """resolution steps 2 to 5 from a literal-text switch: crt, instance text, the phone's own inside connection, user"""
    gateway = Gateway(lab, connections="per-phone")
    switch = Switch(lab)
    phones = scripted(lab, LITERAL)
    dialled = switch.dial()
    here = f"sips:117@{GW_IN4}:5061"
    for phone in phones:
        uri, own = switch.binding(phone.mac)
        instance = f'+sip.instance="<urn:uuid:00000000-0000-1000-8000-{phone.mac}>"'
        by_step(gateway, 2, phones, phone, lambda: switch.ring_once(dialled, uri, switch.local), f"{phone.mac} by its Contact")
        by_step(gateway, 3, phones, phone, lambda: switch.ring_once(dialled, here, switch.local, extra=f"Accept-Contact: *;{instance}\r\n"), f"{phone.mac} by Accept-Contact")
        by_step(gateway, 3, phones, phone, lambda: switch.ring_once(dialled, here, switch.local, to=f"<{here}>;{instance}"), f"{phone.mac} by To")
        by_step(gateway, 4, phones, phone, lambda: switch.ring_once(own, here, switch.local), f"{phone.mac} on the connection of its REGISTER")
    expect(phones, None, 485, lambda: switch.ring_once(dialled, f"sips:anonymous@{GW_IN4}:5061", switch.local), "`anonymous` on a connection of the switch")
    expect(phones, None, 404, lambda: switch.ring_once(dialled, f"sips:nobody@{GW_IN4}:5061", switch.local), "an unknown user")
    forged = switch.binding(phones[0].mac)[0].replace("crt=", "crt=a")
    expect(phones, None, 404, lambda: switch.ring_once(dialled, forged, switch.local), "a forged crt")
    return "steps 2, 3 (Accept-Contact, To) and 4: 12 of 12 rang alone, the log names the step; 485 for `anonymous`, 404 for unknown user and forged crt"


@case("tags-outside")
def outside(lab):
    """the same instance text and tokens from a phone reach no other phone"""
    Gateway(lab)
    switch = Switch(lab)
    phones = scripted(lab, LITERAL)
    thief, victim = phones[0], phones[2]
    switch.on_invite = "busy"
    extra = f'Accept-Contact: *;+sip.instance="<urn:uuid:00000000-0000-1000-8000-{victim.mac}>"\r\n'
    local = f"<sips:anonymous@{LITERAL}>"
    expect(phones, None, 486, lambda: thief.ring_once(thief.wire, f"sips:anonymous@{LITERAL}", local, extra=extra), "instance text from outside goes to the switch alone")
    uri, _ = switch.binding(victim.mac)
    expect(phones, None, 403, lambda: thief.ring_once(thief.wire, uri, local), "a stolen crt from outside")
    expect(phones, None, 403, lambda: thief.ring_once(thief.wire, "sips:anonymous@10.0.1.99", local), "a Request-URI outside inside_networks")
    return "instance text ignored, stolen crt 403, foreign Request-URI 403; no phone rang"
