"""One run: folder, namespaces, certificates, the servers that every case shares, and what a case opened."""

import os
import shutil
import tempfile
import threading
import time

import servers
from net import GW_OUT4, GW_OUT6, HOME4, HOME6, HOMES4, KAMAILIO, Net
from pki import Pki


class Lab:
    def __init__(self, farend=None, direct=False, shards=0):
        self.farend, self.direct, self.shards = farend, direct, shards
        self.folder = tempfile.mkdtemp(prefix="farend-lab-")
        os.chmod(self.folder, 0o755)
        self.net = Net(f"fl{os.getpid()}")
        self.port_lock = threading.Lock()
        self.opened = []  # what the running case opened, closed after it in reverse order
        self.servers = []
        self.started = time.monotonic()

    def up(self):
        self.net.up()
        self.pki = Pki(f"{self.folder}/pki")
        self.kamailio = servers.Kamailio(self)
        self.servers.append(self.kamailio)
        self.nginx = self._server(servers.Nginx)
        self._server(servers.Dns)
        self.cas = self._server(servers.CasStub)
        if self.direct:
            self.net.direct(True)
            self.edge, self.edge6, self.edge_roots = (KAMAILIO, 5061), None, self.pki.path("hq.pem")
        else:
            self.edge, self.edge6, self.edge_roots = (GW_OUT4, 5061), (GW_OUT6, 5061), self.pki.path("public.pem")

    def _server(self, make, *args, **more):
        server = make(self, *args, **more)
        self.servers.append(server)
        return server

    def pebble(self):
        """Started when the first case asks for it."""
        for server in self.servers:
            if isinstance(server, servers.Pebble):
                return server
        return self._server(servers.Pebble, GW_OUT4)

    def phone_address(self, home, number, family=4):
        return HOMES4.get(home, HOME4).format(number) if family == 4 else HOME6[home].format(number)

    def stamp(self):
        return f"{time.monotonic() - self.started:9.3f}"

    def begin(self):
        """A case starts with an empty switch."""
        self.kamailio.restart(self.direct)

    def end(self):
        """Closes what the case opened; returns what went wrong with that."""
        problems = []
        for thing in reversed(self.opened):
            try:
                thing.close()
            except Exception as problem:  # a case that failed may leave half-made things
                problems.append(f"{thing.__class__.__name__}: {problem}")
        self.opened = []
        return problems

    def down(self, keep):
        self.end()
        for server in reversed(self.servers):
            server.stop()
        self.net.down()
        if keep:
            print(f"logs: {self.folder}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)
