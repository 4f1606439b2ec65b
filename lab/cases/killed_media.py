"""kill -9 of signalling, and of the media process, while many speak. KILLED_CALLS says how many; a debug build and CI take thirty."""

import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from cases import case, check, same
from cases.doctor import status
from choir import Choir
from gateway import Gateway
from net import CALLER, KAMAILIO
from proc import Proc, until
from sip import Caller, Phone

HOMES = ("home1", "home2")
HOST = 7
PROCESS = (("[media]\n", "[media]\nprocess = true\n"), ('level = "debug"', 'level = "info"'))


class Media:
    """The media processes in the gateway's namespace. At the end none is left."""

    def __init__(self, lab):
        self.lab = lab
        lab.opened.append(self)

    def processes(self):
        found = []
        for pid in self.lab.net.run("gw", "ip", "netns", "pids", self.lab.net.name("gw")).stdout.split():
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as f:
                    words = f.read().split(b"\0")
            except OSError:
                continue
            if b"media" in words[1:2] and self.lab.folder.encode() in b" ".join(words):
                found.append(int(pid))
        return found

    def one(self):
        found = self.processes()
        same(len(found), 1, "media processes")
        return found[0]

    def close(self):
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)


class Talking(Phone):
    """A phone that answers, with a voice of its home's choir."""

    choir = None

    def open_media(self):
        return self.choir.voice()


class Asking(Caller):
    choir = None

    def open_media(self):
        return self.choir.voice()


class Scene:
    """So many calls from inside to phones of two homes, all speaking."""

    def __init__(self, lab, count, gateway=None):
        self.lab, self.count = lab, count
        lab.pki.crowd([self.mac(n) for n in range(count)])
        self.media = Media(lab)
        self.gateway = gateway or Gateway(lab, replace=PROCESS)
        self.choirs = {home: Choir(lab, home, lab.phone_address(home, HOST), 42000, count + 2) for home in HOMES}
        self.choirs["inside"] = Choir(lab, "inside", CALLER, 42000, count + 2)
        self.phones = []
        for n in range(count):
            phone = Talking(lab, f"phone{n}", HOMES[n % 2], HOST, self.mac(n), KAMAILIO)
            phone.choir, phone.on_invite = self.choirs[phone.home], "answer"
            phone.trace = lambda *_: None
            self.phones.append(phone)
        self.caller = Asking(lab, CALLER, KAMAILIO)
        self.caller.choir = self.choirs["inside"]
        self.register()
        self.calls = [self.call(phone) for phone in self.phones]
        self.speaking("before")

    @staticmethod
    def mac(n):
        return f"08000FE{n:05X}"

    def register(self):
        def one(phone):
            same(phone.connect().register().status, 200, "REGISTER")
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(one, self.phones))

    def call(self, phone):
        call, final = self.caller.call(phone.mac)
        check(call, f"a call was refused: {final.start}")
        theirs = phone.calls[call.call_id] if call.call_id in phone.calls else list(phone.calls.values())[-1]
        return phone, call, theirs

    def speaking(self, when, voices=None):
        """Everybody hears something within a moment."""
        def heard():
            return [n for choir in self.choirs.values() for n, _ in choir.silences()]
        before = heard()
        voices = voices or 2 * self.count
        until(f"{voices} ends hear something {when}", lambda: sum(a < b for a, b in zip(before, heard())) >= voices, 5, 0.1)

    def ring(self):
        """One more call, which nobody answers."""
        self.phones[1].on_invite = "ring"
        before = self.phones[1].ring_count()

        def ask():
            try:
                self.caller.call(self.phones[1].mac, timeout=3)
            except TimeoutError:
                pass
        threading.Thread(target=ask, daemon=True).start()
        until("a phone rings", lambda: self.phones[1].ring_count() > before, 3)

    def begin(self):
        time.sleep(1)
        [choir.begin() for choir in self.choirs.values()]

    def longest(self):
        return max(silence for choir in self.choirs.values() for _, silence in choir.silences())

    def reconnect(self):
        """The phones come back, as they do by themselves; their calls have gone on."""
        self.register()
        for phone, _, theirs in self.calls:
            theirs.wire = phone.wire

    def hang_up(self):
        """One call from the one end, the next from the other."""
        for n, (phone, call, theirs) in enumerate(self.calls):
            ends = (call, theirs) if n % 2 else (theirs, call)
            same(ends[0].bye().status, 200, f"BYE from {'inside' if n % 2 else 'the phone'} in call {n}")
            check(ends[1].ended.wait(3), f"the other end of call {n} heard nothing of its BYE")
            [end.media.close() for end in ends]


