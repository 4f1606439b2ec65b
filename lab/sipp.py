"""Debian's SIPp as phone: scenarios of literal text, over UDP or TCP, behind a NAT of the lab."""

import os
import re

from cases import Failed
from net import GW_OUT4, HOME4, KAMAILIO
from proc import Proc

HEADS = f'''Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch];rport
Max-Forwards: 70
Call-ID: [call_id]
Subject: lab'''

SDP = '''v=0
o=sipp 1 1 IN IP[local_ip_type] [local_ip]
s=-
c=IN IP[media_ip_type] [media_ip]
t=0 0
m=audio [media_port] RTP/AVP 0
a=rtpmap:0 PCMU/8000
'''


def scenario(*steps):
    return '<?xml version="1.0" encoding="ISO-8859-1" ?>\n<scenario name="lab">\n' + "\n".join(steps) + "\n</scenario>\n"


def send(text, **attributes):
    extra = "".join(f' {name}="{value}"' for name, value in attributes.items())
    head, _, body = text.strip().partition("\n\n")
    length = "Content-Type: application/sdp\nContent-Length: [len]" if body else "Content-Length: 0"
    return f"<send{extra}><![CDATA[\n{head}\n{length}\n\n{body}\n]]></send>"


def recv(what, optional=False, **attributes):
    extra = "".join(f' {name}="{value}"' for name, value in attributes.items())
    kind = "response" if isinstance(what, int) else "request"
    perhaps = ' optional="true"' if optional else ""
    return f'<recv {kind}="{what}"{perhaps}{extra}/>'


def register(user, mac, cseq, expires):
    return send(f'''REGISTER sip:{KAMAILIO} SIP/2.0
{HEADS}
From: <sip:{user}@{KAMAILIO}>;tag=[pid]r[call_number]
To: <sip:{user}@{KAMAILIO}>
CSeq: {cseq} REGISTER
Contact: <sip:{user}@[local_ip]:[local_port];transport=[transport]>;+sip.instance="<urn:uuid:00000000-0000-1000-8000-{mac}>";expires={expires}''', retrans=500)


def waiting(user, mac, milliseconds):
    """Registers, is there for a while, and leaves. Calls meanwhile are for `answering`."""
    return scenario(register(user, mac, 1, 600), recv(200), f'<pause milliseconds="{milliseconds}"/>', register(user, mac, 2, 0), recv(200))


ANSWERED = f'''[last_Via:]
[last_Record-Route:]
[last_From:]
[last_To:];tag=[pid]a[call_number]
[last_Call-ID:]
[last_CSeq:]
Contact: <sip:[local_ip]:[local_port];transport=[transport]>'''


def answering():
    """180, 200 with a description, ACK, and the BYE of the other end."""
    return scenario(recv("INVITE"), send(f"SIP/2.0 180 Ringing\n{ANSWERED}"), send(f"SIP/2.0 200 OK\n{ANSWERED}\n\n{SDP}", retrans=500), recv("ACK"),
                    recv("BYE"), send("SIP/2.0 200 OK\n[last_Via:]\n[last_From:]\n[last_To:]\n[last_Call-ID:]\n[last_CSeq:]"))


def calling(callee):
    """INVITE to BYE, by the route set that the answers gave."""
    ours = f"From: <sip:caller@{KAMAILIO}>;tag=[pid]c[call_number]"
    invite = send(f"INVITE sip:{callee}@{KAMAILIO} SIP/2.0\n{HEADS}\n{ours}\nTo: <sip:{callee}@{KAMAILIO}>\nCSeq: 1 INVITE\n"
                  f"Contact: <sip:caller@[local_ip]:[local_port];transport=[transport]>\n\n{SDP}", retrans=500)
    later = lambda method, n: send(f"{method} [next_url] SIP/2.0\n[routes]\n{HEADS}\n{ours}\n[last_To:]\nCSeq: {n} {method}", **({} if method == "ACK" else {"retrans": 500}))  # noqa: E731
    return scenario(invite, recv(100, True), recv(180, True), recv(200, rrs="true"), later("ACK", 1), '<pause milliseconds="300"/>', later("BYE", 2), recv(200))


HELD = SDP.replace("c=IN IP[media_ip_type] [media_ip]", "c=IN IP4 0.0.0.0").replace("o=sipp 1 1", "o=sipp 1 2")
AGAIN = SDP.replace("o=sipp 1 1", "o=sipp 1 3")


