"""The outside certificate comes from pebble while the gateway runs."""

import re
import time

from cases import case, check, same
from gateway import PORTS, Gateway
from net import GW_OUT4, KAMAILIO
from proc import until
from sip import Phone


def shown(lab, port):
    """(subject, issuer, serial) of the certificate the next handshake on that port shows."""
    cert, key = lab.pki.phone("08000FA00001")
    out = lab.net.run("home1", "openssl", "s_client", "-connect", f"{GW_OUT4}:{port}", "-cert", cert, "-key", key, "-servername", "mivc.example.com",
                      check=False, text="").stdout
    pem = re.search(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", out, re.S)
    check(pem, f"port {port}: no certificate in the handshake")
    text = lab.net.run("home1", "openssl", "x509", "-noout", "-subject", "-issuer", "-serial", text=pem.group(0)).stdout
    return tuple(re.search(rf"{field}=(.*)", text).group(1).strip() for field in ("subject", "issuer", "serial"))


@case("acme")
def acme(lab):
    """self-signed interim, then pebble's certificate on 5061, 6586 and 6587; the SIP connection that was open stays open"""
    pebble = lab.pebble()
    roots, lab.edge_roots = lab.edge_roots, None
    hold = "table inet hold {\n chain out {\n type filter hook output priority 0\n ip daddr 10.0.1.200 tcp dport 14000 drop\n }\n}\n"
    held = False
    try:
        lab.net.nft("gw", hold)
        held = True
        Gateway(lab, acme=True)
        subject, issuer, first = shown(lab, 5061)
        same(subject, issuer, "the interim certificate is self-signed")
        phone = Phone(lab, "open", "home1", 7, "08000FA00001", KAMAILIO).connect()
        same(phone.register().status, 200, "REGISTER under the interim certificate")
        lab.net.nft("gw", "delete table inet hold")
        held, start = False, time.monotonic()
        until("pebble's certificate on 5061", lambda: "Pebble" in shown(lab, 5061)[1], 60, 0.3)
        took = time.monotonic() - start
        seen = {port: shown(lab, port) for port in PORTS}
        check(all("Pebble" in issuer for _, issuer, _ in seen.values()), f"issuers: {seen}")
        same(len({serial for _, _, serial in seen.values()}), 1, f"one certificate on all three ports {seen}")
        check(not phone.wire.closed.is_set(), "the SIP connection that was open stays open")
        same(phone.options().status, 200, "OPTIONS on it")
        same(phone.register().status, 200, "REGISTER on it")
        root = pebble.root()
        verify = lab.net.run("home1", "openssl", "s_client", "-connect", f"{GW_OUT4}:5061", "-CAfile", root, "-verify_hostname", "mivc.example.com",
                             "-cert", *[lab.pki.phone("08000FA00001")[0]], "-key", lab.pki.phone("08000FA00001")[1], "-servername", "mivc.example.com", check=False, text="").stdout
        check("Verify return code: 0 (ok)" in verify, "the chain verifies against pebble's root for mivc.example.com")
        return f"interim self-signed, pebble's after {took:.1f} s on 3 ports, chain and name verify; open connection answered OPTIONS and REGISTER"
    finally:
        lab.edge_roots = roots
        if held:
            lab.net.nft("gw", "delete table inet hold")