def count():
    return int(os.environ.get("KILLED_CALLS", 30))


def facts(lab, scene):
    """What farend status calls knows of each phone's call from descriptions: addresses and codecs."""
    told = {}
    for call in status(lab, scene.gateway)["calls"]:
        stream = call["streams"][0]
        told[call["phone"]] = (call["phone_address"], call["switch"], stream["codecs"], stream["phone"]["says"], stream["other"]["says"])
    return told


def without_signalling(lab, number):
    """The gateway goes by this signal and comes back."""
    scene = Scene(lab, count())
    process, known = scene.media.one(), facts(lab, scene)
    scene.ring()
    scene.begin()
    scene.gateway.proc.stop(number)
    killed = time.monotonic()
    time.sleep(1)
    same(scene.media.one(), process, "the media process goes on")
    scene.gateway.start()
    up = time.monotonic() - killed
    scene.reconnect()
    scene.speaking("after the restart")
    longest = scene.longest()
    same(scene.media.one(), process, "the media process of before")
    taken = scene.gateway.events("the media process answers")
    same([event["sessions"] for event in taken], [0, scene.count + 1], "sessions found at the media process, at the first start and the second")
    gone_on = scene.gateway.events("call of the process before goes on")
    goes_on, macs = len(gone_on), sorted(phone.mac for phone in scene.phones)
    same(goes_on, scene.count, "calls taken over")
    same(sorted(event["tag"] for event in gone_on), macs, "whose calls the log says they are")
    nobodys = scene.gateway.events("nobody's: a session of an earlier process is ended")
    same(len(nobodys), 1, "sessions that were ended: of the call that rang")
    calls = facts(lab, scene)
    same(sorted(calls), macs, "phones in farend status calls")
    check(all(all(told) for told in known.values()), f"what is known of calls: {known}")
    same(calls, known, "addresses and codecs in farend status calls, as the process before knew them")
    check(longest <= 0.2, f"somebody heard nothing for {longest * 1000:.0f} ms")
    phone, call, theirs = scene.calls[0]
    again = theirs.request("INVITE", theirs.media.sdp())
    same(again.status, 200, "a re-INVITE from a phone")
    theirs.request("ACK")
    scene.hang_up()
    extra = scene.call(scene.phones[0])
    scene.calls = [extra]
    scene.speaking("in a new call", 2)
    scene.hang_up()
    scene.gateway.stop()
    until("the media process ended with the gateway", lambda: not scene.media.processes(), 3)
    return f"{scene.count} calls: signalling away for {up:.1f} s, longest silence {longest * 1000:.0f} ms at {2 * scene.count} ends, {goes_on} calls taken over, all ended by BYE (200) from either end"


@case("killed-signalling-media")
def killed_signalling(lab):
    """kill -9 of signalling during calls: nobody hears a silence, the new process takes every call over, both ends can end it"""
    return without_signalling(lab, signal.SIGKILL)


@case("killed-upgrade-media")
def upgraded(lab):
    """SIGINT in the midst of calls, as for an upgrade, and a new start: the same"""
    return without_signalling(lab, signal.SIGINT)


@case("killed-media")
def killed_media(lab):
    """kill -9 of the media process during calls: a new one carries them on the same ports within a moment; re-INVITE, BYE and new calls work"""
    scene = Scene(lab, count())
    process = scene.media.one()
    since = scene.gateway.proc.size()
    scene.begin()
    os.kill(process, signal.SIGKILL)
    until("there is another media process", lambda: [p for p in scene.media.processes() if p != process], 5)
    scene.speaking("with the new media process")
    longest = scene.longest()
    again = scene.gateway.events("a media process again: streams start anew on their ports", since)
    same([(event["sessions"], event["streams"]) for event in again], [(scene.count, scene.count)], "sessions and streams that started anew")
    same(len(scene.gateway.events("the media process is lost", since)), 1, "losses in the log")
    refused = len(scene.gateway.events("the relay refused a stream", since))
    same(refused, 0, "streams whose ports were taken")
    check(longest <= 2, f"somebody heard nothing for {longest:.1f} s")
    for _, call, theirs in scene.calls[:2]:
        for end in (call, theirs):
            same(end.request("INVITE", end.media.sdp()).status, 200, "re-INVITE")
            end.request("ACK")
    scene.speaking("after re-INVITEs")
    extra = scene.call(scene.phones[0])
    scene.speaking("with one more call", 2 * scene.count + 1)
    scene.calls.append(extra)
    scene.hang_up()
    return f"{scene.count} calls: longest silence {longest * 1000:.0f} ms, {scene.count} streams on their ports again, re-INVITE from both ends, a new call, BYE"


