"""A second phone switch, of literal text: it sends whatever Request-URI, headers and connection a case wants.

It keeps the bindings it was given as text, answers REGISTER with every binding of the address-of-record (as a registrar does),
and can speak on the connection a phone's REGISTER came on or on one it dials itself.
"""

import re
import socket
import ssl
import threading

from net import GW_IN4, LITERAL
from sip import Agent, Wire, tls_client, token, uri_of


class Switch(Agent):
    def __init__(self, lab, address=LITERAL, cert="literal", listen=True):
        super().__init__(lab, "switch")
        self.address, self.cert = address, cert
        self.bindings = {}  # instance text -> (Contact URI, wire of its REGISTER)
        self.moved_to = None  # where every REGISTER is sent by 301
        self.media_home = ("inside", address)
        self.wires = []
        self.server = None
        lab.opened.append(self)
        if listen:
            self._listen()

    def _listen(self):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.verify_mode = ssl.CERT_REQUIRED
        self.context.load_verify_locations(self.lab.pki.path("bundle.pem"))
        self.context.load_cert_chain(self.lab.pki.path(f"{self.cert}.pem"), self.lab.pki.path(f"{self.cert}.key"))
        self.server = self.lab.net.socket("inside", self.address, port=5061)
        self.server.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                s, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(s,), daemon=True).start()

    def _serve(self, s):
        try:
            s.settimeout(5)
            self.wires.append(Wire(self.context.wrap_socket(s, server_side=True), self.message, trace=self.trace))
        except OSError as problem:
            self.trace("!", f"handshake: {problem}".encode())
            s.close()

    def dial(self):
        """A connection of our own to the gateway's inside port, as a switch makes it to call a phone."""
        sock = self.lab.net.socket("inside", self.address)
        cert = self.lab.pki.path(f"{self.cert}.pem"), self.lab.pki.path(f"{self.cert}.key")
        wire = Wire(tls_client(self.lab, sock, cert, self.lab.pki.path("hq.pem"), (GW_IN4, 5061)), self.message, trace=self.trace)
        self.wires.append(wire)
        return wire

    def via(self, wire):
        return f"SIP/2.0/TLS {self.address}:5061;branch=z9hG4bK-{token()}"

    def contact(self, wire):
        return f"<sips:switch@{self.address}:5061>"

    @property
    def local(self):
        return f"<sips:100@{self.address}>"

    def on_register_request(self, wire, msg):
        if self.moved_to:
            self.respond(wire, msg, 301, "Moved Permanently", f"Contact: <sips:{self.moved_to}:5061>\r\n", to_tag=token())
            return
        contact = msg.one("contact")
        found = re.search(r'\+sip\.instance="?<([^>]*)>', contact)
        instance = found.group(1) if found else uri_of(contact)
        if not contact:
            pass  # a question
        elif "expires=0" in contact or msg.one("expires") == "0":
            self.bindings.pop(instance, None)
        else:
            self.bindings[instance] = (uri_of(contact), wire, contact)
        rows = "".join(f"Contact: {full}\r\n" for _, _, full in self.bindings.values())
        self.respond(wire, msg, 200, "OK", rows, to_tag=token())

    def binding(self, mac):
        """(Contact URI, connection of the REGISTER) of the phone with this MAC."""
        uri, wire, _ = next(v for k, v in self.bindings.items() if k.upper().endswith(mac))
        return uri, wire

    def close(self):
        for call in self.calls.values():
            if call.media:
                call.media.close()
        if self.server:
            self.server.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept(), which otherwise keeps the port
            self.server.close()
        for wire in self.wires:
            wire.close()
