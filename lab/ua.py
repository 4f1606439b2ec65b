#!/usr/bin/env python3
"""The example `user_agent` against Debian's SIPp, over UDP and TCP on loopback: calls both ways, PRACK, repeated 2xx. Needs no root.

    python3 lab/ua.py target/debug/examples/user_agent
"""

import os
import re
import subprocess
import sys
import tempfile

SDP = "v=0\no=s 1 1 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 9 RTP/AVP 0\n"
OURS = "Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]\nMax-Forwards: 70\nCall-ID: [call_id]\nFrom: <sip:sipp@[local_ip]>;tag=s[call_number]"
THEIRS = "[last_Via:]\n[last_From:]\n[last_Call-ID:]\n[last_CSeq:]\nContact: <sip:[local_ip]:[local_port];transport=[transport]>"
BACK = "[last_Via:]\n[last_From:]\n[last_To:]\n[last_Call-ID:]\n[last_CSeq:]"


def send(text, body="", **attributes):
    kind = "Content-Type: application/sdp\nContent-Length: [len]" if body else "Content-Length: 0"
    extra = "".join(f' {k}="{v}"' for k, v in attributes.items())
    return f"<send{extra}><![CDATA[\n{text}\n{kind}\n\n{body}]]></send>"


def recv(what, action="", **attributes):
    kind = "response" if isinstance(what, int) else "request"
    extra = "".join(f' {k}="{v}"' for k, v in attributes.items())
    return f'<recv {kind}="{what}"{extra}>{action}</recv>'


def pause(milliseconds):
    return f'<pause milliseconds="{milliseconds}"/>'


def later(method, cseq, more="", **attributes):
    # [last_To:] has the tag only if the last message was a response to the INVITE, so the tag is kept from the first.
    return send(f"{method} sip:[remote_ip]:[remote_port] SIP/2.0\n{OURS}\nTo: <sip:a@[remote_ip]>[$tag]\nCSeq: {cseq} {method}{more}", **attributes)


def keep(name, regex, header):
    return f'<ereg regexp="{regex}" search_in="hdr" header="{header}" check_it="true" assign_to="{name}"/>'


INVITE = send(f"INVITE sip:a@[remote_ip]:[remote_port] SIP/2.0\n{OURS}\nTo: <sip:a@[remote_ip]>\nCSeq: 1 INVITE\nContact: <sip:sipp@[local_ip]:[local_port];transport=[transport]>"
              "\nSupported: 100rel", SDP, retrans=500)
TAG = f'<action>{keep("tag", ";tag=.*", "To:")}</action>'

# What SIPp plays, and what the example does meanwhile.
CALLING = {
    "reliable 183, PRACK, BYE by the caller": lambda transport: [
        INVITE, recv(100, optional="true"),
        recv(183, f'<action>{keep("tag", ";tag=.*", "To:")}{keep("rseq", "[0-9]+", "RSeq:")}{keep("rel", "100rel", "Require:")}</action>'),
        later("PRACK", 2, "\nRAck: [$rseq] 1 INVITE", retrans=500), recv(200), recv(200), later("ACK", 1), pause(200), later("BYE", 3, retrans=500), recv(200)],
    # Over UDP SIPp takes what comes twice for what it is, and shows it to no scenario.
    "a 2xx is repeated until the ACK": lambda transport: [
        INVITE.replace("\nSupported: 100rel", ""), recv(100, optional="true"), recv(183, optional="true"), recv(200, TAG),
        *([recv(200), recv(200)] if transport == "tcp" else [pause(1800)]), later("ACK", 1), pause(3000), later("BYE", 2, retrans=500), recv(200)],
}
ANSWERING = {
    "reliable 180, one PRACK, 200, BYE by the caller": lambda transport: [
        recv("INVITE"), send(f"SIP/2.0 180 Ringing\n{THEIRS}\n[last_To:];tag=s1\nRequire: 100rel\nRSeq: 7", retrans=500),
        recv("PRACK", f'<action>{keep("rack", "7 1 INVITE", "RAck:")}</action>'), send(f"SIP/2.0 200 OK\n{BACK}"),
        send(f"SIP/2.0 200 OK\n{OURS.split(chr(10))[2]}\n[$via]\n[$from]\n[$to];tag=s1\nCSeq: 1 INVITE\nContact: <sip:[local_ip]:[local_port];transport=[transport]>", SDP, retrans=500),
        recv("ACK"), recv("BYE"), send(f"SIP/2.0 200 OK\n{BACK}")],
    # Over UDP SIPp answers the second of two equal ACKs with a 200 of its own, and so on.
    "no provisional response, each 2xx gets an ACK": lambda transport: [
        recv("INVITE"), *[step for _ in range(3 if transport == "tcp" else 1) for step in (
            send(f"SIP/2.0 200 OK\n[$via]\n[$from]\n[$to];tag=s1\nCall-ID: [call_id]\nCSeq: 1 INVITE\nContact: <sip:[local_ip]:[local_port];transport=[transport]>", SDP),
            recv("ACK"))],
        recv("BYE"), send(f"SIP/2.0 200 OK\n{BACK}")],
}
# What an answer needs of the INVITE after another request has come.
KEPT = recv("INVITE", "<action>" + "".join(
    f'<ereg regexp="{n}: [^\\r\\n]*" search_in="msg" check_it="true" assign_to="{v}"/>' for n, v in (("Via", "via"), ("From", "from"), ("To", "to"))) + "</action>")


