"""kill -9 with many registered phones: how long until the gateway answers, and until each of them is reachable again.

KILLED_PHONES=1000 makes the crowd of the requirement; a debug build and CI take a hundred.
"""

import asyncio
import os
import queue
import random
import signal
import ssl
import time

import servers
from cases import case, check, same
from gateway import Gateway
from cases.crowd import SWITCHES
from net import CALLER, GW_OUT4, HOME4
from sip import Caller, Msg, token

HOMES = 5
HOSTS = range(20, 30)


class Crowd:
    """Phones on one event loop. Each keeps one TLS connection, registers on it, answers 200 to everything, and a second or so after a loss comes back."""

    def __init__(self, lab, count):
        self.lab = lab
        self.macs = [f"08000FE{n:05X}" for n in range(count)]
        self.switches = {mac: SWITCHES[n % 3] for n, mac in enumerate(self.macs)}
        self.registered, self.got, self.refused, self.last_refusal, self.ended = {}, set(), 0, "", False
        self.contexts = {}
        for mac in self.macs:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.load_verify_locations(lab.edge_roots)
            context.load_cert_chain(*lab.pki.phone(mac))
            self.contexts[mac] = context

    async def live(self, number, mac):
        home, host = f"home{number % HOMES + 1}", HOME4.format(HOSTS[number // HOMES % len(HOSTS)])
        while not self.ended:
            try:
                await self.connection(mac, home, host)
            except (OSError, EOFError, asyncio.TimeoutError):
                pass
            self.registered.pop(mac, None)
            await asyncio.sleep(random.uniform(0.7, 1.3))

    async def connection(self, mac, home, host):
        sock = self.lab.net.socket(home, host)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (GW_OUT4, 5061))
        reader, writer = await asyncio.wait_for(asyncio.open_connection(sock=sock, ssl=self.contexts[mac], server_hostname="mivc.example.com", limit=1 << 16), 10)
        try:
            switch = self.switches[mac]
            writer.write((f"REGISTER sips:{switch} SIP/2.0\r\nVia: SIP/2.0/TLS {host}:5061;branch=z9hG4bK-{token()};rport;alias\r\nMax-Forwards: 70\r\n"
                          f"From: <sips:anonymous@{switch}>;tag={token()}\r\nTo: <sips:anonymous@{switch}>\r\nCall-ID: {mac}-{token()}\r\nCSeq: 1 REGISTER\r\n"
                          f'Contact: <sips:anonymous@{host}>;+sip.instance="<urn:uuid:00000000-0000-1000-8000-{mac}>";expires=3600\r\nContent-Length: 0\r\n\r\n').encode())
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                msg = Msg(head)
                length = int(msg.one("content-length") or 0)
                body = (await reader.readexactly(length)).decode() if length else ""
                if msg.status == 200:
                    self.registered[mac] = time.monotonic()
                elif msg.status and msg.status > 200:
                    self.refused += 1
                    self.last_refusal = msg.start
                    raise EOFError
                elif msg.method:
                    if body:
                        check(body == mac, f"{mac} got a request for {body}")
                        self.got.add(mac)
                    rows = "".join(f"Via: {v}\r\n" for v in msg.all("via"))
                    writer.write((f"SIP/2.0 200 OK\r\n{rows}From: {msg.one('from')}\r\nTo: {msg.one('to')};tag={token()}\r\nCall-ID: {msg.one('call-id')}\r\n"
                                  f"CSeq: {msg.one('cseq')}\r\nContent-Length: 0\r\n\r\n").encode())
        finally:
            writer.close()

    async def all_registered(self, seconds):
        end = time.monotonic() + seconds
        while len(self.registered) < len(self.macs):
            check(time.monotonic() < end, f"{len(self.registered)} of {len(self.macs)} registered after {seconds} s, {self.refused} refusals, the last: {self.last_refusal}")
            await asyncio.sleep(0.02)


def notify(caller, stored, mac):
    """A NOTIFY to a Contact as Kamailio stored it; where its answer will be."""
    branch = f"z9hG4bK-{token()}"
    answers = caller.pending[branch] = queue.Queue()
    caller.wire.send(f"NOTIFY {stored} SIP/2.0\r\nVia: SIP/2.0/UDP {caller.address}:{caller.port};branch={branch};rport\r\nMax-Forwards: 70\r\nFrom: {caller.local};tag={token()}\r\n"
                     f"To: <{stored}>\r\nCall-ID: {token()}\r\nCSeq: 1 NOTIFY\r\nContact: {caller.contact(caller.wire)}\r\nEvent: check-sync\r\n"
                     f"Subscription-State: active\r\nContent-Type: text/plain\r\nContent-Length: {len(mac)}\r\n\r\n{mac}")
    return answers


def location(kamailios, since):
    """What each phone registered at the switches: {MAC: (switch, Contact)}."""
    return {mac: (k.address, uri) for k in kamailios for mac, uri in k.registered(since[k]).items()}


async def reach(callers, stored):
    """Asks for every phone at once: the statuses."""
    waiting = {}
    for mac, (switch, uri) in stored.items():
        waiting[mac] = notify(callers[switch], uri, mac)
        await asyncio.sleep(0.001)
    statuses, end = {}, time.monotonic() + 5
    while waiting and time.monotonic() < end:
        for mac, answers in list(waiting.items()):
            try:
                while (status := answers.get_nowait().status) < 200:
                    pass
                statuses[mac] = status
                del waiting[mac]
            except queue.Empty:
                pass
        await asyncio.sleep(0.01)
    return statuses


async def story(gateway, crowd, kamailios, callers):
    since = {k: k.proc.size() for k in kamailios}
    lives = [asyncio.create_task(crowd.live(n, mac)) for n, mac in enumerate(crowd.macs)]
    try:
        await crowd.all_registered(60)
        stored = location(kamailios, since)
        same(len(stored), len(crowd.macs), "phones at the switches")
        statuses = await reach(callers, stored)
        same(set(statuses.values()), {200}, "status of a NOTIFY to each")
        same(crowd.got, set(crowd.macs), "phones that got it")
        crowd.got.clear()
        since = {k: k.proc.size() for k in kamailios}
        gateway.proc.stop(signal.SIGKILL)
        start = time.monotonic()
        await asyncio.to_thread(gateway.start)
        up = time.monotonic() - start
        await crowd.all_registered(60)
        back = time.monotonic() - start
        statuses = await reach(callers, stored)
        reachable = time.monotonic() - start
        same(sum(1 for s in statuses.values() if s == 200), len(crowd.macs), "phones reachable from inside under the Contact of before")
        same(crowd.got, set(crowd.macs), "phones that got their own NOTIFY")
        same(location(kamailios, since), stored, "what they registered with")
    finally:
        crowd.ended = True
        [life.cancel() for life in lives]
        await asyncio.gather(*lives, return_exceptions=True)
    return up, back, reachable


@case("killed")
def killed(lab):
    """kill -9 with many registered phones: answering at once, every one reachable from inside under its Contact of before"""
    count = int(os.environ.get("KILLED_PHONES", 100))
    lab.net.more_homes(HOMES, HOSTS)
    lab.net.more_switches(*SWITCHES[1:])
    kamailios = [lab.kamailio] + [servers.Kamailio(lab, address) for address in SWITCHES[1:]]
    for kamailio in kamailios:
        kamailio.memory = 256
        kamailio.restart()
    lab.opened.extend(kamailios[1:])
    lab.pki.crowd([f"08000FE{n:05X}" for n in range(count)])
    gateway = Gateway(lab, extra=SWITCHES[1:], replace=(('level = "debug"', 'level = "info"'),))
    crowd = Crowd(lab, count)
    callers = {address: Caller(lab, CALLER, address, port=5070 + n) for n, address in enumerate(SWITCHES)}
    for caller in callers.values():
        caller.wire.trace = None
    up, back, reachable = asyncio.run(story(gateway, crowd, kamailios, callers))
    check(up < 2, f"listening again after {up:.1f} s")
    check(reachable < 10, f"reachable after {reachable:.1f} s")
    return f"{count} phones: listening {up:.2f} s after the start, all registered after {back:.1f} s, {count} of {count} reached after {reachable:.1f} s; the same Contacts at the switches"
