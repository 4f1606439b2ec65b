"""What is refused, and how: malformed SIP, garbage, a dead switch, a bad configuration."""

import re
import subprocess
import time

from cases import Failed, case, check, same
from gateway import Gateway
from net import KAMAILIO, LITERAL
from proc import until
from sip import Phone, token


def register_text(phone, drop=None, change=()):
    rows = [f"Via: {phone.via(phone.wire)}", "Max-Forwards: 70", f"From: <sips:anonymous@{KAMAILIO}>;tag={token()}", f"To: <sips:anonymous@{KAMAILIO}>",
            f"Call-ID: {token()}@lab", "CSeq: 1 REGISTER", f"Contact: {phone.instance_contact()}", "Content-Length: 0"]
    rows = [r for r in rows if not drop or not r.startswith(f"{drop}:")]
    for old, new in change:
        rows = [r.replace(old, new) for r in rows]
    return f"REGISTER sips:{KAMAILIO} SIP/2.0\r\n" + "\r\n".join(rows) + "\r\n\r\n"


MALFORMED = (
    ("Call-ID", {"drop": "Call-ID"}),
    ("CSeq", {"drop": "CSeq"}),
    ("From", {"drop": "From"}),
    ("To", {"drop": "To"}),
    ("CSeq", {"change": (("CSeq: 1 REGISTER", "CSeq: 1 INVITE"),)}),
    ("CSeq", {"change": (("CSeq: 1 REGISTER", "CSeq: 99999999999 REGISTER"),)}),
    ("Contact", {"change": (("Contact: <sips", "Contact: <<sips"),)}),
    ("Max-Forwards", {"change": (("Max-Forwards: 70", "Max-Forwards: many"),)}),
    ("From", {"change": (("From: <sips", "From: <sips:twice@x>;tag=1\r\nFrom: <sips"),)}),
    ("Content-Length", {"drop": "Content-Length"}),
    ("Content-Length", {"change": (("Content-Length: 0", "Content-Length: -1"),)}),
)

NO_VIA = (
    ("no Via", {"drop": "Via"}),
    ("an unreadable Via", {"change": (("Via: SIP/2.0/TLS ", "Via: SIP/2.0/TLS ;;"),)}),
)

GARBAGE = (
    ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("RDP", b"\x03\x00\x00\x2f\x2a\xe0\x00\x00\x00\x00\x00Cookie: mstshash=Administr\r\n\x01\x00\x08\x00\x03\x00\x00\x00"),
    ("noise", bytes(range(256)) * 8 + b"\r\n\r\n"),
    ("no end", b"A" * 300000),
)


@case("refusals-sip")
def sip(lab):
    """a malformed message gets 400 with the field named, or silence without a usable Via; garbage is closed; nothing of it reaches Kamailio"""
    Gateway(lab)
    wrong = []
    for field, how in MALFORMED:
        phone = Phone(lab, "malformed", "home1", 7, "08000FA00001", KAMAILIO).connect()
        text = register_text(phone, **how)
        try:
            answer = phone.transact(phone.wire, text, 3)
            if answer.status != 400 or field.lower() not in answer.reason.lower():
                wrong.append(f"{field} {how}: {answer.start!r}")
        except TimeoutError:
            wrong.append(f"{field} {how}: no answer")
        phone.close()
    check(not wrong, "; ".join(wrong))
    for name, how in NO_VIA:
        phone = Phone(lab, "silence", "home1", 7, "08000FA00001", KAMAILIO).connect()
        phone.wire.send(register_text(phone, **how))
        time.sleep(0.7)
        same(phone.answers, 0, f"answers to a request with {name}")
        phone.close()
    for name, data in GARBAGE:
        phone = Phone(lab, "garbage", "home1", 7, "08000FA00001", KAMAILIO).connect()
        start = time.monotonic()
        try:
            phone.wire.send(data)
        except OSError:
            pass
        check(phone.wire.closed.wait(5), f"{name}: not closed within 5 s")
        check(time.monotonic() - start < 5, f"{name}: closed late")
    same(lab.kamailio.contacts(), [], "Kamailio's location")
    good = Phone(lab, "good", "home1", 8, "08000FA00002", KAMAILIO).connect()
    same(good.register().status, 200, "a well-formed REGISTER afterwards")
    return f"{len(MALFORMED)} malformed messages 400 with the field named, {len(NO_VIA)} without usable Via met with silence, {len(GARBAGE)} kinds of garbage closed, the next phone registers"


