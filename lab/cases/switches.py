"""Two Kamailios behind one name (NAPTR and SRV of dnsmasq): which one is asked, what happens when it stops, and the monitor."""

import time

from cases import case, check, same
from gateway import Gateway
from net import KAMAILIO, LITERAL
from proc import until
from servers import Kamailio
from sip import Phone

NAME = "pbx.example.internal"
MONITOR = "".join(f'[[monitor.sip]]\nserver = "{name}.example.internal"\n' for name in ("k1", "k2"))


def heard(gateway, message, address, since):
    """How long ago the gateway said so of this switch; `None` if it did not."""
    return any(event["remote"] == f"{address}:5061" for event in gateway.events(message, since))


@case("switches-failover")
def failover(lab):
    """SRV's first switch takes the REGISTER; it stops: the second within 5 s, down within 20 s; it is back: the first within 30 s"""
    second = Kamailio(lab, LITERAL)
    lab.opened.append(second)
    second.start()
    gateway = Gateway(lab, replace=[("[media]\n", f"{MONITOR}\n[media]\n")])
    for address in (KAMAILIO, LITERAL):
        until(f"the monitor hears {address}", lambda address=address: heard(gateway, "the switch is up", address, 0), 10)
    phone = Phone(lab, "phone", "home1", 7, "08000FA00001", NAME).connect()
    same(phone.register().status, 200, f"REGISTER to {NAME}")
    same([len(lab.kamailio.contacts()), len(second.contacts())], [1, 0], "bindings at the first and the second switch")
    mark, start = gateway.proc.size(), time.monotonic()
    lab.kamailio.stop()
    same(phone.register().status, 200, "REGISTER after the first switch stopped")
    took = time.monotonic() - start
    same(len(second.contacts()), 1, "bindings at the second switch")
    until("the monitor calls the first switch down", lambda: heard(gateway, "the switch is down", KAMAILIO, mark), 20)
    down = time.monotonic() - start
    mark, start = gateway.proc.size(), time.monotonic()
    lab.kamailio.start()
    until("the monitor calls the first switch up", lambda: heard(gateway, "the switch is up", KAMAILIO, mark), 30)
    up = time.monotonic() - start
    same(phone.register().status, 200, "REGISTER after the first switch is back")
    same(len(lab.kamailio.contacts()), 1, "bindings at the first switch again")
    check(took < 5 and down < 20 and up < 30, f"second {took:.1f} s, down {down:.1f} s, up {up:.1f} s")
    return f"the second switch after {took:.1f} s, the first down after {down:.1f} s, used again {up:.1f} s after its start"
