"""Network namespaces: two homes behind NAT, an Internet segment, the gateway host, the inside network.

    home1 -- nat1 --\\
                     outside -- gw -- inside
    home2 -- nat2 --/

Both homes use 192.168.1.0/24 on purpose: phones of different homes show the same private address.
Every namespace carries the prefix of the run; deleting the namespaces removes every link and rule.
"""

import ctypes
import os
import socket
import subprocess
import threading
from contextlib import contextmanager

HOME4 = "192.168.1.{}"  # both homes
HOMES4 = {"inner": "192.168.2.{}"}  # other namespaces with phones
HOME6 = {"home1": "2001:db8:a1::{:x}", "home2": "2001:db8:a2::{:x}"}
NAT4 = {"home1": "198.51.100.2", "home2": "198.51.100.6"}
GW_OUT4, GW_OUT6 = "203.0.113.10", "2001:db8:ff::10"
GW_IN4, GW_IN6 = "10.0.1.2", "fd00:10:1::2"
KAMAILIO, LITERAL, HQ, FORBIDDEN, PEBBLE = "10.0.1.50", "10.0.1.51", "10.0.1.10", "10.0.1.99", "10.0.1.200"
CALLER = "10.0.1.60"  # the script that asks Kamailio for a call
PHONE_HOSTS = (10, 7, 8, 9, 11, 12)  # last octet (and last hextet) of the phones of a home; 10, the primary, is the softphones'
HOPS = 2  # routers between a phone and the gateway: nat, outside
GW_DEFAULT_TTL = 99  # a relay that forgets to set the TTL shows this value

NAMES = ("home1", "home2", "nat1", "nat2", "outside", "gw", "inside")
CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_thread = threading.local()


