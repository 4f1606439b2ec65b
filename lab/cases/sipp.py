"""Phones without certificates on a trusted wire: SIPp over UDP and TCP registers, is called and calls through Kamailio."""

import re

from cases import case, check, same
from gateway import Gateway
from net import GW_OUT4
from proc import until
from sipp import Sipp, answering, calling, held, holding, waiting

WIRE = (('[net.networks]', '[net.networks]\nwire = ["198.51.100.0/24"]'),
        ('[[sip.ports]]\nname = "switches"', '[[sip.ports]]\nname = "wire"\ninterface = "outside"\nport = 5060\ntransport = "udp+tcp"\n'
         'allow_from = "wire"\ntrust_source = true\n[[sip.ports]]\nname = "switches"'))
MAC = "08000FC00001"


def both_ways(lab, over, caller_over):
    gateway = Gateway(lab, replace=WIRE)
    callee = Sipp(lab, "home1", 7, over, waiting("callee", MAC, 6000), beside=answering())
    until("the phone is registered at Kamailio", lambda: len(lab.kamailio.contacts()) == 1, 5)
    uri, instance = lab.kamailio.contacts()[0]
    check("10.0.1.2:5061;transport=tls;crt=" in uri and MAC in instance, f"what Kamailio stores: {uri} {instance}")
    caller = Sipp(lab, "home2", 8, caller_over, calling("callee"), calls=5)
    caller.done()
    same(len(gateway.events("call answered")), 10, "legs answered")
    callee.done()
    until("the phone has left", lambda: not lab.kamailio.contacts(), 3)
    same(len(gateway.events("call ended")), 10, "legs ended")


@case("sipp-udp")
def udp(lab):
    """SIPp over UDP registers, takes five calls that another SIPp over UDP makes through Kamailio, and leaves"""
    both_ways(lab, "UDP", "UDP")
    return "registered, 5 of 5 calls from INVITE to BYE on both legs, unregistered"


@case("sipp-tcp")
def tcp(lab):
    """the same over TCP"""
    both_ways(lab, "TCP", "TCP")
    return "registered, 5 of 5 calls from INVITE to BYE on both legs, unregistered"


@case("sipp-mixed")
def mixed(lab):
    """a phone over UDP called by one over TCP: each is told the transport it speaks"""
    both_ways(lab, "UDP", "TCP")
    return "5 of 5 calls between a UDP and a TCP phone"


def old_hold(lab, number, more):
    """What the held SIPp reads in its three offers: [(address, direction)]."""
    gateway = Gateway(lab, replace=[*WIRE, *more])
    callee = Sipp(lab, "home1", 7, "UDP", waiting(f"held{number}", MAC, 5000), beside=held())
    until("the phone is registered at Kamailio", lambda: lab.kamailio.contacts(), 20)
    Sipp(lab, "home2", 8, "UDP", holding(f"held{number}")).done()
    callee.done()
    gateway.stop()
    offers = callee.offers()
    same(len(offers), 3, "offers that the held SIPp read")
    directions = [next((d for d in ("sendonly", "recvonly", "inactive", "sendrecv") if f"a={d}" in o), "sendrecv") for o in offers]
    return [(re.search(r"^c=IN IP4 (\S+)", o, re.M).group(1), d) for o, d in zip(offers, directions, strict=True)]


@case("sipp-hold")
def hold(lab):
    """SDP-06: SIPp holds by 0.0.0.0: the far side reads the relay's address and sendonly, with hold_rfc2543 it reads 0.0.0.0; resume works in both"""
    usual = old_hold(lab, 1, [])
    same(usual, [(GW_OUT4, "sendrecv"), (GW_OUT4, "sendonly"), (GW_OUT4, "sendrecv")], "usual")
    old = old_hold(lab, 2, [("[media]\n", "[sdp]\nhold_rfc2543 = true\n\n[media]\n")])
    same([a for a, _ in old], [GW_OUT4, "0.0.0.0", GW_OUT4], "with hold_rfc2543")
    return f"usual: {usual[1]}, hold_rfc2543: {old[1]}; resumed in both"
