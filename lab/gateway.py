"""The gateway under test: its configuration from one template, its process in the namespace `gw`."""

import json
import os
import re
import signal
import time

from cases import Failed
from net import GW_IN4, GW_IN6, GW_OUT4, GW_OUT6, PEBBLE
from proc import Proc, until

TEMPLATE = '''state_dir = "{state}"

[net]
dns = ["{dns}"]
internal_domains = ["example.internal"]
[net.interfaces]
inside  = {{ addresses = ["{in4}", "{in6}"] }}
outside = {{ addresses = ["{out4}", "{out6}"] }}
[net.networks]
internet   = ["0.0.0.0/0", "::/0"]
hq         = ["10.0.1.10"]
vphones    = ["10.0.1.50-10.0.1.51"]
extra      = ["10.0.1.10"{extra}]
appliances = ["@hq", "@vphones", "@extra"]

{acme}
[certificates.inside]
import = "{pki}/gateway-inside-import.pem"

[trust.authorized]
bundles = [{bundles}]
crls = []

[[sip.ports]]
name = "phones"
interface = "outside"
port = 5061
transport = "tls"
allow_from = "internet"
certificate = "outside"
require_client_cert = true
trust = "authorized"
tls = "1.2+"
[[sip.ports]]
name = "switches"
interface = "inside"
port = 5061
transport = "tls"
allow_from = "appliances"
certificate = "inside"
require_client_cert = true
trust = "authorized"

[sip]
shards = {shards}
inside_networks = "appliances"
uri_encoding = "keep-username"
user_matching = "username"
preloaded_routes = "remove"
[sip.inside]
transport = "tls"
port = 5061
certificate = "inside"
trust = "authorized"
verify = "chain"
connections = "{connections}"
[sip.tag_routing]
enabled = {tags}
head = '{head}'
tail = '>'
tag_cert_binding = "log"

[media]
port_range = [16384, 32767]
ttl = {ttl}
source = "signalling-address"
sender_limit = "multiple"
max_senders = 10

[log]
format = "json"
level = "debug"

[http.files.mitelstartup]
path = "/startup.cfg"
content = """
{startup}"""
[http.file_groups]
locally-hosted = ["mitelstartup"]
[http.local_endpoints.normal-https]
interface = "outside"
port = 6586
protocol = "https"
certificate = "outside"
require_client_cert = true
trust = "authorized"
allow_from = "internet"
[http.local_endpoints.secure-tunnel]
interface = "outside"
port = 6587
protocol = "https"
certificate = "outside"
require_client_cert = true
trust = "authorized"
allow_from = "internet"
[http.server_groups]
hq = ["10.0.1.10:443"]
[http.remote_endpoints.hq-server]
group = "hq"
protocol = "https"
verify = "authorized"
server_name = "hq.example.internal"
certificate = "inside"
[http.repositories.mitel-repositories]
endpoint = "normal-https"
files = "locally-hosted"
remote = "hq-server"
methods = "DEFAULT"
[http.tunnels.mitel-tunnel]
endpoint = "secure-tunnel"
allow_to = "appliances"
ports = []
'''

IMPORTED = '''[certificates.outside]
import = "{pki}/gateway-outside-import.pem"'''

ACME = '''[acme.accounts.main]
contact = ["mailto:admin@mivc.example.com"]
[acme.services.pebble]
host = "{pebble}:14000"
directory = "dir"
trusted_ca = "pebble-ca"
[acme.domains.public]
service = "pebble"
account = "main"
challenge = "outside"
renewal_interval = 67
[trust.pebble-ca]
bundles = ["{pki}/hq.pem"]
[certificates.outside]
common_name = "mivc.example.com"
dns = ["mivc.example.com"]
key = "ecdsa-p256"
acme = "public"'''

HEAD = '+sip.instance="<urn:uuid:00000000-0000-1000-8000-'
STARTUP = "mivoice config server: 10.0.1.10\ntunnel port: 6587          # HTTP CONNECT tunnel\nbackup outbound proxy:\n"
PORTS = (5061, 6586, 6587)


