"""What session descriptions become on their way: names, garbage, codecs, lines, packet time, keys; and marks on the packets that follow."""

import re
import time

import rtp
from baresip import Baresip
from cases import case, check, same
from cases.audio import dial, hang_up, heard, judge
from cases.sipp import WIRE
from gateway import Gateway
from net import GW_IN4, GW_OUT4, KAMAILIO, LITERAL, NAT4
from proc import Proc, until
from sip import Phone, token
from sipp import Sipp, calling
from switch import Switch
from tap import Tap

MAC = "08000FA00001"


def added(lines):
    return (("[media]\n", f"{lines}\n\n[media]\n"),)


def ends(lab, lines="", wire=False):
    """A gateway, the literal-text switch, which answers, and a phone registered there. `wire`: it takes UDP outside as well."""
    gateway = Gateway(lab, ttl="64", replace=(*(added(lines) if lines else ()), *(WIRE if wire else ())))
    switch = Switch(lab)
    switch.on_invite = "answer"
    phone = Phone(lab, f"described-{token()}", "home1", 7, MAC, LITERAL).connect()
    phone.tone = 880
    same(phone.register().status, 200, "REGISTER")
    return gateway, switch, phone


def leave(*things):
    for thing in things:
        thing.close()
        thing.lab.opened.remove(thing)


class Worded(rtp.Media):
    """Media that is described at a name, or with more lines."""

    def __init__(self, agent, name=None, more=""):
        super().__init__(agent.lab, *agent.media_home, tone=agent.tone)
        self.name, self.more = name, more

    def sdp(self, host=None, direction="a=sendrecv\r\n"):
        self.wrote = super().sdp(self.name, direction) + self.more
        return self.wrote


def naming(agent, name):
    agent.open_media = lambda: Worded(agent, name)


def address(body):
    return re.search(rb"^c=IN IP4 (\S+)", body, re.M).group(1).decode()


def both_hear(call, other):
    near, far = call.media, other.media
    until("audio both ways", lambda: min(len(near.got), len(far.got)) > 25 and near.hears(440) > 0.8 and far.hears(880) > 0.8, 15)


@case("sdp-names")
def names(lab):
    """SDP-14: a name in c= is 488 either way; with resolve_fqdn it is looked up and heard both ways, and 488 where it stands for an inside address, is internal or is none"""
    gateway, switch, phone = ends(lab)
    naming(phone, "phone.example.com")
    same(phone.call(f"sips:100@{LITERAL}")[1].status, 488, "by default")
    same(len(switch.requests("INVITE")), 0, "INVITEs inside")
    leave(phone, switch)
    gateway.stop()
    gateway, switch, phone = ends(lab, "[sdp]\nresolve_fqdn = true", wire=True)
    sipp = Sipp(lab, "home1", 8, "UDP", calling("sipp").replace(KAMAILIO, LITERAL).replace("IP[media_ip_type] [media_ip]", "IP4 phone.example.com"))
    sipp.done()
    same(address(switch.requests("INVITE")[-1].body), GW_IN4, "what SIPp's name became")
    naming(phone, "phone.example.com")
    naming(switch, "media.example.internal")
    call, final = phone.call(f"sips:100@{LITERAL}")
    same(final.status, 200, "looked up")
    same((address(switch.requests("INVITE")[-1].body), address(final.body)), (GW_IN4, GW_OUT4), "what each end reads")
    both_hear(call, switch.calls[call.call_id])
    same(call.bye().status, 200, "BYE")
    mark = len(switch.requests("INVITE"))
    for name in ("trap.example.com", "media.example.internal", "nowhere.example.com"):
        naming(phone, name)
        start = time.monotonic()
        same(phone.call(f"sips:100@{LITERAL}")[1].status, 488, name)
        check(time.monotonic() - start < 2.5, f"{name}: {time.monotonic() - start:.1f} s")
    same(len(switch.requests("INVITE")), mark, "INVITEs inside of what was refused")
    told = gateway.events("a name in a session description is not used")
    refused = [(e["name"], e["why"]) for e in told]
    same(refused, [("trap.example.com", "stands for an address that its sender may not name"), ("media.example.internal", "internal, and written outside"),
                   ("nowhere.example.com", "not found")], "what the log says")
    return "off: 488; on: heard both ways by names of phone and switch; an inside address, an internal name and an unknown one 488, nothing inside"


