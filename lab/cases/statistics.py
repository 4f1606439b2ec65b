"""What the relay says of a stream beside what tshark's RTP analysis says of the same packets (MED-20)."""

import time

from cases import case, check, same
from gateway import Gateway
from net import CALLER, GW_IN4, GW_OUT4, KAMAILIO
from proc import Proc, until
from sip import Caller, Phone

LOSSY = """
table ip lossy {
  chain out { type filter hook output priority 0; ip saddr %s udp sport 40000-60000 numgen random mod 100 < 20 drop; }
}
"""


def analysed(lab, path, to):
    """tshark's figures of the stream that came to this address: packets, lost, mean and greatest jitter in ms."""
    port = to[1]
    text = lab.net.run("gw", "tshark", "-n", "-q", "-r", path, "-d", f"udp.port=={port},rtp", "-z", "rtp,streams").stdout
    rows = [line.split() for line in text.splitlines() if "0x" in line]
    row = next(r for r in rows if (r[4], r[5]) == (to[0], str(port)))
    at = next(n for n, cell in enumerate(row) if cell.startswith("("))  # 40 (10.1%), then least, mean and greatest delta, and jitter
    return int(row[at - 2]), int(row[at - 1]), float(row[at + 5]), float(row[at + 6])


def near(got, wanted):
    """Both count from the kernel's stamps."""
    return abs(got - wanted) <= wanted * 0.02


@case("media-statistics")
def statistics(lab):
    """MED-20: 10 % of what a phone sends and 20 % of what comes from inside is lost at random and all of it comes unevenly: packets and losses by the relay are those of tshark, jitter is within 2 %"""
    gateway = Gateway(lab, ttl="64")
    path = f"{lab.folder}/statistics.pcapng"
    capture = Proc(lab.net, "gw", "dumpcap", lab.folder, ["dumpcap", "-q", "-i", "eth1", "-i", "eth0", "-f", "udp", "-w", path])
    lab.opened.append(type("Capture", (), {"close": lambda self: capture.stop()})())
    capture.wait_for("File:", 8)
    lab.net.nft("nat1", 'add rule inet home cut iifname "lan" udp dport 16384-32767 numgen random mod 100 < 10 drop')
    lab.net.nft("inside", LOSSY % CALLER)
    try:
        phone = Phone(lab, "measured", "home1", 7, "08000FA00001", KAMAILIO).connect()
        phone.on_invite, phone.talks = "answer", False
        same(phone.register().status, 200, "REGISTER")
        caller = Caller(lab, CALLER, KAMAILIO)
        caller.talks = False
        call, final = caller.call(phone.mac)
        same(final.status, 200, "INVITE")
        ends = [call.media, phone.calls[call.call_id].media]
        for media in ends:
            media.jitter = 0.08
            media.talk()
        until("five seconds of talk", lambda: min(m.sent for m in ends) > 250, 15)
        for media in ends:
            media.quiet = True
        time.sleep(0.1)
        since = gateway.proc.size()
        same(call.bye().status, 200, "BYE")
        legs = until("the last counters", lambda: e if len(e := gateway.events("stream ended", since)) == 2 else None)
    finally:
        lab.net.nft("nat1", "flush chain inet home cut")
        lab.net.nft("inside", "delete table ip lossy")
    time.sleep(0.2)
    capture.stop(2)
    figures = []
    for side, to in (("outside", (GW_OUT4, ends[1].remote[1])), ("inside", (GW_IN4, ends[0].remote[1]))):
        leg = next(one for one in legs if one["side"] == side)
        packets, lost, mean, most = analysed(lab, path, to)
        said = leg["received"], leg["lost"], float(leg["jitter_ms"]), float(leg["jitter_max_ms"])
        check(lost >= 8, f"{side}: only {lost} packets were lost on the way")
        right = said[:2] == (packets, lost) and near(said[2], mean) and near(said[3], most)
        check(right, f"{side}: the relay says {said}, tshark {(packets, lost, mean, most)} (packets, lost, mean and greatest jitter in ms)")
        figures.append(f"{side} relay {said}, tshark {(packets, lost, round(mean, 3), round(most, 3))}")
    return "packets, lost, mean and greatest jitter in ms: " + "; ".join(figures)
