"""The rows M1 to M6 of the attack table against a running call: RTP of the two ends is counted packet by packet, that of others is marked."""

import time

from cases import case, check, same
from foreign import MARK, Flood, Foreigner, all_at_once, junk
from gateway import Gateway
from net import CALLER, FORBIDDEN, GW_IN4, GW_OUT4, KAMAILIO, LITERAL, NAT4
from proc import until
from sip import Caller, Phone
from tap import Tap

INTERNET = "203.0.113.1"  # a host on the gateway's outside segment
MAC = "08000FA00001"


def policy(source="signalling-address", limit="multiple", more=()):
    """Changes of the template."""
    return [('source = "signalling-address"', f'source = "{source}"'), ('sender_limit = "multiple"', f'sender_limit = "{limit}"'), *more]


class Scene:
    """A gateway with this policy, a phone of home1 that an inside script has called, and counters."""

    def __init__(self, lab, source="signalling-address", limit="multiple", phone_talks=True, more=()):
        self.lab = lab
        self.gateway = Gateway(lab, ttl="64", replace=policy(source, limit, more))
        self.phone = Phone(lab, f"victim-{source}-{limit}", "home1", 7, MAC, KAMAILIO).connect()
        self.phone.on_invite, self.phone.tone, self.phone.talks = "answer", 880, phone_talks
        same(self.phone.register().status, 200, "REGISTER")
        self.wire = Tap(lab, "gw", "eth1")
        self.call, final = Caller(lab, CALLER, KAMAILIO, port=5070).call(MAC)
        same(final.status, 200, "INVITE")
        self.near, self.far = self.call.media, self.phone.calls[self.call.call_id].media  # the inside end and the phone
        self.outside, self.inside = self.far.remote, self.near.remote
        if phone_talks:
            self.both_hear()

    def both_hear(self, more=10):
        """Both ends hear the other from here on."""
        marks = len(self.near.heard_of(self.far)), len(self.far.heard_of(self.near))
        until("both ends hear the other", lambda: len(self.near.heard_of(self.far)) > marks[0] + more and len(self.far.heard_of(self.near)) > marks[1] + more, 20)

    def foreign(self):
        """Marked packets that came out at the inside end and at the phone."""
        return [sum(MARK[:8] in data for _, _, data in media.got) for media in (self.near, self.far)]

    def lost(self, act):
        """Packets of either end that the other missed while `act` ran."""
        self.both_hear(5)
        begun = self.far.sent, self.near.sent
        act()
        self.both_hear(30)
        ended = self.far.sent - 5, self.near.sent - 5
        missed = []
        for sender, receiver, begin, end in ((self.far, self.near, begun[0], ended[0]), (self.near, self.far, begun[1], ended[1])):
            wanted = {n & 0xFFFF for n in range(begin, end)}
            check(len(wanted) > 20, f"only {len(wanted)} packets to judge by")
            missed.append((len(wanted - set(receiver.heard_of(sender))), len(wanted)))
        return missed

    def drops(self):
        """BYE, and why the relay dropped what it dropped: {(side, reason): packets}."""
        since = self.gateway.proc.size()
        same(self.call.bye().status, 200, "BYE")
        legs = until("the last counters", lambda: e if len(e := self.gateway.events("stream ended", since)) == 2 else None)
        return {(leg["side"], *reason.rsplit(" ", 1)[:1]): int(reason.rsplit(" ", 1)[1]) for leg in legs for reason in leg["drops"].split(", ") if reason != "none"}


def strangers(lab):
    """Another host on the Internet, somebody behind another NAT."""
    return Foreigner(lab, "outside", INTERNET), Foreigner(lab, "home2", lab.phone_address("home2", 9))


def to_stranger(packets):
    return [p for p in packets if p.out and p.dst[0] in (INTERNET, NAT4["home2"])]


def bleed(lab, source):
    scene = Scene(lab, source, phone_talks=False)
    first, second = strangers(lab)
    all_at_once([first, second], scene.outside, 40, gap=0.004)
    before = len(to_stranger(scene.wire.read())), sum(scene.foreign())
    mark = len(scene.wire.packets)
    scene.far.talk()
    scene.both_hear()
    all_at_once([first, second], scene.outside, 40, gap=0.004)
    scene.both_hear()
    packets = scene.wire.read()
    spoke = next(n for n, p in enumerate(packets) if n >= mark and not p.out and p.rtp and p.ssrc == scene.far.ssrc)
    after = len(to_stranger(packets[spoke:]))
    late = len(to_stranger(packets[spoke + 60:]))
    aimed = {p.dst[0] for p in packets if p.out and p.rtp} - {NAT4["home1"], INTERNET, NAT4["home2"]}
    check(not aimed, f"{source}: media was sent to {aimed}")
    drops = scene.drops()
    scene.phone.close()
    scene.gateway.stop()
    return before, after, late, scene.foreign(), drops


