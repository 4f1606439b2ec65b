"""E2E-05 and E2E-06: fifty anonymous phones behind five NATs on three switches that come and go, and phones that are sent elsewhere.

CROWD_SECONDS=600 makes the long run; CROWD_SEED repeats one.
"""

import os
import queue
import random
import threading
import time

import servers
from cases import check, case, same
from gateway import Gateway
from net import CALLER, KAMAILIO
from proc import until
from sip import Caller, Msg, Phone, token, uri_of
from switch import Switch

HOMES, PER_HOME = 5, 10
HOSTS = range(20, 20 + PER_HOME)
SWITCHES = (KAMAILIO, "10.0.1.52", "10.0.1.53")
TAG = "for "


class Resident(Phone):
    """A phone that counts what was meant for somebody else."""

    def __init__(self, lab, home, number, mac, switch):
        super().__init__(lab, mac, home, number, mac, switch)
        self.mine = self.foreign = 0
        self.up = threading.Event()  # registered, and not about to be cut
        self.turn = threading.Lock()

    def trace(self, mark, data):
        pass

    def message(self, wire, msg):
        if msg.method in ("NOTIFY", "INVITE"):
            meant = msg.body.decode().removeprefix(TAG)
            if meant == self.mac:
                self.mine += 1
            else:
                self.foreign += 1
                print(f"MISDELIVERED: {self.mac} got {msg!r} for {meant}", flush=True)
        super().message(wire, msg)

    def arrive(self):
        """Connect and register; the third time it must succeed."""
        for attempt in range(3):
            try:
                self.connect()
                answer = self.register(timeout=10)
                same(answer.status, 200, f"REGISTER of {self.mac}")
                same([uri_of(c) for c in answer.values("contact")], [f"sips:anonymous@{self.host}"], f"the Contacts in the 200 to {self.mac}")
                self.up.set()
                return
            except (OSError, TimeoutError):
                if attempt == 2:
                    raise


class Town:
    """The phones, the three switches with a caller each, and what was counted."""

    def __init__(self, lab, gateway_options=()):
        lab.net.more_homes(HOMES, HOSTS)
        lab.net.more_switches(*SWITCHES[1:])
        self.kamailios = [lab.kamailio]
        for address in SWITCHES[1:]:
            kamailio = servers.Kamailio(lab, address)
            lab.opened.append(kamailio)
            kamailio.start()
            self.kamailios.append(kamailio)
        self.gateway = Gateway(lab, extra=SWITCHES[1:], **dict(gateway_options))
        self.callers = {address: Caller(lab, CALLER, address, port=5070 + n) for n, address in enumerate(SWITCHES)}
        for caller in self.callers.values():
            caller.trace = lambda mark, data: None
            caller.wire.trace = None
        self.phones = []
        for home in range(HOMES):
            for n, host in enumerate(HOSTS):
                number = home * PER_HOME + n
                self.phones.append(Resident(lab, f"home{home + 1}", host, f"08000FC0{number:04X}", SWITCHES[number % 3]))
        for phone in self.phones:
            phone.lab.pki.phone(phone.mac)
        together([phone.arrive for phone in self.phones])

    def request(self, phone, method):
        """A request for the phone through its switch, the MAC in the body: the final (INVITE: first) status."""
        caller, body = self.callers[phone.switch], TAG + phone.mac
        target, call_id, local = f"sip:inst-{phone.mac}@{phone.switch}", f"{token()}@lab", f"{caller.local};tag={token()}"
        text = caller.invite_text(caller.wire, target, call_id, local, "").replace(
            "Content-Length: 0\r\n\r\n", f"Content-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n{body}")
        if method == "NOTIFY":
            text = text.replace("INVITE", "NOTIFY", 1).replace("1 INVITE", "1 NOTIFY").replace("Content-Type", "Event: check-sync\r\nSubscription-State: active\r\nContent-Type")
            return caller.transact(caller.wire, text, timeout=15).status
        return ring(caller, text)


def ring(caller, invite):
    """INVITE, wait for 180 or a final response, CANCEL: the status seen."""
    head, answers = Msg(invite.encode()), queue.Queue()
    caller.pending[head.branch] = answers
    caller.wire.send(invite)
    seen = None
    while True:
        msg = answers.get(timeout=15)
        if msg.status >= 300:
            caller._ack_failure(caller.wire, invite, msg)
            return seen or msg.status
        if msg.status >= 180 and not seen:
            seen = msg.status
            caller.wire.send(f"CANCEL {head.uri} SIP/2.0\r\nVia: {head.all('via')[0]}\r\nMax-Forwards: 70\r\nFrom: {head.one('from')}\r\nTo: {head.one('to')}\r\n"
                             f"Call-ID: {head.one('call-id')}\r\nCSeq: 1 CANCEL\r\nContent-Length: 0\r\n\r\n")