def sh(*argv, check=True, text=None):
    """Run a command without a shell; its output is in the error when it fails."""
    done = subprocess.run([str(a) for a in argv], input=text, capture_output=True, text=True)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(map(str, argv))}: exit {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


class Net:
    """The namespaces of one run."""

    def __init__(self, prefix):
        self.prefix = prefix
        self.made = []

    def name(self, short):
        return f"{self.prefix}-{short}"

    def up(self):
        for short in NAMES:
            sh("ip", "netns", "add", self.name(short))
            self.made.append(short)
            self.ip(short, "link", "set", "lo", "up")
            self.sysctl(short, "net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0")
        self._home("home1", "nat1", 0)
        self._home("home2", "nat2", 4)
        self._gateway()

    def more_homes(self, count, hosts):
        """Homes 3 to `count`, IPv4 only, and in every home these hosts. They stay until the end of the run."""
        for number in range(3, count + 1):
            home, nat, side = f"home{number}", f"nat{number}", 4 * (number - 1)
            if home in self.made:
                continue
            for short in (home, nat):
                sh("ip", "netns", "add", self.name(short))
                self.made.append(short)
                self.ip(short, "link", "set", "lo", "up")
                self.sysctl(short, "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
            NAT4[home] = f"198.51.100.{side + 2}"
            self._home(home, nat, side)
        for number in range(1, count + 1):
            for host in hosts:
                self.ip(f"home{number}", "address", "replace", f"{HOME4.format(host)}/24", "dev", "eth0")

    def more_switches(self, *addresses):
        for address in addresses:
            self.ip("inside", "address", "replace", f"{address}/24", "dev", "eth0")

    def down(self):
        for short in self.made:
            sh("ip", "netns", "del", self.name(short), check=False)
        self.made = []

    def wire(self, a, a_if, b, b_if):
        sh("ip", "link", "add", a_if, "netns", self.name(a), "type", "veth", "peer", "name", b_if, "netns", self.name(b))
        self.ip(a, "link", "set", a_if, "up")
        self.ip(b, "link", "set", b_if, "up")

    def address(self, short, interface, *addresses):
        for address in addresses:
            extra = ["nodad"] if ":" in address else []
            self.ip(short, "address", "add", address, "dev", interface, *extra)

    def _home(self, home, nat, side):
        self.wire(home, "eth0", nat, "lan")
        self.wire(nat, "wan", "outside", nat)
        self.address(home, "eth0", *(f"{HOME4.format(n)}/24" for n in PHONE_HOSTS))
        self.address(nat, "lan", f"{HOME4.format(1)}/24")
        self.address(nat, "wan", f"198.51.100.{side + 2}/30")
        self.address("outside", nat, f"198.51.100.{side + 1}/30")
        self.ip(home, "route", "add", "default", "via", HOME4.format(1))
        self.ip(nat, "route", "add", "default", "via", f"198.51.100.{side + 1}")
        self.sysctl(nat, "net.ipv4.ip_forward=1")
        if home in HOME6:
            self._home6(home, nat, side)
        self.nft(nat, NAT_RULES)
        # a closed connection leaves its port quickly, so that another phone can take it over
        self.sysctl(nat, "net.netfilter.nf_conntrack_tcp_timeout_close=1", "net.netfilter.nf_conntrack_tcp_timeout_time_wait=1")

    def _home6(self, home, nat, side):
        prefix = HOME6[home]
        self.address(home, "eth0", *(f"{prefix.format(n)}/64" for n in PHONE_HOSTS))
        self.address(nat, "lan", f"{prefix.format(1)}/64")
        self.address(nat, "wan", f"2001:db8:{side:x}::2/64")
        self.address("outside", nat, f"2001:db8:{side:x}::1/64")
        self.ip(home, "-6", "route", "add", "default", "via", prefix.format(1))
        self.ip(nat, "-6", "route", "add", "default", "via", f"2001:db8:{side:x}::1")
        self.ip("outside", "-6", "route", "add", prefix.format(0).removesuffix("0") + "/64", "via", f"2001:db8:{side:x}::2")
        self.sysctl(nat, "net.ipv6.conf.all.forwarding=1")

    def _gateway(self):
        self.wire("gw", "eth1", "outside", "gw")
        self.wire("gw", "eth0", "inside", "eth0")
        self.address("outside", "gw", "203.0.113.1/24", "2001:db8:ff::1/64")
        self.address("gw", "eth1", f"{GW_OUT4}/24", f"{GW_OUT6}/64")
        self.address("gw", "eth0", f"{GW_IN4}/24", f"{GW_IN6}/64")
        self.address("inside", "eth0", *(f"{a}/24" for a in (HQ, KAMAILIO, LITERAL, CALLER, FORBIDDEN, PEBBLE)), "fd00:10:1::51/64")
        self.ip("gw", "route", "add", "default", "via", "203.0.113.1")
        self.ip("gw", "-6", "route", "add", "default", "via", "2001:db8:ff::1")
        self.ip("inside", "route", "add", "default", "via", GW_IN4)
        self.sysctl("outside", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        self.sysctl("gw", f"net.ipv4.ip_default_ttl={GW_DEFAULT_TTL}",
                    *(f"net.ipv6.conf.{i}.hop_limit={GW_DEFAULT_TTL}" for i in ("all", "default", "eth0", "eth1")))

    def direct(self, on):
        """Self-check mode: the gateway host is a plain router, phones reach the inside without a gateway."""
        self.sysctl("gw", f"net.ipv4.ip_forward={int(on)}")
        self.ip("outside", "route", "replace" if on else "del", "10.0.1.0/24", "via", GW_OUT4)

    def ip(self, short, *args):
        return sh("ip", "-n", self.name(short), *args)

    def batch(self, commands, short=None):
        """Many `ip` commands at once, of one namespace or of none."""
        where = ["-n", self.name(short)] if short else []
        sh("ip", *where, "-batch", "-", text="".join(f"{c}\n" for c in commands))

    def forwarding(self, short, on):
        with self.inside_of(short):
            for what in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
                with open(f"/proc/sys/net/{what}", "w") as setting:
                    setting.write(str(int(on)))

    def nft(self, short, rules):
        sh("ip", "netns", "exec", self.name(short), "nft", "-f", "-", text=rules)

    def sysctl(self, short, *settings):
        sh("ip", "netns", "exec", self.name(short), "sysctl", "-qw", *settings)

    def argv(self, short, *command):
        """The command line that runs `command` inside a namespace."""
        return ["ip", "netns", "exec", self.name(short), *map(str, command)]

    def run(self, short, *command, check=True, timeout=30, text=None):
        done = subprocess.run(self.argv(short, *command), capture_output=True, text=True, timeout=timeout, input=text)
        if check and done.returncode:
            raise RuntimeError(f"{short}: {' '.join(map(str, command))}: exit {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
        return done

    @contextmanager
    def inside_of(self, short):
        """This thread is in the namespace; sockets made here stay there."""
        with open("/proc/thread-self/ns/net") as home, open(f"/run/netns/{self.name(short)}") as there:
            _setns(there.fileno())
            try:
                yield
            finally:
                _setns(home.fileno())

    def socket(self, short, address, kind=socket.SOCK_STREAM, port=0):
        """A socket of that namespace, bound to `address`."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with self.inside_of(short):
            s = socket.socket(family, kind)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((address, port))
        return s


def _setns(fd):
    if _libc.setns(fd, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns: " + os.strerror(ctypes.get_errno()))


NAT_RULES = """
table inet home {
  chain post {
    type nat hook postrouting priority 100; policy accept;
    meta nfproto ipv4 oifname "wan" masquerade
  }
  chain forward {
    type filter hook forward priority 0; policy accept;
    iifname "wan" ct state established,related accept
    iifname "wan" drop
  }
  chain cut {
    type filter hook forward priority -10; policy accept;
  }
}
"""