@case("media-bleed")
def bleeding(lab):
    """M1: strangers speak first: nothing for them and nothing from them by signalling-address; by "any" it ends with the phone's first packet"""
    before, after, _, foreign, drops = bleed(lab, "signalling-address")
    same((before, after, foreign), ((0, 0), 0, [0, 0]), "by signalling-address: (to strangers, of strangers) before the phone, to strangers after, relayed in all")
    check(drops.get(("outside", "stranger"), 0) >= 160, f"the strangers' packets are counted: {drops}")
    (given, taken), after, late, _, _ = bleed(lab, "any")
    check(after <= 5 and late == 0, f"any: {after} packets to strangers after the phone's first packet, {late} of them late")
    return f"signalling-address: 0 to strangers, 0 of theirs relayed, {drops[('outside', 'stranger')]} counted; any: {given} to and {taken} from strangers until the phone spoke, then {after} and 0"


def locked(lab, limit, neighbours):
    """`neighbours`: may others of the same address speak too?"""
    scene = Scene(lab, "any", limit)
    outer = [*strangers(lab), Foreigner(lab, "home1", lab.phone_address("home1", 8))]
    inner = [Foreigner(lab, "inside", FORBIDDEN), Foreigner(lab, "inside", LITERAL), Foreigner(lab, "inside", CALLER)]
    aliens = {f.ssrc for f in (*outer[:2], *inner[:2])}

    def attack():
        all_at_once(outer, scene.outside, 25, rtcp=True)
        all_at_once(inner, scene.inside, 25, rtcp=True)
    missed = scene.lost(attack)
    same([m for m, _ in missed], [0, 0], "packets of the call lost under attack")
    scene.far.quiet = scene.near.quiet = True
    time.sleep(2.5)
    attack()
    scene.far.quiet = scene.near.quiet = False
    scene.both_hear()
    moved(scene, limit)
    attack()
    heard = {int.from_bytes(d[8:12], "big") for media in (scene.near, scene.far) for *_, d in media.got if MARK[:8] in d}
    check(not heard & aliens, f"{limit}: relayed of strangers: {[hex(s) for s in heard & aliens]}")
    same(bool(heard), neighbours, f"{limit}: whether another port of the same address is let in")
    bled = [(f.address, [d[:2].hex() for d in f.heard()][:5]) for f in (*outer, *inner) if f.heard()]
    same(bled, [], f"{limit}: got something from the relay")
    return scene.drops()


def moved(scene, limit):
    """The phone goes on from another port: heard at once where its address counts, after a re-INVITE where the port does."""
    mark, quiet = len(scene.near.heard_of(scene.far)), len(scene.far.got)
    scene.far.move()
    if limit == "lock":
        time.sleep(0.7)
        check(len(scene.near.heard_of(scene.far)) - mark <= 2, "a new port was heard before the re-INVITE")
        check(len(scene.far.got) == quiet or not scene.far.got[quiet + 2:], "a new port got media before the re-INVITE")
        call = scene.phone.calls[scene.call.call_id]
        answer = call.request("INVITE", scene.far.sdp())
        same(answer.status, 200, "re-INVITE")
        call.request("ACK")
        scene.far.aim(answer.body)
        scene.outside = scene.far.remote
    scene.both_hear()


@case("media-lock")
def lock(lab):
    """M2, lock, any source: nobody else is relayed or sent to, at either port, also after 2.5 s of silence; a new port speaks after a re-INVITE"""
    drops = locked(lab, "lock", False)
    return f"6 foreign senders, 3 attacks: 0 packets relayed, 0 to them, 0 of the call lost; new port silent until the re-INVITE, then heard both ways; dropped as strangers: {drops[('outside', 'stranger')]} outside, {drops[('inside', 'stranger')]} inside"


@case("media-lock-ip")
def lock_ip(lab):
    """M2, lock-ip, any source: no other address is relayed or sent to; another port of the same address may speak and never listens"""
    drops = locked(lab, "lock-ip", True)
    return f"4 foreign addresses: 0 packets relayed, 0 to them; 2 neighbours of the same address: 0 packets to them; new port heard at once; dropped as strangers: {drops[('outside', 'stranger')]} outside, {drops[('inside', 'stranger')]} inside"