@case("refusals-pbx")
def pbx(lab):
    """a dead switch: 503 at once, and again when nothing answers at its address"""
    Gateway(lab, replace=(('preloaded_routes = "remove"', 'preloaded_routes = "remove"\nblacklist = 5'),))
    lab.kamailio.stop()
    times = []
    for switch, what in ((KAMAILIO, "the switch is stopped"), (LITERAL, "nothing listens at this address")):
        phone = Phone(lab, f"dead-{switch}", "home1", 7, "08000FA00001", switch).connect()
        start = time.monotonic()
        answer = phone.register()
        took = time.monotonic() - start
        same(answer.status, 503, what)
        check(took < 2, f"{what}: 503 after {took:.1f} s")
        times.append(took)
    time.sleep(5.2)  # until it is forgotten that the switch was down
    lab.net.nft("inside", f"table inet hole {{\n chain in {{\n type filter hook input priority 0\n ip daddr {KAMAILIO} tcp dport 5061 drop\n }}\n}}\n")
    try:
        phone = Phone(lab, "hole", "home1", 8, "08000FA00002", KAMAILIO).connect()
        start = time.monotonic()
        answer = phone.register(timeout=20)
        took = time.monotonic() - start
        same(answer.status, 503, "packets to the switch vanish")
        check(0.5 < took < 6, f"packets vanish: 503 after {took:.1f} s")
        start = time.monotonic()
        same(phone.register(timeout=20).status, 503, "packets still vanish")
        check(time.monotonic() - start < 1, "a switch known to be silent is answered for at once")
    finally:
        lab.net.nft("inside", "delete table inet hole")
    lab.kamailio.start()
    # A silent switch is remembered for 5 s here.
    until("REGISTER when the switch is back", lambda: phone.register().status == 200, 15)
    return f"refused connection: 503 after {max(times) * 1000:.0f} ms; packets vanish: 503 after {took:.1f} s; 200 when the switch is back"


BAD = (
    ("an unknown key", (("max_senders = 10", "max_sanders = 10"),), "max_sanders"),
    ("a wrong type", (("port_range = [16384, 32767]", 'port_range = "all"'),), "port_range"),
    ("a value outside its range", (("ttl = \"keep\"", "ttl = 300"),), "ttl"),
    ("a network that does not exist", (('allow_to = "appliances"', 'allow_to = "applliances"'),), "allow_to"),
    ("a certificate file that is not there", (("gateway-inside-import.pem", "no-such.pem"),), "import"),
    ("a trust bundle that is not there", (("/bundle.pem", "/no-bundle.pem"),), "bundles"),
    ("two listeners on one port", (("port = 6587\n", "port = 6586\n"),), "port"),
    ("no TOML at all", (("[media]", "[media"),), "line"),
)


def refusal(lab, gateway, what, key):
    """What is wrong with how `check` and `run` refuse this file: exit code, path, line, key; listeners."""
    with open(gateway.config) as f:
        count = f.read().count("\n")
    for command in ("check", "run"):
        try:
            done = lab.net.run("gw", lab.farend, command, *(["-c"] if command == "run" else []), gateway.config, check=False, timeout=5)
        except subprocess.TimeoutExpired:
            yield f"{what}: `{command}` goes on"
            continue
        said = (done.stdout + done.stderr).strip()
        if done.returncode == 0:
            yield f"{what}: `{command}` exits 0"
        lines = [int(n) for n in re.findall(r"farend\.toml[:,]?(?:\s*line)?\s*(\d+)", said)]
        if not lines or not 0 < lines[0] <= count:
            yield f"{what}: `{command}` does not name path and line: {said[-300:]}"
        if key not in said:
            yield f"{what}: `{command}` does not name {key}: {said[-300:]}"
    if gateway.listening() & {80, 5061, 6586, 6587}:
        yield f"{what}: listens on {gateway.listening()}"


@case("refusals-config")
def config(lab):
    """a bad configuration: `run` and `check` exit non-zero with path, line and key, nothing listens"""
    done = Gateway(lab, start=False).check()
    if done.returncode:
        raise Failed(f"the lab's own configuration is refused: {done.stdout}{done.stderr}")
    wrong = [w for what, replace, key in BAD for w in refusal(lab, Gateway(lab, start=False, replace=replace), what, key)]
    check(not wrong, "; ".join(wrong))
    return f"{len(BAD)} bad files refused by `check` and `run` with path, line and key; nothing listened"
