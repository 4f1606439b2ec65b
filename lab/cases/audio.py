"""baresip to baresip: the tone each one plays is found in what the other one recorded."""

import time

from baresip import Baresip
from cases import case, check
from gateway import Gateway
from net import KAMAILIO
from rtp import RATE, goertzel


def dial(a, b):
    """A calls B, which answers."""
    a.command("dial", f"sip:inst-{b.mac}@{KAMAILIO};transport=tls")
    b.wait("CALL_INCOMING")
    b.command("accept")
    a.wait("CALL_ESTABLISHED")


def hang_up(a, b):
    b.command("hangup")
    a.wait("CALL_CLOSED")


def heard(phone):
    """The shares of 440 and 880 Hz in what it recorded."""
    samples = phone.recording("dec")
    check(len(samples) > RATE, f"{phone.name} recorded {len(samples)} samples")
    middle = samples[len(samples) // 3:][:RATE]
    return goertzel(middle, 440), goertzel(middle, 880)


def talk(lab, home_a, home_b, seconds=3.0):
    """A calls B for a while; returns the shares of 440 and 880 Hz in what A and B heard."""
    a = Baresip(lab, home_a, "08000FB00011", hertz=440).start()
    b = Baresip(lab, home_b, "08000FB00012", hertz=880).start()
    a.registered(), b.registered()
    dial(a, b)
    time.sleep(seconds)
    hang_up(a, b)
    time.sleep(0.3)
    return heard(a), heard(b)


def judge(heard_a, heard_b):
    check(heard_a[1] > 0.8 and heard_a[0] < 0.05, f"the caller should hear 880 Hz: shares at 440/880 Hz {heard_a[0]:.2f}/{heard_a[1]:.2f}")
    check(heard_b[0] > 0.8 and heard_b[1] < 0.05, f"the callee should hear 440 Hz: shares at 440/880 Hz {heard_b[0]:.2f}/{heard_b[1]:.2f}")
    return f"caller heard 880 Hz ({heard_a[1]:.0%} of the energy), callee 440 Hz ({heard_b[0]:.0%})"


@case("audio")
def audio(lab):
    """a baresip call between two homes through gateway and Kamailio: 440 and 880 Hz in the opposite recordings"""
    Gateway(lab, ttl="64")
    return judge(*talk(lab, "home1", "home2"))