@case("sdp-garbage")
def garbage(lab):
    """SDP-01: what calls itself a description and is none: 400 to the offer, nothing inside; in an answer the caller gets the refusal and the call ends"""
    _, switch, phone = ends(lab)
    bodies = ("hello", "v=1\r\n", "v=0\r\nm=audio\r\n", "v=0\r\no=- 1 1 IN IP4 1.2.3.4\r\ns=-\r\nt=0 0\r\nm=audio 99999 RTP/AVP 0\r\n", "\0\1\2" * 50, "v=0\r\n" * 40)
    statuses = []
    for body in bodies:
        target = f"sips:100@{LITERAL}"
        text = phone.invite_text(phone.wire, target, f"{token()}@lab", f"<sips:anonymous@{LITERAL}>;tag={token()}", body)
        statuses.append(phone.transact(phone.wire, text).status)
    check(set(statuses) <= {400, 488} and 400 in statuses, f"answers to garbage: {statuses}")
    same(len(switch.requests("INVITE")), 0, "INVITEs inside")
    mark = len(switch.requests("BYE"))
    switch.answer = lambda call: switch.respond(call.wire, call.invite, 200, "OK", f"Contact: {switch.contact(call.wire)}\r\n", "hello", to_tag=call.tag)
    spoilt = phone.call(f"sips:100@{LITERAL}")[1].status
    check(spoilt in (400, 488), f"an answer of garbage became {spoilt}")
    until("the switch is told BYE", lambda: len(switch.requests("BYE")) > mark)
    del switch.answer
    call, final = phone.call(f"sips:100@{LITERAL}")
    same(final.status, 200, "a call afterwards")
    both_hear(call, switch.calls[call.call_id])
    same(call.bye().status, 200, "BYE")
    return f"{statuses} to {len(bodies)} bodies, 0 INVITEs inside; an answer of garbage: {spoilt}, BYE to the switch; the next call is heard"


def softphones(lab, number, **how):
    a = Baresip(lab, "home1", f"08000FB2{number:02}0A", hertz=440, **how).start()
    b = Baresip(lab, "home2", f"08000FB2{number:02}0B", hertz=880, **how).start()
    a.registered(), b.registered()
    return a, b


def talk(a, b, seconds=2.5):
    dial(a, b)
    time.sleep(seconds)
    hang_up(a, b)
    time.sleep(0.3)
    return judge(heard(a), heard(b))


def offers(phone):
    """The descriptions that a softphone read in INVITEs from the gateway."""
    return re.findall(r"\no=[^\n]*203\.0\.113\.10\r?\n(?:.*\n)*?(m=audio[^\r\n]*)", phone.proc.text())


@case("sdp-codecs")
def codecs(lab):
    """SDP-15: of four codecs of a baresip PCMU alone is left for the other to read, and heard; an offer with nothing left is 488"""
    Gateway(lab, ttl="64", replace=added('[sdp]\nuse_codec_limit = true\ncodec_limit = "listed"\ncodecs = ["PCMU", "!telephone-event"]'))
    a, b = softphones(lab, 1, codecs="PCMA,PCMU")
    said = talk(a, b)
    lines = offers(b)
    check(lines and all(re.fullmatch(r"m=audio \d+ RTP/AVP 0", line) for line in lines), f"what the called softphone read: {lines}")
    wrote = re.search(r"m=audio \d+ RTP/AVP ([\d ]+)", a.proc.text()).group(1).split()
    check(len(wrote) > 1, f"what the caller wrote: {wrote}")
    phone = Phone(lab, "codecs", "home1", 7, MAC, KAMAILIO).connect()
    same(phone.register().status, 200, "REGISTER")
    media = phone.open_media()
    lab.opened.append(media)
    only = media.sdp().replace("RTP/AVP 0 101", "RTP/AVP 8").replace("a=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15", "a=rtpmap:8 PCMA/8000")
    target = f"sips:inst-{b.mac}@{KAMAILIO}"
    text = phone.invite_text(phone.wire, target, f"{token()}@lab", f"<sips:anonymous@{KAMAILIO}>;tag={token()}", only)
    same(phone.transact(phone.wire, text).status, 488, "PCMA alone")
    return f"payload types {' '.join(wrote)} became 0; {said}; PCMA alone: 488"


