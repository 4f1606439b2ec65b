"""SIGHUP under a running call, a bad configuration, SIGTERM."""

import signal
import ssl
import time

from cases import case, check, same
from cases.http import Curl
from gateway import Gateway
from net import CALLER, FORBIDDEN, GW_OUT4, KAMAILIO
from proc import until
from servers import CasStub
from sip import Caller, Phone

OTHER_HEAD = '+sip.instance="<urn:uuid:11111111-0000-1000-8000-'


class Stranger:
    """A client with a certificate of a maker that the lab's bundle does not have; it resumes its TLS session where it can."""

    def __init__(self, lab):
        self.lab = lab
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname = False
        self.context.load_verify_locations(lab.edge_roots)
        self.context.load_cert_chain(lab.pki.path("stranger-phone.pem"), lab.pki.path("stranger-phone.key"))
        self.session = None
        self.resumed = False

    def admitted(self, resume=False):
        """Does the gateway answer SIP to it?"""
        sock = self.lab.net.socket("home1", self.lab.phone_address("home1", 9))
        sock.settimeout(4)
        try:
            sock.connect(self.lab.edge)
            with self.context.wrap_socket(sock, session=self.session if resume else None) as tls:
                self.resumed = tls.session_reused
                tls.sendall(b"\r\n\r\n")
                if tls.recv(2) != b"\r\n":
                    return False
                self.session = tls.session
                return True
        except OSError:
            return False
        finally:
            sock.close()


def call_up(lab):
    gateway = Gateway(lab)
    phone = Phone(lab, "phone", "home1", 7, "08000FA00001", KAMAILIO).connect()
    phone.on_invite = "answer"
    same(phone.register().status, 200, "REGISTER")
    caller = Caller(lab, CALLER, KAMAILIO)
    caller.tone = 880
    call, final = caller.call(phone.mac)
    same(final.status, 200, "INVITE")
    theirs = phone.calls[call.call_id]
    until("audio at both ends", lambda: len(call.media.got) > 20 and len(theirs.media.got) > 20)
    return gateway, phone, caller, call, theirs


def lost(media, sender, got, sent):
    return (sender.sent - sent) - (len(media.got) - got)


@case("reload")
def reload(lab):
    """SIGHUP with another network, trust bundle and tag head: they act, the running call keeps audio and BYE"""
    gateway, phone, caller, call, theirs = call_up(lab)
    stranger = Stranger(lab)
    lab.pki.join("bundle-three.pem", "makers.pem", "hq.pem", "stranger.pem")
    target = CasStub(lab, FORBIDDEN, 5448)
    try:
        curl = Curl(lab)
        same(curl.tunnel(f"https://{FORBIDDEN}:5448/", "-k")[2], 403, "CONNECT before the reload")
        check(not stranger.admitted(), "the stranger's certificate is refused before the reload")
        got, sent = [(len(m.got), s.sent) for m, s in ((call.media, theirs.media),)][0]
        back = len(theirs.media.got), call.media.sent
        gateway.reload(extra=(FORBIDDEN,), bundles=("bundle-three.pem",), head=OTHER_HEAD)
        until("the new network acts", lambda: curl.tunnel(f"https://{FORBIDDEN}:5448/", "-k")[2] == 200, 8, 0.2)
        until("the new trust bundle acts", stranger.admitted, 5, 0.2)
        other = Phone(lab, "other", "home1", 8, "08000FA00002", KAMAILIO).connect()
        contact = f'<sips:anonymous@{other.host}>;+sip.instance="<urn:uuid:11111111-0000-1000-8000-{other.mac}>";expires=3600'
        same(other.register(contact=contact).status, 200, "REGISTER with an instance of the new form")
        check(any("crt=" in uri for uri, i in lab.kamailio.contacts() if other.mac in i), f"the new head gives a crt: {lab.kamailio.contacts()}")
        same(caller.ring(other.mac), 180, "call to the phone of the new form")
        check(stranger.admitted(resume=True), "the stranger comes again while its root is trusted")
        resumed = stranger.resumed
        gateway.reload(extra=(), bundles=("bundle.pem",))
        until("the network is forbidden again", lambda: curl.tunnel(f"https://{FORBIDDEN}:5448/", "-k")[2] == 403, 8, 0.2)
        until("the stranger's certificate is refused again", lambda: not stranger.admitted(), 5, 0.2)
        check(not stranger.admitted(resume=True), "the stranger's TLS session of before is refused as well")
        time.sleep(0.5)
        gone = lost(call.media, theirs.media, got, sent), lost(theirs.media, call.media, *back)
        check(all(g <= 10 for g in gone), f"packets lost over the two reloads (10 are 0.2 s): {gone}")
        check(call.media.hears(440) > 0.9 and theirs.media.hears(880) > 0.9, "both tones after the reload")
        check(not phone.wire.closed.is_set(), "the phone's connection is still open")
        same(call.bye().status, 200, "BYE of the running call")
        check(theirs.ended.wait(2), "the phone got the BYE")
        return (f"network, bundle and head act, and network and bundle are withdrawn again (a TLS session of before too, {'resumed' if resumed else 'not resumable'} until then); "
                f"the call lost {max(0, gone[0])} and {max(0, gone[1])} packets, BYE 200")
    finally:
        target.stop()


