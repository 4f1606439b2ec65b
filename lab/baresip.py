"""baresip 1.0 as a phone that none of us wrote: client certificate, outbound proxy, tones from a file, recording of both directions."""

import json
import os
import struct
import threading
import wave

import rtp
from net import KAMAILIO
from proc import Proc, until

CONFIG = """
poll_method epoll
sip_listen {address}:{sip_port}
sip_certificate {folder}/client.pem
sip_cafile {roots}
call_local_timeout 120
call_max_calls 4
audio_path /usr/share/baresip
audio_player aubridge,null{number}
audio_source aufile,{folder}/tone.wav
audio_alert aubridge,alert{number}
audio_level no
ausrc_srate 8000
auplay_srate 8000
ausrc_channels 1
auplay_channels 1
rtp_tos 184
rtp_ports {rtp_low}-{rtp_high}
rtcp_mux no
jitter_buffer_delay 1-5
rtp_stats no
net_af ipv4
module_path /usr/lib/baresip/modules
module g711.so
module aufile.so
module aubridge.so
module sndfile.so
module_tmp uuid.so
module_tmp account.so
module_app menu.so
module_app ctrl_tcp.so
ctrl_tcp_listen {address}:{control_port}
snd_path {folder}
"""


class Baresip:
    """One softphone. `events` is what it reported over ctrl_tcp."""

    _count = 0

    def __init__(self, lab, home, mac, hertz=440, number=10, switch=KAMAILIO, codecs="PCMU", encryption=None, ice=False):
        Baresip._count += 1
        self.lab, self.home, self.mac, self.hertz = lab, home, mac, hertz
        self.address = lab.phone_address(home, number)
        self.name = f"baresip-{mac}"
        self.folder = f"{lab.folder}/{self.name}"
        self.control_port = 4440 + Baresip._count
        self.events = []
        self._token = 0
        self.codecs, self.encryption, self.ice = codecs, encryption, ice
        os.makedirs(self.folder, exist_ok=True)
        self._write(switch)
        lab.opened.append(self)

    def _write(self, switch):
        cert, key = self.lab.pki.phone(self.mac)
        with open(f"{self.folder}/client.pem", "w") as out:
            for part in (key, cert):
                with open(part) as f:
                    out.write(f.read())
        n = Baresip._count
        modules = ([self.encryption.partition("-")[0]] if self.encryption else []) + (["ice"] if self.ice else [])
        more = "".join(f"module {name}.so\n" for name in modules)
        with open(f"{self.folder}/config", "w") as out:
            out.write((CONFIG + more).format(address=self.address, sip_port=5060 + 2 * n, folder=self.folder, roots=self.lab.edge_roots, number=n,
                                    rtp_low=20000 + 100 * n, rtp_high=20098 + 100 * n, control_port=self.control_port))
        with open(f"{self.folder}/uuid", "w") as out:
            out.write(f"00000000-0000-1000-8000-{self.mac}")
        host, port = self.lab.edge
        mediaenc = (f";mediaenc={self.encryption}" if self.encryption else "") + (";medianat=ice" if self.ice else "")
        with open(f"{self.folder}/accounts", "w") as out:
            out.write(f'<sip:anonymous@{switch};transport=tls>;auth_pass=none;outbound="sip:{host}:{port};transport=tls";regint=3600;answermode=manual;audio_codecs={self.codecs}{mediaenc}\n')
        open(f"{self.folder}/contacts", "w").close()
        with wave.open(f"{self.folder}/tone.wav", "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(rtp.RATE)
            samples = [rtp.LINEAR[b] for b in rtp.tone(self.hertz)] * 60
            out.writeframes(struct.pack(f"<{len(samples)}h", *samples))

    def start(self):
        self.proc = Proc(self.lab.net, self.home, self.name, self.lab.folder, ["baresip", "-f", self.folder, "-s"], cwd=self.folder)
        self.control = until(f"{self.name} opens its control port", self._dial, 6)
        threading.Thread(target=self._read, daemon=True).start()
        return self

    def _dial(self):
        s = self.lab.net.socket(self.home, self.address)
        try:
            s.connect((self.address, self.control_port))
            return s
        except OSError:
            s.close()
            return None

    def _read(self):
        data = b""
        while True:
            try:
                more = self.control.recv(65536)
            except OSError:
                return
            if not more:
                return
            data += more
            while b":" in data:
                length, _, rest = data.partition(b":")
                if len(rest) < int(length) + 1:
                    break
                text, data = rest[:int(length)], rest[int(length) + 1:]
                try:
                    self.events.append(json.loads(text))
                except ValueError:
                    pass

    def command(self, name, params=""):
        self._token += 1
        text = json.dumps({"command": name, "params": params, "token": str(self._token)}).encode()
        self.control.sendall(b"%d:%s," % (len(text), text))

    def seen(self, kind, since=0):
        return [e for e in self.events[since:] if e.get("event") and e.get("type") == kind]

    def wait(self, kind, seconds=8.0, since=0):
        return until(f"{self.name} reports {kind}", lambda: self.seen(kind, since), seconds)[-1]

    def registered(self, seconds=8.0):
        self.proc.wait_for(" binding", seconds)  # the event may come before the control port is open
        return self

    def ring_count(self):
        return len(self.seen("CALL_INCOMING"))

    def recording(self, direction):
        """Samples of the newest recording: `dec` is what was heard, `enc` what was said."""
        files = [f for f in os.listdir(self.folder) if f.endswith(f"-{direction}.wav")]
        if not files:
            return []
        newest = max(files, key=lambda f: os.path.getmtime(f"{self.folder}/{f}"))
        with open(f"{self.folder}/{newest}", "rb") as f:
            data = f.read()[44:]  # the header's length field is written only at the end of a call
        return list(struct.unpack(f"<{len(data) // 2}h", data[:len(data) // 2 * 2]))

    def close(self):
        if hasattr(self, "control"):
            self.control.close()
        if hasattr(self, "proc"):
            self.proc.stop(seconds=2)