@case("media-multiple")
def multiple(lab):
    """M3: of 14 further senders nine are relayed and none is sent to; the phone is never shut out; a copy of its SSRC and sequence moves nothing"""
    scene = Scene(lab, "any")
    crowd = [Foreigner(lab, "outside", INTERNET) for _ in range(7)] + [Foreigner(lab, "home1", lab.phone_address("home1", 8)) for _ in range(7)]
    missed = scene.lost(lambda: all_at_once(crowd, scene.outside, 12, gap=0.001))
    same([m for m, _ in missed], [0, 0], "packets of the call lost beside 14 further senders")
    heard = {int.from_bytes(d[8:12], "big") for *_, d in scene.near.got if MARK[:8] in d}
    same(len(heard), 9, "further senders relayed")
    scene.far.move()
    scene.both_hear()
    copies = Foreigner(lab, "outside", INTERNET), Foreigner(lab, "home1", lab.phone_address("home1", 9))

    def copy():
        for _ in range(25):
            for one in copies:
                one.talk(scene.outside, 1, gap=0.005, ssrc=scene.far.ssrc, sequence=scene.far.sent + 3)
    missed = scene.lost(copy)
    stolen = {one.address[0]: len(one.heard()) for one in (*copies, *crowd) if one.heard()}
    same(stolen, {}, "packets of the call that went to others")
    check(missed[1][0] == 0, f"the phone missed {missed[1][0]} of {missed[1][1]} packets")
    drops = scene.drops()
    return f"14 senders: 9 relayed, 0 packets to any; the phone on a new port beside them heard at once; 50 copies of its stream by its neighbour and by a stranger: 0 packets moved; {drops[('outside', 'senders')]} dropped as one sender too many"


@case("media-malformed")
def malformed(lab):
    """M4: what is not RTP or RTCP, from strangers, from the phone's own socket and from the inside: nothing is answered, nothing passes, the call loses nothing"""
    scene = Scene(lab)
    stranger, neighbour, inner = Foreigner(lab, "outside", INTERNET), Foreigner(lab, "home1", lab.phone_address("home1", 8)), Foreigner(lab, "inside", CALLER)
    kinds = list(junk(scene.far.ssrc, 7))
    begun = [len(media.got) for media in (scene.near, scene.far)]

    def attack():
        for _ in range(3):
            for _, data in kinds:
                for target in (scene.outside, (scene.outside[0], scene.outside[1] + 1)):
                    stranger.send(target, data)
                    neighbour.send(target, data)
                    scene.far.sock.sendto(data, target)
                for target in (scene.inside, (scene.inside[0], scene.inside[1] + 1)):
                    inner.send(target, data)
                    scene.near.sock.sendto(data, target)
                time.sleep(0.004)
    missed = scene.lost(attack)
    same([m for m, _ in missed], [0, 0], "packets of the call lost")
    same([one.heard() for one in (stranger, neighbour, inner)], [[], [], []], "answers to those who sent junk")
    for media, begin, peer in ((scene.near, begun[0], scene.far), (scene.far, begun[1], scene.near)):
        strange = [d for *_, d in media.got[begin:] if len(d) != 172 or int.from_bytes(d[8:12], "big") != peer.ssrc]
        named = [name for name, data in kinds if data in strange]
        check(not strange, f"passed to {media.address}: {named or [d[:16] for d in strange[:3]]}")
    drops = scene.drops()
    missing = [(side, why) for side in ("outside", "inside") for why in ("malformed", "stun", "dtls", "zrtp") if not drops.get((side, why))]
    check(not missing, f"not counted: {missing} of {drops}")
    return f"{len(kinds)} kinds, {len(kinds) * 30} packets to RTP and RTCP ports: 0 answered, 0 passed, 0 of the call lost; {', '.join(f'{side} {why} {n}' for (side, why), n in sorted(drops.items()))}"


@case("media-flood")
def flood(lab):
    """M5: 20,000 packets of 16 strangers, then 20,000 of one sender at the phone's own address: the call loses at most 2 %"""
    scene = Scene(lab)
    figures = []
    for short, address, sources in (("outside", INTERNET, 16), ("home1", lab.phone_address("home1", 8), 1)):
        storm = Flood(lab, short, address, scene.outside, 20000, sources, 10)
        missed = scene.lost(lambda s=storm: s.wait())
        worst = max(m / n for m, n in missed)
        check(worst <= 0.02, f"flood from {address}: lost of the call (phone, inside): {missed}")
        figures.append(f"{worst:.1%}")
    foreign = scene.foreign()
    drops = scene.drops()
    # what a busy machine's sockets had no room for is not counted
    check(drops[("outside", "stranger")] > 5000 and drops[("outside", "rate")] > 1000, f"what is counted of the floods: {drops}")
    check(foreign[0] <= 4000, f"one sender has a ceiling of 1,000 a second, and {foreign[0]} of its 20,000 were relayed")
    return f"lost under strangers {figures[0]}, under one sender of the same address {figures[1]}; dropped: {drops[('outside', 'stranger')]} strangers, {drops[('outside', 'rate')]} over the rate; {foreign[0]} relayed within it"