@case("sdp-lines")
def lines(lab):
    """SDP-13, SDP-16: lines are taken out and a packet time is put in, all else is as it was; a baresip that reads 30 ms sends 30 ms"""
    gateway, switch, phone = ends(lab, '[sdp]\nforce_ptime = 30\nstrip_lines = ["b=", "a=silenceSupp"]')
    extra = "b=AS:80\r\na=silenceSupp:off - - - -\r\na=x-own:kept\r\n"
    phone.open_media = lambda: Worded(phone, more=extra)
    call, final = phone.call(f"sips:100@{LITERAL}")
    same(final.status, 200, "the call")
    body = call.media.wrote
    read = switch.requests("INVITE")[-1].body.decode()
    wanted = body.replace("b=AS:80\r\na=silenceSupp:off - - - -\r\n", "").replace("a=ptime:20", "a=ptime:30")
    touched = lambda text: [line for line in text.splitlines() if line[:2] not in ("o=", "c=", "m=")]  # noqa: E731
    same(touched(read), touched(wanted), "lines other than o=, c= and m=")
    same(call.bye().status, 200, "BYE")
    leave(phone, switch)
    a, b = softphones(lab, 2)
    tap = Tap(lab, "gw", "eth1")
    dial(a, b)
    homes = {NAT4["home1"], NAT4["home2"]}  # other cases may have made more
    until("both speak", lambda: {p.src[0] for p in tap.rtp() if not p.out} == homes, 10)
    time.sleep(1)
    hang_up(a, b)
    sizes = {n: sorted({len(p.payload) - 12 for p in tap.rtp() if not p.out and p.src[0] == n})[-2:] for n in homes}
    check(all(240 in found for found in sizes.values()), f"octets of G.711 in packets of each softphone: {sizes}")
    return f"b= and a=silenceSupp gone, ptime 30, the rest as it was; softphones send {sizes} octets a packet"


@case("sdp-srtp")
def srtp(lab):
    """SDP-04: two baresips with SRTP by SDES through gateway and Kamailio: the keys pass unchanged both ways, the audio is heard, and nothing on the wire is G.711"""
    Gateway(lab, ttl="64")
    a, b = softphones(lab, 3, encryption="srtp-mand")
    tap = Tap(lab, "gw", "eth1")
    said = talk(a, b)
    keys = [re.findall(r"^a=crypto:\d+ \S+ inline:(\S+)", phone.proc.text(), re.M) for phone in (a, b)]
    both = set(keys[0]) & set(keys[1])
    same(set(keys[0]), set(keys[1]), "the keys in the descriptions that each wrote and read")
    check(len(both) >= 2, f"{len(both)} keys")
    frames = [p for p in tap.rtp() if p.out]
    check(len(frames) > 100, f"{len(frames)} packets left")
    sizes = {len(p.payload) - 12 for p in frames[10:]}
    same(sizes, {170}, "octets after the header: G.711 and a tag of ten")
    return f"{len(both)} keys, the same at both; {len(frames)} SRTP packets relayed; {said}"


@case("sdp-dtls")
def dtls(lab):
    """SDP-04: two baresips behind NAT that make their keys by DTLS through the relay, found by ICE: fingerprints pass unchanged, the handshake passes, the audio is heard"""
    Gateway(lab, ttl="64")
    a, b = softphones(lab, 4, encryption="dtls_srtp", ice=True)
    tap = Tap(lab, "gw", "eth1")
    said = talk(a, b, 4)  # checks, a re-INVITE and a repeated handshake come first
    prints = [set(re.findall(r"^a=fingerprint:\S+ (\S+)", phone.proc.text(), re.M)) for phone in (a, b)]
    same(prints[0], prints[1], "the fingerprints that each wrote and read")
    # RFC 7983: DTLS begins with 20 to 63
    hands = [p for p in tap.read() if p.out and p.payload and 20 <= p.payload[0] <= 63]
    check(len(hands) >= 8, f"{len(hands)} DTLS packets left")
    same({len(p.payload) - 12 for p in tap.rtp()[10:]}, {170}, "octets after the header: G.711 and a tag of ten")
    return f"{len(prints[0])} fingerprints, the same at both; {len(hands)} DTLS packets relayed; {said}"


