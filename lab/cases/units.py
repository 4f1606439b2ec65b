"""The units of packaging/systemd under a real systemd, in namespaces of its own."""

import time

from cases import case, check, same
from cases.killed_media import Scene
from proc import until
from units import Units

REPLACE = (("[media]\n", '[media]\nprocess = true\nsocket = "/run/farend-media/media.sock"\n'), ('level = "debug"', 'level = "info"'))
GATEWAY, MEDIA = "farend.service", "farend-media.service"


@case("units")
def units(lab):
    """systemd runs both units as they are: start, reload, kill -9 and SIGINT of the gateway and kill -9 of the media process during calls, a refused configuration, stop"""
    gateway = Units(lab, replace=REPLACE)
    impossible = gateway.boot()
    if impossible:
        return f"NOT RUN: {impossible}"
    gateway.start()
    pid = lambda unit: gateway.show(unit, "MainPID")  # noqa: E731
    state = lambda unit: gateway.show(unit, "ActiveState")  # noqa: E731
    same((state(GATEWAY), state(MEDIA)), ("active", "active"), "states of both units after the start of one")
    since = gateway.proc.size()
    gateway.control("reload", GATEWAY)
    until("the reload is in force", lambda: gateway.events("the new configuration is in force", since), 5)
    scene = Scene(lab, 4, gateway)
    media, figures = pid(MEDIA), []
    for number, restarts in (("KILL", True), ("INT", False)):
        old = pid(GATEWAY)
        scene.begin()
        gateway.control("kill", "-s", number, "--kill-whom=main", GATEWAY)
        until(f"another gateway runs after SIG{number}", lambda: pid(GATEWAY) not in (old, "0"), 5)
        until("it listens", lambda: {5061, 6586, 6587} <= gateway.listening(), 10)
        scene.reconnect()
        scene.speaking(f"after SIG{number}")
        longest = scene.longest()
        check(longest <= 0.2, f"somebody heard nothing for {longest * 1000:.0f} ms after SIG{number}")
        same(pid(MEDIA), media, f"the media process after SIG{number} to the gateway")
        figures.append(f"{longest * 1000:.0f} ms")
    same(len(gateway.events("call of the process before goes on")), 2 * scene.count, "calls taken over")
    scene.begin()
    gateway.control("kill", "-s", "KILL", "--kill-whom=main", MEDIA)
    until("another media process runs", lambda: pid(MEDIA) not in (media, "0"), 5)
    scene.speaking("with the next media process")
    longest = scene.longest()
    check(longest <= 2, f"somebody heard nothing for {longest:.1f} s")
    figures.append(f"{longest * 1000:.0f} ms")
    scene.hang_up()
    # A configuration that is refused is not tried again and again.
    gateway.put(replace=(*REPLACE, ('sender_limit = "multiple"', 'sender_limit = "few"')))
    gateway.control("restart", GATEWAY, check=False)
    until("the unit has failed", lambda: state(GATEWAY) == "failed", 5)
    restarts = gateway.show(GATEWAY, "NRestarts")
    time.sleep(2.5)
    same((state(GATEWAY), gateway.show(GATEWAY, "NRestarts")), ("failed", restarts), "the unit some seconds after it was refused")
    check("media.sender_limit" in gateway.proc.text(), gateway.proc.text()[-600:])
    gateway.put(replace=REPLACE)
    gateway.start()
    gateway.control("stop", GATEWAY, MEDIA)
    same((gateway.show(GATEWAY, "Result"), gateway.show(MEDIA, "Result")), ("success", "success"), "how they ended")
    ended = [int(gateway.show(unit, "InactiveEnterTimestampMonotonic")) for unit in (GATEWAY, MEDIA)]
    check(ended[0] <= ended[1], "the media process ended before the gateway")
    return f"4 calls: longest silence after kill -9 and SIGINT of the gateway {figures[0]}, {figures[1]}, of the media process {figures[2]}; a refused configuration stays failed; stopped in order"