def document(steps):
    text = "\n".join(steps).replace(recv("INVITE"), KEPT)
    # SIPp refuses variables that are set and never read.
    names = sorted(set(re.findall(r'assign_to="(\w+)"', text)))
    used = f'<Reference variables="{",".join(names)}"/>' if names else ""
    return f'<?xml version="1.0" encoding="ISO-8859-1" ?>\n<scenario name="ua">\n{text}\n{used}\n</scenario>\n'


class Run:
    def __init__(self, binary):
        self.binary, self.port, self.failed = binary, 15060, 0

    def one(self, what, transport, sipp_calls, scenario):
        self.port += 2
        ours, theirs = f"127.0.0.1:{self.port}", self.port + 1
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/scenario.xml"
            with open(path, "w", encoding="utf-8") as file:
                file.write(document(scenario))
            sipp = ["sipp", ours, "-sf", path, "-t", {"udp": "u1", "tcp": "t1"}[transport], "-i", "127.0.0.1", "-p", str(theirs), "-m", "1", "-timeout", "15",
                    "-timeout_error", "-trace_err", "-nostdin"]
            ours_command = [self.binary, ours, transport, "answer" if sipp_calls else f"127.0.0.1:{theirs}"]
            commands = [ours_command, sipp] if sipp_calls else [sipp, ours_command]
            running = []
            for command in commands:
                running.append(subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
                # Both bind at once after their start; SIPp's first datagram is repeated if it was too fast, its connection is not.
                self.wait_for(self.port if sipp_calls else theirs, transport, running[0])
            outputs = []
            for process in running:
                try:
                    outputs.append(process.communicate(timeout=30)[0])
                except subprocess.TimeoutExpired:
                    process.kill()
                    outputs.append(process.communicate()[0] + "\n(took too long)")
            good = all(p.returncode == 0 for p in running)
            print(f"{'ok  ' if good else 'FAIL'} {transport} {what}", flush=True)
            if not good:
                self.failed += 1
                for command, process, output in zip(commands, running, outputs):
                    print(f"--- {os.path.basename(command[0])} exited {process.returncode}\n{output[-2000:]}")
                for name in os.listdir(folder):
                    if name.endswith("errors.log"):
                        print(open(f"{folder}/{name}", encoding="utf-8", errors="replace").read()[-3000:])

    @staticmethod
    def wait_for(port, transport, process):
        table = f"/proc/net/{transport}"
        for _ in range(500):
            with open(table, encoding="ascii") as file:
                # Local address, remote address, and for TCP the state LISTEN.
                bound = re.search(rf": \w+:{port:04X} \w+:\w+ {'0A' if transport == 'tcp' else '07'} ", file.read())
                if bound or process.poll() is not None:
                    return
            subprocess.run(["sleep", "0.01"], check=True)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    run = Run(os.path.abspath(sys.argv[1]))
    for transport in ("udp", "tcp"):
        for what, steps in CALLING.items():
            run.one(f"SIPp calls: {what}", transport, True, steps(transport))
        for what, steps in ANSWERING.items():
            run.one(f"SIPp answers: {what}", transport, False, steps(transport))
    print(f"{run.failed} failed")
    return 1 if run.failed else 0


if __name__ == "__main__":
    sys.exit(main())