@case("killed-service-media")
def killed_service(lab):
    """a media process that runs as a service: found, left alone by SIGTERM, waited for when it is killed; one that hangs is noticed"""
    state = f"{lab.folder}/gw-service"
    gateway = Gateway(lab, start=False, replace=(*PROCESS[1:], ("[media]\n", f'[media]\nprocess = true\nsocket = "{state}/media.sock"\n')))
    command = [lab.farend, "media", "--socket", f"{state}/media.sock"]
    service = lambda: Proc(lab.net, "gw", "media-service", lab.folder, command)  # noqa: E731
    media = Media(lab)
    os.makedirs(state)
    proc = service()
    until("it serves its socket", lambda: os.path.exists(f"{state}/media.sock"), 3)
    gateway.start()
    first = media.one()
    same(first, proc.pid, "the service is used")
    gateway.stop()
    same(media.one(), first, "a service stays")
    gateway.start()
    since = gateway.proc.size()
    os.kill(first, signal.SIGKILL)
    time.sleep(0.5)
    same(media.processes(), [], "nobody takes its place")
    proc = service()
    gateway.proc.wait_for("a media process again", 5, since)
    os.kill(proc.pid, signal.SIGSTOP)
    try:
        gateway.proc.wait_for("it is silent", 15, since)
    finally:
        os.kill(proc.pid, signal.SIGCONT)
    until("the service is used again", lambda: len(gateway.events("a media process again: streams start anew on their ports", since)) == 2, 15)
    gateway.stop()
    same(proc.stop(), 0, "end of the service")
    return "found, left alone, waited for, noticed when it hung"


@case("killed-hung-media")
def hung(lab):
    """a media process that hangs (SIGSTOP) is killed and replaced; its calls go on"""
    scene = Scene(lab, 4)
    process = scene.media.one()
    since = scene.gateway.proc.size()
    os.kill(process, signal.SIGSTOP)
    scene.gateway.proc.wait_for("a media process again", 20, since)
    check(scene.media.one() != process, "the one that hangs is still there")
    scene.speaking("with the new media process")
    scene.hang_up()
    return "noticed by its silence, killed, replaced; 4 calls go on"


@case("killed-ports-media")
def ports(lab):
    """the media process is killed and another program takes the port of a call before it is back: an error in the log and the doctor's sentence name it, until a re-INVITE gives the call another one"""
    scene = Scene(lab, 2)
    process, since = scene.media.one(), scene.gateway.proc.size()
    before = status(lab, scene.gateway)["calls"]
    taken = before[0]["streams"][0]["phone"]["ours"]
    # Stopped first, so that nobody takes its place before the port is somebody else's.
    host, port = taken.rsplit(":", 1)
    os.kill(scene.gateway.proc.pid, signal.SIGSTOP)
    os.kill(process, signal.SIGKILL)
    until("the media process is gone", lambda: taken not in lab.net.run("gw", "ss", "-Huan").stdout, 3)
    squatter = lab.net.socket("gw", host, socket.SOCK_DGRAM, int(port))
    os.kill(scene.gateway.proc.pid, signal.SIGCONT)
    try:
        scene.gateway.proc.wait_for("the relay refused a stream", 10, since)
        silent = lambda: [call for call in status(lab, scene.gateway)["calls"] if call["streams"][0]["verdict"] == "ports-taken"]  # noqa: E731
        call = until("the doctor names it", silent, 3)[0]
        stream = call["streams"][0]
        same((call["session"], stream["media"], stream["trouble"]), (before[0]["session"], "refused", True), "the call in trouble")
        check(taken in stream["sentence"] and "re-INVITE" in stream["sentence"], stream["sentence"])
        same([event["level"] for event in scene.gateway.events("the relay refused a stream", since)], ["ERROR"], "errors in the log")
        trouble = scene.gateway.events("a call had trouble with its media", since)
        same([(event["tag"], event["verdict"]) for event in trouble], [(call["phone"], "ports-taken")], "the sentence in the log")
        scene.speaking("beside it", 2)
        at = next(n for n, (phone, _, _) in enumerate(scene.calls) if phone.mac == call["phone"])
        _, inner, theirs = scene.calls[at]
        answer = theirs.request("INVITE", theirs.media.sdp())
        same(answer.status, 200, "a re-INVITE")
        theirs.request("ACK")
        theirs.media.aim(answer.body)
        inner.media.aim(inner.offers[-1])
        scene.speaking("after a re-INVITE")
        until("nothing is the matter", lambda: not silent(), 3)
        scene.hang_up()
    finally:
        squatter.close()
    return f"{taken} taken by another program: {stream['sentence']!r}"