@case("sdp-dscp")
def dscp(lab):
    """MED-19: tshark sees CS3 on all signalling and EF on all media that leave the gateway, on both sides; with other values those"""
    seen = [dscp_of(lab, signalling, media) for signalling, media in ((24, 46), (26, 34))]
    return "; ".join(seen)


def dscp_of(lab, signalling, media):
    more = () if (signalling, media) == (24, 46) else (("[sip]\n", f"[sip]\ndscp = {signalling}\n"), ("[media]\n", f"[media]\ndscp = {media}\n"))
    gateway = Gateway(lab, ttl="64", replace=more)
    fields = ("ip.src", "ip.dsfield.dscp", "ip.proto", "tcp.len")
    shark = Proc(lab.net, "gw", f"tshark-dscp-{media}", lab.folder,
                 ["tshark", "-q", "-n", "-l", "-f", f"(src host {GW_OUT4} or src host {GW_IN4}) and (tcp port 5061 or udp)", "-i", "eth0", "-i", "eth1", "-T", "fields", *(a for f in fields for a in ("-e", f))])
    lab.opened.append(shark)
    shark.close = shark.stop
    shark.wait_for("Capturing on", 10)
    time.sleep(0.5)
    switch = Switch(lab)
    switch.on_invite = "answer"
    phone = Phone(lab, f"dscp-{media}", "home1", 7, MAC, LITERAL).connect()
    phone.tone = 880
    same(phone.register().status, 200, "REGISTER")
    call, final = phone.call(f"sips:100@{LITERAL}")
    same(final.status, 200, "the call")
    both_hear(call, switch.calls[call.call_id])
    same(call.bye().status, 200, "BYE")

    def table():
        found = {}
        for line in shark.text().splitlines():
            cells = line.split("\t")
            # what sets up a connection carries no message
            if len(cells) == 4 and cells[1] and (cells[2] == "17" or cells[3] not in ("", "0")):
                found.setdefault((cells[0], cells[2]), []).append(int(cells[1]))
        return found
    until("tshark shows both sides", lambda: len(t := table()) == 4 and all(len(v) > 3 for v in t.values()), 10)
    found = {key: set(values) for key, values in table().items() if not (key[1] == "17" and set(values) == {0})}
    wanted = {(host, proto): {value} for host in (GW_OUT4, GW_IN4) for proto, value in (("6", signalling), ("17", media))}
    count = sum(map(len, table().values()))
    # the gateway asks its name servers from inside as anybody does
    same(found, wanted, "DSCP by source and protocol")
    leave(phone, switch)
    shark.stop()
    gateway.stop()
    return f"signalling {signalling}, media {media}, in {count} packets"


@case("keep-alive-register")
def by_register(lab):
    """MED-02: with keep_alive = register the phone is told an expiry of one interval; of its four refreshes Kamailio sees none, of what changes something all"""
    Gateway(lab, replace=added('[fent]\nkeep_alive = "register"\nkeep_alive_stream = 10'))
    phone = Phone(lab, "refresher", "home1", 7, MAC, KAMAILIO).connect()
    seen = lambda: lab.kamailio.proc.text(mark).count("lab: REGISTER")  # noqa: E731
    mark, told = lab.kamailio.proc.size(), []
    for _ in range(5):
        answer = phone.register()
        same(answer.status, 200, "REGISTER")
        told.append(int(re.search(r"expires=(\d+)", answer.one("contact")).group(1)))
        time.sleep(0.3)
    check(all(5 <= seconds <= 10 for seconds in told), f"expiries that the phone was told: {told}")
    same(seen(), 1, "REGISTERs at Kamailio")
    same(len(lab.kamailio.contacts()), 1, "bindings at Kamailio")
    same(phone.register(expires=0).status, 200, "the phone leaves")
    same(seen(), 2, "REGISTERs at Kamailio with the one that leaves")
    until("Kamailio has forgotten it", lambda: not lab.kamailio.contacts())
    return f"5 REGISTERs of the phone, told {told} s; 1 at Kamailio; its leave is the second"
