"""Ways between phones and gateway that only some cases need: each is made by a case and is gone after it.

    DoubleNat     a second router, 192.168.1.220, in home2, with the phones of `inner` behind it
    SymmetricNat  the router of a home chooses another source port for every destination
    OneToOneNat   the gateway has 192.168.0.112 and its router translates 203.0.113.10 to it, both ways
    Chain         routers in a row between a host and the gateway
"""

from itertools import pairwise

from net import GW_OUT4, HOME4, HOME6, HOMES4, KAMAILIO

DMZ4 = "192.168.0.112"


class Namespaces:
    """Namespaces that are closed with the case."""

    def __init__(self, lab):
        self.net, self.made = lab.net, []
        lab.opened.append(self)

    def add(self, *names):
        self.net.batch([f"netns add {self.net.name(n)}" for n in names])
        self.made += names

    def close(self):
        self.net.batch([f"netns del {self.net.name(n)}" for n in self.made])


class DoubleNat(Namespaces):
    """home2's own namespace does what the inner router does; its phones can't reach `inner` past the translation."""

    WAN, INNER = HOME4.format(220), HOMES4["inner"]

    def __init__(self, lab, hosts=(10, 7)):
        super().__init__(lab)
        net = self.net
        self.add("inner")
        net.wire("inner", "eth0", "home2", "inner")
        net.ip("inner", "link", "set", "lo", "up")
        net.address("inner", "eth0", *(f"{self.INNER.format(n)}/24" for n in hosts))
        net.address("home2", "inner", f"{self.INNER.format(1)}/24")
        net.ip("home2", "address", "add", f"{self.WAN}/24", "dev", "eth0")
        net.ip("inner", "route", "add", "default", "via", self.INNER.format(1))
        net.sysctl("home2", "net.ipv4.ip_forward=1")
        net.nft("home2", f"""table ip double {{
            chain post {{ type nat hook postrouting priority 100; iifname "inner" oifname "eth0" snat to {self.WAN}; }}
            chain forward {{ type filter hook forward priority 0; iifname "eth0" ct state established,related accept; iifname "eth0" drop; }}
            chain out {{ type filter hook output priority 0; oifname "inner" ip daddr {self.INNER.format(0)}/24 drop; }}
        }}""")

    def close(self):
        try:
            self.net.ip("home2", "address", "del", f"{self.WAN}/24", "dev", "eth0")
            self.net.sysctl("home2", "net.ipv4.ip_forward=0")
            self.net.nft("home2", "delete table ip double")
        finally:
            super().close()


class SymmetricNat:
    def __init__(self, lab, nat):
        self.net, self.nat = lab.net, nat
        lab.opened.append(self)
        self._rule("masquerade random,fully-random")

    def _rule(self, how):
        self.net.nft(self.nat, f'flush chain inet home post\nadd rule inet home post meta nfproto ipv4 oifname "wan" {how}')

    def close(self):
        self._rule("masquerade")


class OneToOneNat:
    def __init__(self, lab):
        self.net = lab.net
        lab.opened.append(self)
        self.net.ip("gw", "address", "del", f"{GW_OUT4}/24", "dev", "eth1")
        self.net.address("gw", "eth1", f"{DMZ4}/24")
        self.net.address("outside", "gw", "192.168.0.1/24")
        self.net.ip("gw", "route", "replace", "default", "via", "192.168.0.1")
        self.net.nft("outside", f"""table ip dmz {{
            chain pre {{ type nat hook prerouting priority -100; ip daddr {GW_OUT4} dnat to {DMZ4}; }}
            chain post {{ type nat hook postrouting priority 100; ip saddr {DMZ4} snat to {GW_OUT4}; }}
        }}""")

    def close(self):
        self.net.ip("outside", "address", "del", "192.168.0.1/24", "dev", "gw")
        self.net.ip("gw", "address", "del", f"{DMZ4}/24", "dev", "eth1")
        self.net.address("gw", "eth1", f"{GW_OUT4}/24")
        self.net.ip("gw", "route", "replace", "default", "via", "203.0.113.1")
        self.net.nft("outside", "delete table ip dmz")


class Chain(Namespaces):
    """`host` stands `routers` hops from the gateway: the last of them is `near` (`outside` or `inside`), the others are made here."""

    def __init__(self, lab, host, near, routers):
        super().__init__(lab)
        self.near, net = near, lab.net
        number = {"outside": 201, "inside": 202}[near]
        self.ip4, self.ip6 = f"10.{number}.255.2", f"fd00:{number}:ff::2"
        HOMES4[host], HOME6[host] = self.ip4, self.ip6
        path = [host, *(f"{host}{n}" for n in range(1, routers)), near]
        self.add(*path[:-1])
        # each link is `fore`, towards the gateway, at one end and `back` at the other; `near` calls its end as the host
        links = [("fore", "back")] * (len(path) - 2) + [("fore", host)]
        net.batch(f"link add {fore} netns {net.name(a)} type veth peer name {back} netns {net.name(b)}" for (a, b), (fore, back) in zip(pairwise(path), links, strict=True))
        for n, name in enumerate(path):
            rows = [*self._towards_host(number, n, links[n - 1][1])] if n else [f"address add {self.ip4}/32 dev lo", f"address add {self.ip6}/128 dev lo nodad"]
            net.batch([*rows, *(self._towards_gateway(number, n) if name != near else ())], name)
            if n:
                net.forwarding(name, True)
        if near == "inside":
            net.ip("gw", "route", "add", self.ip4, "via", KAMAILIO)
            net.ip("gw", "route", "add", self.ip6, "via", "fd00:10:1::51")

    def _towards_host(self, number, n, interface):
        yield from ("link set lo up", f"address add 10.{number}.{n}.1/31 dev {interface}", f"address add fd00:{number}:{n}::1/127 dev {interface} nodad", f"link set {interface} up",
                    f"route add {self.ip4}/32 via 10.{number}.{n}.0", f"route add {self.ip6}/128 via fd00:{number}:{n}::")

    def _towards_gateway(self, number, n):
        yield from ("link set lo up", f"address add 10.{number}.{n + 1}.0/31 dev fore", f"address add fd00:{number}:{n + 1}::/127 dev fore nodad", "link set fore up",
                    f"route add default via 10.{number}.{n + 1}.1 src {self.ip4}" if not n else f"route add default via 10.{number}.{n + 1}.1",
                    f"route add ::/0 via fd00:{number}:{n + 1}::1" + (f" src {self.ip6}" if not n else ""))

    def close(self):
        try:
            if self.near == "inside":
                self.net.ip("gw", "route", "del", self.ip4)
                self.net.ip("gw", "route", "del", self.ip6)
                self.net.forwarding("inside", False)
        finally:
            super().close()
