"""The programs of the inside that none of us wrote: Kamailio, nginx, dnsmasq, pebble; and a small CAS stub."""

import os
import re
import socket
import ssl
import threading

from net import HQ, KAMAILIO, PEBBLE
from proc import Proc, until

HERE = os.path.dirname(os.path.abspath(__file__))


def fill(lab, name, folder=None, replace=()):
    """A template of conf/ with @RUN@ and @PKI@ filled in, in the folder of the run."""
    folder = folder or lab.folder
    with open(f"{HERE}/conf/{name}") as f:
        text = f.read().replace("@RUN@", folder).replace("@PKI@", lab.pki.folder)
    for old, new in replace:
        text = text.replace(old, new)
    path = f"{folder}/{name}"
    with open(path, "w") as f:
        f.write(text)
    return path


def listening(net, short, port, kind="t"):
    return bool(net.run(short, "ss", f"-Hln{kind}", f"sport = :{port}").stdout.strip())


class Kamailio:
    """A phone switch."""

    def __init__(self, lab, address=KAMAILIO):
        self.lab, self.address, self.memory = lab, address, 64  # MiB of shared memory
        self.folder = lab.folder if address == KAMAILIO else f"{lab.folder}/kamailio-{address}"
        os.makedirs(self.folder, exist_ok=True)
        self.socket = f"{self.folder}/kamailio.sock"
        self.proc = None

    def start(self, direct=False, change=()):
        """`change` replaces text of the configuration."""
        move = [*change, (KAMAILIO, self.address)]
        config = fill(self.lab, "kamailio.cfg", self.folder, move)
        fill(self.lab, "kamailio-tls.cfg", self.folder, move)
        define = ["-A", "DIRECT"] if direct else []
        command = ["/usr/sbin/kamailio", "-f", config, "-DD", "-E", "-m", str(self.memory), "-M", str(self.memory // 8), "-Y", self.folder, *define]
        self.proc = Proc(self.lab.net, "inside", "kamailio", self.folder, command)
        until(f"kamailio at {self.address} answers on its control socket", self._alive, 10)

    def _alive(self):
        if not self.proc.running():
            raise RuntimeError(f"kamailio ended: {self.proc.text()[-1500:]}")
        return os.path.exists(self.socket) and self.lab.net.run("inside", "ss", "-Hlnt", f"src {self.address}:5061").stdout.strip() and self.rpc("core.uptime", check=False)

    def stop(self):
        if self.proc:
            self.proc.stop()
            self.proc = None
        if os.path.exists(self.socket):
            os.unlink(self.socket)

    close = stop  # as something that a case opened

    def restart(self, direct=False, change=()):
        """An empty location."""
        self.stop()
        self.start(direct, change)

    def rpc(self, *command, check=True):
        return self.lab.net.run("inside", "kamcmd", "-s", f"unix:{self.socket}", *command, check=check).stdout

    def contacts(self):
        """The location: [(Contact URI, stored instance)] of every binding, sorted."""
        dump = self.rpc("ul.dump")
        addresses = re.findall(r"^\s*Address:\s*(.+)$", dump, re.M)
        instances = re.findall(r"^\s*Instance:\s*(.+)$", dump, re.M)
        return sorted(zip(addresses, instances, strict=True))

    def registered(self, since=0):
        """The last Contact URI that each instance registered with, by MAC, as the log says: kamcmd can't show many."""
        found = re.findall(r"lab: REGISTER <([^>]*)>.*?\+sip\.instance=\"<urn:uuid:[^>]*-([0-9A-Fa-f]{12})>", self.proc.text(since))
        return {mac.upper(): uri for uri, mac in found}


class Nginx:
    """HQ: version.txt and a firmware file."""

    VERSION = "6900.SIP=6.2.0.1012\n"

    def __init__(self, lab):
        os.makedirs(f"{lab.folder}/hq/firmware", exist_ok=True)
        with open(f"{lab.folder}/hq/version.txt", "w") as f:
            f.write(self.VERSION)
        with open(f"{lab.folder}/hq/firmware/6930.st", "wb") as f:
            f.write(bytes(range(256)) * 4096)
        self.proc = Proc(lab.net, "inside", "nginx", lab.folder, ["nginx", "-c", fill(lab, "nginx.conf"), "-p", lab.folder])
        self.access = f"{lab.folder}/nginx-access.log"
        until("nginx listens", lambda: listening(lab.net, "inside", 443), 5)

    def stop(self):
        self.proc.stop()


class Dns:
    def __init__(self, lab):
        self.proc = Proc(lab.net, "inside", "dnsmasq", lab.folder, ["dnsmasq", "-C", fill(lab, "dnsmasq.conf"), "--user=root", "--pid-file"])
        until("dnsmasq listens", lambda: listening(lab.net, "inside", 53, "u"), 5)

    def stop(self):
        self.proc.stop()


class Pebble:
    """Let's Encrypt's test server, with its own DNS that answers our outside address for every name."""

    URL = f"https://{PEBBLE}:14000/dir"

    def __init__(self, lab, address):
        self.lab = lab
        dns = ["pebble-challtestsrv", "-defaultIPv4", address, "-defaultIPv6", "", "-dns01", f"{PEBBLE}:8053", "-http01", "", "-https01", "",
               "-tlsalpn01", "", "-management", f"{PEBBLE}:8055"]
        self.dns = Proc(lab.net, "inside", "challtestsrv", lab.folder, dns)
        self.proc = Proc(lab.net, "inside", "pebble", lab.folder, ["pebble", "-strict", "-config", fill(lab, "pebble.json"), "-dnsserver", f"{PEBBLE}:8053"],
                         env={"PEBBLE_VA_NOSLEEP": "1"})
        until("pebble's name server listens", lambda: listening(lab.net, "inside", 8053, "u"), 10)
        until("pebble answers", lambda: "newOrder" in self.curl("/dir"), 10)

    def curl(self, path, port=14000):
        return self.lab.net.run("inside", "curl", "-s", "--cacert", self.lab.pki.path("hq.pem"), f"https://{PEBBLE}:{port}{path}", check=False).stdout

    def root(self):
        """The root that signs this run's certificates."""
        path = f"{self.lab.folder}/pebble-root.pem"
        with open(path, "w") as f:
            f.write(self.curl("/roots/0", port=15000))
        return path

    def stop(self):
        self.proc.stop()
        self.dns.stop()


class CasStub:
    """HTTPS on 10.0.1.10:5448 that answers every request with one line and echoes it; counts connections.

    The same class, plain, stands on the forbidden address: any connection there is a fault of the gateway.
    """

    def __init__(self, lab, address=HQ, port=5448, tls=True):
        self.connections = 0
        self.server = lab.net.socket("inside", address, port=port)
        self.server.listen(16)
        self.context = None
        if tls:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(lab.pki.path("hq-server.pem"), lab.pki.path("hq-server.key"))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                s, _ = self.server.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(s,), daemon=True).start()

    def _serve(self, s):
        try:
            s.settimeout(10)
            if self.context:
                s = self.context.wrap_socket(s, server_side=True)
            data = b""
            while b"\r\n\r\n" not in data:
                more = s.recv(65536)
                if not more:
                    return
                data += more
            line = data.split(b"\r\n", 1)[0]
            body = b"cas: " + line + b"\n"
            s.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        except OSError:
            pass
        finally:
            s.close()

    def stop(self):
        self.server.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept(), which otherwise keeps the port
        self.server.close()