def holding(callee):
    """INVITE, then a hold as RFC 2543 has it, then the first description again, BYE."""
    ours = f"From: <sip:caller@{KAMAILIO}>;tag=[pid]c[call_number]"
    contact = "Contact: <sip:caller@[local_ip]:[local_port];transport=[transport]>"
    steps = [send(f"INVITE sip:{callee}@{KAMAILIO} SIP/2.0\n{HEADS}\n{ours}\nTo: <sip:{callee}@{KAMAILIO}>\nCSeq: 1 INVITE\n{contact}\n\n{SDP}", retrans=500)]
    for n, body in ((1, HELD), (2, AGAIN), (3, None)):
        steps += [recv(100, True), recv(180, True), recv(200, rrs="true"), send(f"ACK [next_url] SIP/2.0\n[routes]\n{HEADS}\n{ours}\n[last_To:]\nCSeq: {n} ACK"), '<pause milliseconds="200"/>']
        if body:
            steps.append(send(f"INVITE [next_url] SIP/2.0\n[routes]\n{HEADS}\n{ours}\n[last_To:]\nCSeq: {n + 1} INVITE\n{contact}\n\n{body}", retrans=500))
    steps += [send(f"BYE [next_url] SIP/2.0\n[routes]\n{HEADS}\n{ours}\n[last_To:]\nCSeq: 4 BYE", retrans=500), recv(200)]
    return scenario(*steps)


def held():
    """Answers three offers in one dialog."""
    again = ANSWERED.replace(";tag=[pid]a[call_number]", "")
    more = [step for _ in range(2) for step in (recv("INVITE"), send(f"SIP/2.0 200 OK\n{again}\n\n{SDP}", retrans=500), recv("ACK"))]
    return scenario(recv("INVITE"), send(f"SIP/2.0 180 Ringing\n{ANSWERED}"), send(f"SIP/2.0 200 OK\n{ANSWERED}\n\n{SDP}", retrans=500), recv("ACK"), *more,
                    recv("BYE"), send("SIP/2.0 200 OK\n[last_Via:]\n[last_From:]\n[last_To:]\n[last_Call-ID:]\n[last_CSeq:]"))


class Sipp:
    """One SIPp process in a home."""

    _count = 0

    def __init__(self, lab, home, number, over, main, *options, beside=None, calls=1, port=5060):
        Sipp._count += 1
        name = f"sipp-{Sipp._count}"
        files = []
        for part, text in (("main", main), ("beside", beside)):
            if text:
                files.append(f"{lab.folder}/{name}-{part}.xml")
                with open(files[-1], "w") as out:
                    out.write(text)
        command = ["sipp", f"{GW_OUT4}:5060", "-sf", files[0], "-t", {"UDP": "u1", "TCP": "t1"}[over], "-i", HOME4.format(number) if isinstance(number, int) else number, "-p", port,
                   "-m", calls, "-l", calls, "-r", 20, "-nostdin", "-timeout", "40s", "-timeout_error", "-trace_err", "-error_file", f"{lab.folder}/{name}-errors.log",
                   "-trace_msg", "-message_file", f"{lab.folder}/{name}-messages.log", *(["-oocsf", files[1]] if beside else []), *options]
        self.name, self.errors = name, f"{lab.folder}/{name}-errors.log"
        self.proc = Proc(lab.net, home, name, lab.folder, [str(c) for c in command], env={"TERM": "dumb"})
        lab.opened.append(self)

    def done(self, seconds=45):
        """Waits for its end; every call must have gone as its scenario says."""
        self.proc.proc.wait(seconds)
        if self.proc.proc.returncode:
            errors = open(self.errors).read()[-600:] if os.path.exists(self.errors) else self.proc.text()[-600:]
            raise Failed(f"{self.name} ended with {self.proc.proc.returncode}: {errors}")

    def offers(self):
        """The descriptions in the INVITEs that came, each once."""
        with open(f"{self.errors.removesuffix('-errors.log')}-messages.log", errors="replace") as log:
            found = re.findall(r"message received \[\d+\] bytes :\s*\n\s*INVITE .*?\n\r?\n(v=0.*?)\r?\n(?:\r?\n|-{5})", log.read(), re.S)
        return list(dict.fromkeys(found))

    def close(self):
        self.proc.stop()
