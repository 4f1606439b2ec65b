"""linphone's console as a phone that none of us wrote: TLS with a client certificate, commands on its standard input."""

import math
import os
import re
import signal
import struct
import subprocess
import wave

from net import KAMAILIO
from proc import until

# Without sound cards linphone plays and records files.
CONFIG = """[sip]
default_proxy=0
root_ca={roots}
verify_server_certs=1
verify_server_cn=0
client_cert_chain={cert}
client_cert_key={key}
use_ipv6=0
sip_port=0
sip_tcp_port=0
sip_tls_port={port_tls}
keepalive_period=30000
register_only_when_network_is_up=0
inc_timeout=60
media_encryption={encryption}
[net]
mtu=1300
[rtp]
audio_rtp_port={rtp}
[misc]
uuid=00000000-0000-1000-8000-{mac}
enable_basic_to_client_group_chat_room_migration=0
log_collection_enabled=0
max_calls={calls}
[proxy_0]
reg_proxy=<sip:{host}:{port};transport=tls>
reg_route=<sip:{host}:{port};transport=tls>
reg_identity=<sip:{user}@{switch}>
reg_expires=3600
reg_sendregister=1
publish=0
push_notification_allowed=0
nat_policy_ref=none
[auth_info_0]
username={user}
domain={switch}
client_cert_chain={cert}
client_cert_key={key}
"""


class Linphone:
    _count = 0

    def __init__(self, lab, home, mac, user, switch=KAMAILIO, calls=10, encryption="none"):
        Linphone._count += 1
        self.lab, self.home, self.mac, self.user, self.switch = lab, home, mac, user, switch
        self.name, self.encryption = f"linphone-{user}", encryption
        self.folder = f"{lab.folder}/{self.name}-{Linphone._count}"
        os.makedirs(f"{self.folder}/.local/share/linphone")
        host, port = lab.edge
        cert, key = lab.pki.phone(mac)
        with open(f"{self.folder}/rc", "w") as out:
            out.write(CONFIG.format(roots=lab.edge_roots, cert=cert, key=key, user=user, switch=switch, host=host, port=port, mac=mac, port_tls=25060 + Linphone._count, calls=calls, encryption=encryption, rtp=23000 + 100 * Linphone._count))
        self.log, self.trace = f"{self.folder}/said", f"{self.folder}/log"
        open(self.trace, "w").close()
        lab.opened.append(self)

    def start(self):
        env = {**os.environ, "HOME": self.folder, "XDG_CONFIG_HOME": self.folder, "XDG_DATA_HOME": self.folder}
        self.proc = subprocess.Popen(self.lab.net.argv(self.home, "linphonec", "-c", f"{self.folder}/rc", "-S", "-d", "5", "-l", self.trace), stdin=subprocess.PIPE,
                                     stdout=open(self.log, "wb"), stderr=subprocess.STDOUT, start_new_session=True, env=env, cwd=self.folder)
        return self

    def speak(self, hertz):
        """A tone in place of a sound card."""
        path = f"{self.folder}/tone.wav"
        with wave.open(path, "wb") as out:
            out.setnchannels(1), out.setsampwidth(2), out.setframerate(8000)
            out.writeframes(struct.pack("<80000h", *(int(9000 * math.sin(2 * math.pi * hertz * n / 8000)) for n in range(80_000))))
        return self.do("soundcard use files").do(f"play {path}")

    def do(self, command):
        self.proc.stdin.write(f"{command}\n".encode())
        self.proc.stdin.flush()
        return self

    def said(self, since=0):
        """Its own log: states and messages."""
        with open(self.trace, "rb") as f:
            f.seek(since)
            return f.read().decode("utf-8", "replace")

    def mark(self):
        return os.path.getsize(self.trace)

    def call_ids(self):
        """The numbers that it gave its calls, oldest first."""
        with open(self.log, errors="replace") as f:
            return re.findall(r"assigned id (\d+)", f.read())

    def wait(self, text, seconds=8.0, since=0):
        def seen():
            if self.proc.poll() is not None:
                raise RuntimeError(f"{self.name} ended with {self.proc.returncode}")
            return text in self.said(since)
        until(f"{self.name} says {text!r}", seen, seconds)
        return self

    def close(self):
        if hasattr(self, "proc"):
            try:
                os.killpg(self.proc.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.proc.wait(5)