def together(jobs):
    """Runs them at once, ten at a time; the first failure is raised."""
    waiting, failures = queue.Queue(), []
    for job in jobs:
        waiting.put(job)

    def work():
        while not failures:
            try:
                waiting.get_nowait()()
            except queue.Empty:
                return
            except Exception as problem:
                failures.append(problem)
    threads = [threading.Thread(target=work) for _ in range(10)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    if failures:
        raise failures[0]


def comings_and_goings(town, phone, end, dice, counts):
    """One phone's life: cut (FIN or RST), away for a moment, back from another port, sometimes registered at another switch."""
    while time.monotonic() < end:
        time.sleep(dice.uniform(1, 12))
        with phone.turn:
            phone.up.clear()
            if dice.random() < 0.2:  # moves to another switch and leaves the old one
                same(phone.register(expires=0, timeout=10).status, 200, f"de-registration of {phone.mac}")
                phone.switch = dice.choice([s for s in SWITCHES if s != phone.switch])
                counts["moves"] += 1
            phone.wire.close(reset=dice.random() < 0.5)
            away = time.monotonic() + dice.uniform(0, 2)
        time.sleep(max(0, away - time.monotonic()))
        with phone.turn:
            phone.arrive()
            counts["reconnects"] += 1


def traffic(town, end, dice, counts):
    while time.monotonic() < end:
        phone = dice.choice(town.phones)
        method = dice.choice(("NOTIFY", "NOTIFY", "INVITE"))
        steady = phone.up.is_set()
        if steady and dice.random() < 0.5:
            if not phone.turn.acquire(timeout=0.5):
                continue
            try:
                if not phone.up.is_set():
                    continue
                # Nobody cuts it now: it must be reached.
                status = town.request(phone, method)
                counts["steady"] += 1
                same(status, 180 if method == "INVITE" else 200, f"{method} to {phone.mac}, which is connected")
            finally:
                phone.turn.release()
        else:
            status = town.request(phone, method)
            counts["any"] += 1
            counts[status] = counts.get(status, 0) + 1


@case("crowd")
def crowd(lab):
    """E2E-05: 50 anonymous phones, 5 NATs, 3 Kamailios, random reconnects: no request reaches another phone"""
    seconds, seed = float(os.environ.get("CROWD_SECONDS", 15)), int(os.environ.get("CROWD_SEED", time.time()))
    town = Town(lab, {"replace": (('level = "debug"', 'level = "info"'),)})
    counts = {"steady": 0, "any": 0, "reconnects": 0, "moves": 0}
    end, failures = time.monotonic() + seconds, []

    def live(work, *args):
        try:
            work(*args)
        except Exception as problem:
            failures.append(f"{type(problem).__name__}: {problem}")
    threads = [threading.Thread(target=live, args=(comings_and_goings, town, p, end, random.Random(f"{seed}{p.mac}"), counts)) for p in town.phones]
    threads += [threading.Thread(target=live, args=(traffic, town, end, random.Random(f"{seed}t{n}"), counts)) for n in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    check(not failures, f"seed {seed}: {len(failures)} faults, first: {failures[:1]}")
    together([lambda p=p: same(town.request(p, "NOTIFY"), 200, f"NOTIFY to {p.mac} at the end") for p in town.phones])
    foreign, mine = sum(p.foreign for p in town.phones), sum(p.mine for p in town.phones)
    same(foreign, 0, f"seed {seed}: requests that reached another phone")
    others = ", ".join(f"{count} x {status}" for status, count in sorted((s, c) for s, c in counts.items() if isinstance(s, int)))
    check(counts["steady"] > 0 and counts["reconnects"] > 0, "something happened")
    bindings = sum(len(k.contacts()) for k in town.kamailios)
    return (f"{seconds:g} s, {counts['reconnects']} reconnects, {counts['moves']} moves to another switch, {counts['steady']} requests to connected phones all reached, "
            f"{counts['any']} at any time ({others}); {mine} delivered, 0 to another phone; {bindings} bindings at the switches")


@case("rehome")
def rehome(lab):
    """E2E-06: a switch sends phones elsewhere by 301, another one dies: the phones are back and reachable at the next"""
    lab.net.more_switches(*SWITCHES[1:])
    second = servers.Kamailio(lab, SWITCHES[1])
    lab.opened.append(second)
    second.start()
    Gateway(lab, extra=SWITCHES[1:])
    old = Switch(lab)
    old.moved_to = KAMAILIO
    phones = [Phone(lab, f"08000FD000{n:02}", home, 7 + n % 2, f"08000FD000{n:02}", old.address) for n, home in enumerate(("home1", "home1", "home2"))]
    callers = {a: Caller(lab, CALLER, a, port=5070 + n) for n, a in enumerate(SWITCHES[:2])}
    start = time.monotonic()
    for phone in phones:
        answer = phone.connect().register()
        same((answer.status, uri_of(answer.one("contact"))), (301, f"sips:{KAMAILIO}:5061"), "the answer of the switch that moved them, untouched")
        phone.switch = KAMAILIO
        same(phone.register().status, 200, f"REGISTER of {phone.mac} at the switch it was sent to")
    same([callers[KAMAILIO].ring(p.mac) for p in phones], [180] * 3, "calls after the 301")
    moved = time.monotonic() - start
    lab.kamailio.stop()
    start = time.monotonic()
    for phone in phones:
        # As the phones do: any failure, and they try the next switch of their list.
        answer = phone.register(timeout=20)
        check(answer.status in (503, 408, 480, 500), f"REGISTER at a dead switch: {answer.status}")
        phone.switch = SWITCHES[1]
        same(phone.register().status, 200, f"REGISTER of {phone.mac} at the second switch")
    same([callers[SWITCHES[1]].ring(p.mac) for p in phones], [180] * 3, "calls after the switch died")
    failed = time.monotonic() - start
    check(max(moved, failed) < 60, f"back within a minute: {moved:.1f} s, {failed:.1f} s")
    return f"301 passed untouched, 3 of 3 reachable at the new switch after {moved:.1f} s; switch dead: 503, 3 of 3 at the next after {failed:.1f} s"