class Gateway:
    """`farend run -c FILE`. `replace` maps text of the finished file to other text, for configurations that must be refused."""

    _count = 0

    def __init__(self, lab, start=True, **options):
        Gateway._count += 1
        self.lab, self.options = lab, options
        self.folder = f"{lab.folder}/gw{Gateway._count}"
        os.makedirs(f"{self.folder}/state", exist_ok=True)
        self.config = f"{self.folder}/farend.toml"
        self.proc = None
        self.write()
        lab.opened.append(self)
        if start:
            self.start()

    def text(self, tags=True, ttl='"keep"', connections="per-phone", acme=False, bundles=("bundle.pem",), extra=(), head=HEAD, replace=()):
        pki = self.lab.pki.folder
        quoted = lambda items, prefix="": ", ".join(f'"{prefix}{i}"' for i in items)  # noqa: E731
        text = TEMPLATE.format(state=f"{self.folder}/state", dns=PEBBLE, in4=GW_IN4, in6=GW_IN6, out4=GW_OUT4, out6=GW_OUT6, pki=pki,
                               extra="".join(f', "{e}"' for e in extra), acme=(ACME if acme else IMPORTED).format(pki=pki, pebble=PEBBLE), bundles=quoted(bundles, f"{pki}/"),
                               shards=self.lab.shards, connections=connections, tags=str(tags).lower(), head=head, ttl=ttl, startup=STARTUP)
        for old, new in replace:
            if old not in text:
                raise ValueError(f"the template has no {old!r}")
            text = text.replace(old, new)
        return text

    def write(self, **changes):
        self.options = {**self.options, **changes}
        with open(self.config, "w") as out:
            out.write(self.text(**self.options))

    def start(self, seconds=10, limit=None):
        """`limit`: how many descriptors it may have."""
        command = [*(["prlimit", f"--nofile={limit}"] if limit else []), self.lab.farend, "run", "-c", self.config]
        self.proc = Proc(self.lab.net, "gw", os.path.basename(self.folder), self.lab.folder, command, cwd=self.folder, env={"RUST_BACKTRACE": "1"})
        until("the gateway listens on 5061, 6586 and 6587", self._up, seconds)
        return self

    def _up(self):
        if not self.proc.running():
            raise RuntimeError(f"farend ended with {self.proc.proc.returncode}: …{self.proc.text()[-1500:]}")
        return set(PORTS) <= self.listening()

    def listening(self):
        """TCP ports on which somebody listens in the gateway's namespace."""
        lines = self.lab.net.run("gw", "ss", "-Hlnt").stdout.splitlines()
        return {int(line.split()[3].rsplit(":", 1)[1]) for line in lines}

    def held(self):
        """Open descriptors and resident memory in MiB (`ip netns exec` becomes the gateway: its id is ours)."""
        pid = self.proc.pid
        with open(f"/proc/{pid}/status") as status:
            memory = int(re.search(r"VmRSS:\s+(\d+)", status.read()).group(1)) // 1024
        return len(os.listdir(f"/proc/{pid}/fd")), memory

    def peers(self, port=5061):
        """Far ends of the established connections of that port."""
        lines = self.lab.net.run("gw", "ss", "-Hnt", "state", "established", f"( sport = :{port} )").stdout.splitlines()
        return {line.split()[3] for line in lines}

    def events(self, message, since=0):
        """The log lines with this message, as dictionaries; `since` is a place in the log, `proc.size()` of before."""
        time.sleep(0.3)  # the log is written by a thread of its own
        found = []
        for line in self.proc.text(since).splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if event.get("message") == message:
                found.append(event)
        return found

    def check(self):
        return self.lab.net.run("gw", self.lab.farend, "check", self.config, check=False)

    def reload(self, **changes):
        """Write the changed file and send SIGHUP."""
        self.write(**changes)
        self.proc.send(signal.SIGHUP)

    def stop(self):
        if self.proc:
            code, said = self.proc.stop(seconds=8), self.proc.text()
            self.proc = None
            if code or "panicked" in said:
                raise Failed(f"the gateway ended with {code} after SIGTERM{', having panicked' if 'panicked' in said else ''}")

    close = stop
