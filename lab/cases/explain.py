"""`farend explain sip FILE` against what the running gateway does with the same message."""

import queue
import re

from cases import case, check, same
from gateway import Gateway
from net import FORBIDDEN, GW_IN4, GW_OUT4, LITERAL
from proc import until
from sip import Phone, token
from switch import Switch

MACS = ("08000FA00001", "08000FA00002")


def request(method, uri, via, rows=()):
    more = "".join(f"{row}\r\n" for row in rows)
    return (f"{method} {uri} SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 70\r\nFrom: <sips:100@{LITERAL}>;tag={token()}\r\nTo: <{uri}>\r\nCall-ID: {token()}\r\nCSeq: 1 {method}\r\n"
            f"{more}Content-Length: 0\r\n\r\n")


def real(agent, wire, text):
    """The status of the first answer that isn't 100."""
    answers = agent.pending[re.search(r"branch=([^;\s]+)", text).group(1)] = queue.Queue()
    wire.send(text)
    while True:
        answer = answers.get(timeout=5)
        if answer.status > 100:
            return answer.status


def logged(folder):
    """Whether the log that `farend explain` reads holds every phone."""
    with open(f"{folder}/state/location.log") as log:
        text = log.read().upper()
    return all(mac in text for mac in MACS)


@case("explain")
def explain(lab):
    """eleven messages from inside and outside: `farend explain sip` says beforehand which phone or switch gets it, or which status it meets"""
    gateway = Gateway(lab)
    switch = Switch(lab)
    phones = {mac: Phone(lab, mac, home, 7, mac, LITERAL).connect() for mac, home in zip(MACS, ("home1", "home2"), strict=True)}
    for phone in phones.values():
        same(phone.register().status, 200, "REGISTER")
    # `explain` reads location.log, which the gateway writes up to 50 ms behind a burst.
    until("both phones in location.log", lambda: logged(gateway.folder))
    inside, outside = switch.dial(), phones[MACS[1]]
    stored = {mac: switch.binding(mac)[0] for mac in MACS}
    instance = f'Accept-Contact: *;+sip.instance="<urn:uuid:00000000-0000-1000-8000-{MACS[1]}>"'
    forged = stored[MACS[0]].replace("crt=", "crt=a")
    here = f"sips:117@{GW_IN4}:5061"
    asked = [
        (True, "MESSAGE", stored[MACS[0]], (), MACS[0]),
        (True, "NOTIFY", stored[MACS[1]], ("Event: dialog", "Subscription-State: active"), MACS[1]),
        (True, "MESSAGE", here, (instance,), MACS[1]),
        (True, "MESSAGE", forged, (), 404),
        (True, "MESSAGE", f"sips:nobody@{GW_IN4}:5061", (), 404),
        (True, "MESSAGE", f"sips:anonymous@{GW_IN4}:5061", (), 485),
        (False, "MESSAGE", f"sips:200@{LITERAL}", (), "switch"),
        (False, "MESSAGE", stored[MACS[0]], (), 403),
        (False, "MESSAGE", f"sips:200@{FORBIDDEN}", (), 403),
        (False, "MESSAGE", f"sips:200@{LITERAL}", ("Proxy-Require: what",), 420),
        (False, "MESSAGE", f"sips:200@{LITERAL}", (f"Route: <sips:{GW_OUT4};lr>", f"Route: <sips:{FORBIDDEN};lr>"), "switch"),
    ]
    wrong = []
    for from_inside, method, uri, rows, wanted in asked:
        agent, wire = (switch, inside) if from_inside else (outside, outside.wire)
        text = request(method, uri, agent.via(wire), rows)
        path = f"{lab.folder}/explained.txt"
        with open(path, "w") as out:
            out.write(text)
        sender = ["--from", LITERAL, "--side", "inside", "--certificate", lab.pki.path("literal.pem")] if from_inside else ["--from", "198.51.100.6", "--certificate", lab.pki.phone(MACS[1])[0]]
        said = lab.net.run("gw", lab.farend, "explain", "sip", path, "--config", gateway.config, *sender, check=False)
        before = {name: len(a.requests(method)) for name, a in (*phones.items(), ("switch", switch))}
        status = real(agent, wire, text)
        got = [name for name, a in (*phones.items(), ("switch", switch)) if len(a.requests(method)) > before[name]]
        happened = got[0] if status == 200 and len(got) == 1 else status if not got else (status, got)
        foretold = re.search(r"^Refused with (\d+)|^Would send to the (?:phone (\w+)|.*(switch))", said.stdout, re.M)
        foretold = next(g for g in foretold.groups() if g) if foretold else said.stdout[-400:] + said.stderr[-300:]
        if not str(happened) == str(wanted) == foretold:
            wrong.append(f"{method} {uri[:60]} {rows}: wanted {wanted}, happened {happened}, foretold {foretold!r}")
    check(not wrong, f"{len(wrong)} differ: " + " | ".join(wrong))
    return f"{len(asked)} of {len(asked)} as foretold"
