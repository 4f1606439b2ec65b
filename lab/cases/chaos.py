"""Several things at once to the media process, and mistakes of whoever runs it."""

import os
import signal

from cases import case, check, same
from cases.doctor import status
from cases.killed_media import PROCESS, Media, Scene
from foreign import Foreigner, junk
from gateway import Gateway
from net import CALLER, GW_IN4, GW_OUT4
from proc import Proc, until


@case("chaos-twice-media")
def twice(lab):
    """the media process is killed, the next one as soon as it is there: it is not waited for; junk at every socket and signals meant for the gateway do nothing"""
    scene = Scene(lab, 4)
    process = scene.media.one()
    os.kill(process, signal.SIGUSR1)
    os.kill(process, signal.SIGHUP)
    strangers = {GW_OUT4: Foreigner(lab, "home1", lab.phone_address("home1", 7)), GW_IN4: Foreigner(lab, "inside", CALLER)}
    places = [line.split()[3].rsplit(":", 1) for line in lab.net.run("gw", "ss", "-Huan").stdout.splitlines()]
    places = [(host, int(port)) for host, port in places if host in strangers]
    everything = [data for _, data in junk(0x0BAD, 9)]
    for n, (host, port) in enumerate(places):
        for data in everything[n % 5::5]:
            strangers[host].send((host, port), data)
    scene.speaking("after the junk")
    same(scene.media.one(), process, "the media process of before")
    since = scene.gateway.proc.size()
    scene.begin()
    os.kill(process, signal.SIGKILL)
    second = until("there is another media process", lambda: [p for p in scene.media.processes() if p != process], 5, 0.001)
    os.kill(second[0], signal.SIGKILL)
    scene.speaking("with the third media process")
    longest = scene.longest()
    check(longest <= 2, f"somebody heard nothing for {longest:.1f} s")
    same(len(scene.gateway.events("a media process is started", since)), 2, "media processes that were started")
    same(len(status(lab, scene.gateway)["calls"]), scene.count, "calls in farend status calls")
    scene.hang_up()
    return f"junk at {len(places)} sockets; killed twice: longest silence {longest * 1000:.0f} ms"


@case("chaos-both-media")
def both(lab):
    """both processes are killed: the calls are silent until a re-INVITE of either end, which gives them new ports; none is left when they have ended"""
    scene = Scene(lab, 6)
    media = scene.media.one()
    scene.gateway.proc.stop(signal.SIGKILL)
    os.kill(media, signal.SIGKILL)
    scene.gateway.start()
    scene.reconnect()
    for n, (_, call, theirs) in enumerate(scene.calls):
        end, other = (call, theirs) if n % 2 else (theirs, call)
        answer = end.request("INVITE", end.media.sdp())
        same(answer.status, 200, "a re-INVITE")
        end.request("ACK")
        end.media.aim(answer.body)
        other.media.aim(other.offers[-1])
    scene.speaking("after re-INVITEs")
    scene.hang_up()
    until("no call is left", lambda: not status(lab, scene.gateway)["calls"], 3)
    return f"{scene.count} calls speak again after re-INVITEs from either end"


def run(lab, gateway):
    """The gateway whether it comes up or not."""
    return Proc(lab.net, "gw", os.path.basename(gateway.folder), lab.folder, [lab.farend, "run", "-c", gateway.config], cwd=gateway.folder)


@case("chaos-mistakes-media")
def mistakes(lab):
    """media.socket is a file that is somebody's: refused, the file stays; two gateways have one media.socket: the second is refused, the first goes on"""
    gateway = Gateway(lab, start=False, replace=(*PROCESS[1:], ("[media]\n", f'[media]\nprocess = true\nsocket = "{lab.folder}/precious"\n')))
    media = Media(lab)
    with open(f"{lab.folder}/precious", "w") as out:
        out.write("precious")
    refused = run(lab, gateway)
    until("it is refused", lambda: not refused.running(), 5)
    check("a file is there that is no socket" in refused.text(), refused.text()[-800:])
    refused.stop()
    with open(f"{lab.folder}/precious") as text:
        same(text.read(), "precious", "the file")
    os.unlink(f"{lab.folder}/precious")
    gateway.start()
    gateway.proc.wait_for("the gateway runs", 10)
    moved = [(f"port = {port}", f"port = {port + 100}") for port in (5061, 6586, 6587)] + [("tunnel port: 6587", "tunnel port: 6687")]
    second = Gateway(lab, start=False, replace=(*gateway.options["replace"], *moved))
    refused = run(lab, second)
    code = until("the second gateway ends", lambda: not refused.running() and refused.proc, 10).wait()
    said = refused.text()
    same(code, 1, "its exit code")
    check(f"it serves the gateway of process {gateway.proc.pid}" in said and "its own media.socket" in said, said[-800:])
    check("fault of the program" not in said, "it calls a mistake its own fault")
    refused.stop()
    check(gateway.proc.running(), "the first gateway goes on")
    same(gateway.events("the media process is lost"), [], "losses of the first gateway")
    same(len(media.processes()), 1, "media processes")
    return "a file stays; the second of two gateways is refused and told which has the socket"


@case("chaos-removed-media")
def removed(lab):
    """media.sock is removed while calls run, and signalling killed at once: the media process makes its socket anew, the next gateway waits for that and takes the calls over"""
    scene = Scene(lab, 4)
    process = scene.media.one()
    scene.begin()
    os.unlink(f"{scene.gateway.folder}/state/media.sock")
    scene.gateway.proc.stop(signal.SIGKILL)
    scene.gateway.start()
    scene.reconnect()
    scene.speaking("after the restart")
    longest = scene.longest()
    same(scene.media.one(), process, "the media process of before")
    same(len(scene.gateway.events("call of the process before goes on")), scene.count, "calls taken over")
    check(longest <= 0.2, f"somebody heard nothing for {longest * 1000:.0f} ms")
    scene.hang_up()
    return f"{scene.count} calls taken over, longest silence {longest * 1000:.0f} ms"
