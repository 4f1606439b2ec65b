"""The one-way-audio doctor: a fault of its own in each call, and what `farend status calls` and the log say of it.

Phones and switch are scripted. Every fault is made with what it is in the field: a TTL, a firewall rule, an address, a silent switch. The sentences are
judged by the words an administrator needs, which are written here and not taken from the program.
"""

import json
import time
from functools import partial

import rtp
from cases import case, check, same
from gateway import Gateway
from net import GW_OUT4, HOPS, LITERAL, NAT4
from proc import until
from sip import Phone
from switch import Switch

COUNTED = 7  # seconds: counters come every five


def mac(number):
    return f"08000FD0C{number:03d}"


def ask(lab, gateway, what="calls", *more):
    return lab.net.run("gw", lab.farend, "status", what, "--config", gateway.config, *more, check=False)


def status(lab, gateway):
    done = ask(lab, gateway, "calls", "--json")
    same((done.returncode, done.stderr), (0, ""), "farend status calls --json")
    return json.loads(done.stdout)["calls"]


def streams(lab, gateway):
    """The first stream of each running call, by the phone's tag."""
    return {call["phone"]: call["streams"][0] for call in status(lab, gateway)["calls"]}


class Site:
    """A gateway with ttl = "keep", a switch that answers, and phones that each have a fault."""

    def __init__(self, lab, **options):
        self.lab, self.gateway = lab, Gateway(lab, **options)
        self.switch = Switch(lab)
        self.switch.on_invite = "answer"
        self.phones = 0
        lab.opened.append(self)

    def close(self):
        for nat in ("nat1", "nat2"):
            self.lab.net.nft(nat, "flush chain inet home cut\n")

    def phone(self, home, host):
        self.phones += 1
        phone = Phone(self.lab, f"doctor{self.phones}", home, host, mac(self.phones), LITERAL).connect()
        same(phone.register().status, 200, "REGISTER")
        return phone

    def call(self, phone, media=None, theirs=None):
        """A call of the phone; `media` and `theirs` change its and the switch's media before either speaks."""
        for agent, change in ((phone, media), (self.switch, theirs)):
            agent.open_media = partial(self._media, agent, change)
        return phone.call(f"sips:200@{LITERAL}")

    def _media(self, agent, change):
        media = rtp.Media(self.lab, *agent.media_home, tone=agent.tone)
        for name, value in (change or {}).items():
            setattr(media, name, value)
        return media

    def cut(self, nat, rule):
        """A rule of the home's router, before it translates addresses."""
        self.lab.net.nft(nat, f"add rule inet home cut {rule} drop\n")


def judged(found, wanted):
    """Compares verdicts and words; returns what was said."""
    wrong = []
    for tag, (verdict, words) in wanted.items():
        stream = found.get(tag)
        if not stream:
            wrong.append(f"{tag}: no such call; there are {sorted(map(str, found))}")
        elif stream["verdict"] != verdict or not stream["trouble"]:
            wrong.append(f"{tag}: wanted {verdict}, said {stream['verdict']}: {stream['sentence']}")
        else:
            missing = [w for w in words if w not in stream["sentence"]]
            if missing:
                wrong.append(f"{tag}: {missing} not in: {stream['sentence']}")
    check(not wrong, " | ".join(wrong))