@case("reload-refused")
def reload_refused(lab):
    """a bad configuration is refused whole with path, line and key; the old one keeps running"""
    gateway, phone, caller, call, theirs = call_up(lab)
    start = gateway.proc.size()
    line = 1 + gateway.text(extra=(FORBIDDEN,)).split("max_senders")[0].count("\n")
    gateway.reload(extra=(FORBIDDEN,), replace=(("max_senders = 10", "max_sanders = 10"),))
    until("the refusal is in the log", lambda: "max_sanders" in gateway.proc.text(start), 5)
    said = gateway.proc.text(start)
    check("farend.toml" in said and str(line) in said, f"path and line {line} in the refusal: {said[-400:]}")
    same(Curl(lab).tunnel(f"https://{FORBIDDEN}:5448/")[2], 403, "CONNECT: the old network list still holds")
    same(phone.register().status, 200, "REGISTER after the refused reload")
    at = len(call.media.got)
    until("audio goes on", lambda: len(call.media.got) > at + 20)
    same(theirs.bye().status, 200, "BYE by the phone")
    check(call.ended.wait(2), "the caller got the BYE")
    return f"refused naming farend.toml, line {line}, max_sanders; network, registration and call as before"


@case("reload-drain")
def drain(lab):
    """SIGTERM: no new calls, the running one can be ended, then the process goes with exit 0"""
    gateway, phone, caller, call, theirs = call_up(lab)
    start = gateway.proc.size()
    gateway.proc.send(signal.SIGTERM)
    time.sleep(0.5)
    check(gateway.proc.running(), "with a call running the gateway drains instead of dying")
    new = caller.ring(phone.mac)
    # a proxy turns a 503 into 500 (RFC 3261 §16.7 step 6); what the gateway itself said stands in its log
    check(new in (500, 503), f"a new call while draining: {new}")
    refused = {(e["method"], e["status"]) for e in gateway.events("refused", start)}
    same(refused, {("INVITE", 503)}, "what the gateway refused while draining")
    at = len(call.media.got)
    until("audio goes on while draining", lambda: len(call.media.got) > at + 20)
    same(call.bye().status, 200, "BYE of the running call")
    check(theirs.ended.wait(2), "the phone got the BYE")
    start = time.monotonic()
    until("the gateway ends after the last call", lambda: not gateway.proc.running(), 15)
    same(gateway.proc.proc.returncode, 0, "exit code")
    check(not set(gateway.listening()) & {5061, 6586, 6587}, "nothing listens any more")
    return f"new call 503 (at the caller {new}), running call kept audio and BYE, exit 0 after {time.monotonic() - start:.1f} s; {GW_OUT4} listens no more"