def bound(lab):
    """UDP ports of the gateway's namespace."""
    return {int(line.split()[3].rsplit(":", 1)[1]) for line in lab.net.run("gw", "ss", "-Hanu").stdout.splitlines()}


@case("media-bye")
def bye(lab):
    """M6: after BYE nothing is relayed and the ports are closed; over 40 calls they lie all over the range, in no order, none twice"""
    scene = Scene(lab)
    same(scene.call.bye().status, 200, "BYE")
    time.sleep(0.2)
    heard = len(scene.near.got), len(scene.far.got)
    stranger = Foreigner(lab, "outside", INTERNET)
    for _ in range(4):
        stranger.talk(scene.outside, 10)
        time.sleep(0.5)
    same((len(scene.near.got), len(scene.far.got)), heard, "packets heard in the 2 s after BYE")
    still = bound(lab) & {port + n for _, port in (scene.outside, scene.inside) for n in (0, 1)}
    check(not still, f"open 2 s after BYE: {still}")
    same(stranger.heard(), [], "what a stranger got")
    outer, inner = [scene.outside[1]], [scene.inside[1]]
    caller = Caller(lab, CALLER, KAMAILIO, port=5071)
    scene.phone.talks = caller.talks = False
    for _ in range(40):
        call, final = caller.call(MAC)
        same(final.status, 200, "INVITE")
        theirs = scene.phone.calls[call.call_id]
        outer.append(theirs.media.remote[1])
        inner.append(call.media.remote[1])
        same(call.bye().status, 200, "BYE")
        call.media.close(), theirs.media.close()
    for ports in (outer, inner):
        scattered(ports)
    return f"0 packets after BYE, the four ports closed; 41 calls: outside ports {min(outer)} to {max(outer)}, inside {min(inner)} to {max(inner)}, none twice, in no order"


def scattered(ports):
    """41 throws of a fair die with 8,192 faces, in the range of the template; each check fails less than once in 10,000 runs."""
    check(all(16384 <= p <= 32767 and p % 2 == 0 for p in ports), f"outside of the range, or odd: {ports}")
    check(len(set(ports)) == len(ports), f"used twice within 30 s: {ports}")
    check({(p - 16384) * 4 // 16384 for p in ports} == {0, 1, 2, 3}, f"a quarter of the range is never used: {ports}")
    near = sum(abs(a - b) <= 64 for a, b in zip(ports, ports[1:], strict=False))
    check(near <= 4, f"{near} of 40 are within 64 of the one before: {ports}")
    ups = sum(b > a for a, b in zip(ports, ports[1:], strict=False))
    check(8 <= ups <= 32, f"{ups} of 40 steps go up: {ports}")


@case("media-silence")
def silence(lab):
    """SAM-20, SAM-21, MED-14: an end that falls silent is told after 5 s with both ends' counters, all silence after 10 s, and then the ports are closed"""
    keys = "\ntimeout_oneway = 5\ntimeout_rtp = 10\nteardown_on_timeout = true"
    scene = Scene(lab, more=[("max_senders = 10", "max_senders = 10" + keys)])
    begun, since = time.time(), scene.gateway.proc.size()
    scene.far.quiet = True
    told = until("the phone's silence is told", lambda: scene.gateway.events("a stream is silent", since), 9)
    first = time.time() - begun
    same([(one["missing"], one["closed"]) for one in told], [("RTP from outside (media.timeout_oneway)", False)], "what is told")
    check(4 < first < 8 and "ttl" in told[0]["outside"], f"told after {first:.1f} s: {told}")
    scene.near.quiet = True
    begun = time.time()
    told = until("all silence is told", lambda: e if len(e := scene.gateway.events("a stream is silent", since)) > 1 else None, 14)[1:]
    same([(one["missing"], one["closed"]) for one in told], [("RTP (media.timeout_rtp)", True)], "what is told")
    all_silent = time.time() - begun
    check(9 < all_silent < 13, f"told after {all_silent:.1f} s")
    still = bound(lab) & {port + n for _, port in (scene.outside, scene.inside) for n in (0, 1)}
    check(not still, f"still open: {still}")
    same(scene.call.bye().status, 200, "BYE")
    return f"one end told after {first:.1f} s, both after {all_silent:.1f} s, four ports closed, the call ended by its own BYE"