@case("doctor-faults")
def faults(lab):
    """seven faults in seven calls at once (TTL used up, UDP blocked, RTP from another address, silent switch, wrong payload type, port filter, one direction cut later): the right sentence each, in status and log"""
    site = Site(lab)
    gateway = site.gateway
    names = ("ttl", "blocked", "address", "switch", "payload", "cut")
    places = (("home1", 7), ("home1", 8), ("home1", 9), ("home1", 11), ("home2", 7), ("home2", 8))
    phones = {name: site.phone(*place) for name, place in zip(names, places, strict=True)}
    port80 = site.phone("home2", 9)
    tags = {name: phone.mac for name, phone in phones.items()}
    # Its signalling leaves by the first home's router, its media by the second's.
    phones["address"].media_home = ("home2", phones["address"].address)
    site.cut("nat1", f"ip saddr {phones['blocked'].address} meta l4proto udp")
    changes = {"ttl": {"media": {"ttl": HOPS + 1}}, "switch": {"theirs": {"quiet": True}}, "payload": {"media": {"kind": 96}}}
    calls, ports = {}, {}
    since = gateway.proc.size()
    for name, phone in phones.items():
        calls[name], final = site.call(phone, **changes.get(name, {}))
        same(final.status, 200, f"call {name}")
        ports[name] = calls[name].media.remote[1]
    same(site.call(port80, media={"port": 80})[1].status, 488, "an offer that names port 80")
    time.sleep(COUNTED)
    told = lambda: all(stream["verdict"] != "not-enough-data" for stream in streams(lab, gateway).values())  # noqa: E731
    until("counters of all calls", told, 10, 0.5)
    wanted = {
        tags["ttl"]: ("hop-limit-used-up", ["the phone", "minimum 1, average 1", "media.ttl = 64"]),
        tags["blocked"]: ("unlatched", [f"{GW_OUT4}:{ports['blocked']}", f"{phones['blocked'].address}:{calls['blocked'].media.port}", "the switch sends"]),
        tags["address"]: ("wrong-source", [NAT4["home2"], f"allowed is {NAT4['home1']}", 'media.source = "any"']),
        tags["switch"]: ("silent", ["the switch has sent no packet", "route or firewall inside"]),
        tags["payload"]: ("wrong-payload-type", ["the phone", "(96)", "PCMU/8000"]),
    }
    found = streams(lab, gateway)
    judged(found, wanted)
    same((found[tags["cut"]]["verdict"], found[tags["cut"]]["trouble"]), ("healthy", False), "the call that is cut later")
    site.cut("nat2", f"ip saddr {phones['cut'].address} meta l4proto udp")
    stopped = {tags["cut"]: ("stopped", ["no packet has come from the phone for", "the other end goes on", f"TTL {64 - HOPS}"])}
    until("the cut is told", lambda: streams(lab, gateway)[tags["cut"]]["trouble"], 30, 1)
    judged(streams(lab, gateway), wanted | stopped)
    page = ask(lab, gateway).stdout
    with open(f"{lab.folder}/status.txt", "w") as out:
        out.write(page)
    check(page.startswith("6 calls, 6 with trouble\n"), f"the page begins with {page.splitlines()[:1]}")
    same(page.count("\n  ! "), 6, "sentences on the page")
    check("names port 80" in page and "sdp.allowed_ports" in page, f"the port filter is not on the page: …{page[-600:]}")
    for call in calls.values():
        same(call.bye().status, 200, "BYE")
    # One line each at the end, of the class by which administrators look for them.
    lines = lambda: gateway.events("a call had trouble with its media", since)  # noqa: E731
    until("six lines in the log", lambda: len(lines()) == 6, 10, 0.5)
    same({line["tag"]: (line["verdict"], line["class"], line["level"]) for line in lines()},
         {tag: (verdict, "media", "WARN") for tag, (verdict, _) in (wanted | stopped).items()}, "lines in the log")
    past = status(lab, gateway)["past"]
    same((len(past), {p["phone"] for p in past}), (7, {*tags.values(), port80.mac}), "calls that ended in trouble")
    return f"{len(wanted) + 2} of {len(wanted) + 2} right: " + ", ".join(sorted(v for v, _ in (wanted | stopped).values())) + ", description-refused"


@case("doctor-oneway")
def oneway(lab):
    """timeout_oneway = 6: a call of which one direction is cut is told in the log while it runs, with the sentence, and again at its end; one that is whole is not"""
    site = Site(lab, replace=[("max_senders = 10\n", "max_senders = 10\ntimeout_oneway = 6\n")])
    gateway = site.gateway
    cut, whole = site.phone("home1", 7), site.phone("home2", 7)
    calls = [site.call(phone) for phone in (cut, whole)]
    same([final.status for _, final in calls], [200, 200], "calls")
    time.sleep(4)
    since = gateway.proc.size()
    site.cut("nat1", f"ip saddr {cut.address} meta l4proto udp")
    start = time.monotonic()
    lines = lambda: gateway.events("a call had trouble with its media", since)  # noqa: E731
    until("the line", lines, 12, 0.2)
    took = time.monotonic() - start
    same([(line["tag"], line["verdict"], line["class"]) for line in lines()], [(cut.mac, "stopped", "media")], "lines while it runs")
    check("the other end goes on" in lines()[0]["sentence"] and f"TTL {64 - HOPS}" in lines()[0]["sentence"], lines()[0]["sentence"])
    check(5 < took < 10, f"it was told after {took:.1f} s")
    for call, _ in calls:
        same(call.bye().status, 200, "BYE")
    until("the line at the end", lambda: len(lines()) == 2, 10, 0.5)
    same({line["tag"] for line in lines()}, {cut.mac}, "whose lines")
    return f"told {took:.1f} s after the cut, and at the end"


@case("doctor-none")
def none(lab):
    """a healthy call, a held one, one of half a second and no gateway: no fault is found where there is none, and "not enough data" is said"""
    site = Site(lab)
    gateway, since = site.gateway, site.gateway.proc.size()
    healthy, held, short = (site.phone("home1", host) for host in (7, 8, 9))
    call, final = site.call(healthy)
    same(final.status, 200, "call")
    other, final = site.call(held)
    same(final.status, 200, "call that is held")
    brief, final = site.call(short)
    same(final.status, 200, "short call")
    time.sleep(0.5)
    said = streams(lab, gateway)[short.mac]
    same((said["verdict"], said["trouble"]), ("not-enough-data", False), "a call of half a second")
    check("not enough data" in said["sentence"], said["sentence"])
    check("not enough data" in ask(lab, gateway).stdout, "the page does not say so")
    same(brief.bye().status, 200, "BYE")
    other.media.quiet = True
    answer = other.request("INVITE", other.media.sdp(direction="a=inactive\r\n"))
    same(answer.status, 200, "hold")
    other.request("ACK")
    time.sleep(COUNTED)
    until("counters", lambda: streams(lab, gateway)[healthy.mac]["verdict"] != "not-enough-data", 10, 0.5)
    found = streams(lab, gateway)
    same({tag: (s["verdict"], s["trouble"]) for tag, s in found.items()}, {healthy.mac: ("healthy", False), held.mac: ("held", False)}, "verdicts")
    stream = found[healthy.mac]
    same((stream["media"], stream["codecs"]), ("relayed", "PCMU/8000, telephone-event/8000"), "what was agreed")
    phone = stream["phone"]["counters"]
    check(phone["received_rtp"] > 150 and phone["hop_limit_received"]["minimum"] == 64 - HOPS and phone["senders"] == 1, f"counters of the phone: {phone}")
    same(phone["receiver"].rsplit(":", 1)[0], NAT4["home1"], "where packets to the phone go")
    page = ask(lab, gateway).stdout
    check(page.startswith("2 calls, 0 with trouble\n") and "! " not in page, page[:400])
    summary = ask(lab, gateway, "summary").stdout
    check("3 registered, 3 connected" in summary and "calls     2 now, 0 with trouble; 3 answered" in summary, summary)
    for one in (call, other):
        same(one.bye().status, 200, "BYE")
    time.sleep(3)
    same(gateway.events("a call had trouble with its media", since), [], "lines in the log")
    same(status(lab, gateway), {"calls": [], "left_out": 0, "past": []}, "status after the last call")
    gateway.stop()
    gone = ask(lab, gateway)
    same((gone.returncode, gone.stdout), (1, ""), "farend status without a gateway")
    check("no gateway answers at" in gone.stderr and "status.sock" in gone.stderr, gone.stderr)
    return "healthy, held and half a second: no fault, not enough data in the last; without a gateway: said so"
