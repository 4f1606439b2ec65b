"""The certificates of a run, made with the openssl command line: who is who in the seed's section 6.

    makers.pem      root of the phone maker; phones/MAC.{pem,key} with CN = MAC
    hq.pem          root of the site; hq-server, kamailio, literal, gateway-inside, pebble
    public.pem      root of a public CA; gateway-outside (when ACME is not under test)
    stranger.pem    root nobody trusts; stranger-phone.{pem,key}
"""

import os
from concurrent.futures import ThreadPoolExecutor

from net import GW_IN4, GW_OUT4, GW_OUT6, HQ, KAMAILIO, LITERAL, PEBBLE, sh


class Pki:
    def __init__(self, folder):
        self.folder = folder
        os.makedirs(f"{folder}/phones", exist_ok=True)
        for root, name in (("makers", "Phone Maker Root"), ("hq", "HQ Root"), ("public", "Public Root"), ("stranger", "Stranger Root")):
            self._root(root, name)
        both = "serverAuth,clientAuth"
        self.issue("hq", "hq-server", "hq.example.internal", both, f"DNS:hq.example.internal,IP:{HQ}")
        self.issue("hq", "kamailio", "sip.example.internal", both, f"DNS:sip.example.internal,IP:{KAMAILIO}")
        self.issue("hq", "literal", "literal.example.internal", both, f"DNS:literal.example.internal,IP:{LITERAL}")
        self.issue("hq", "pebble", "pebble.example.internal", both, f"DNS:pebble.example.internal,IP:{PEBBLE}")
        self.issue("hq", "gateway-inside", "gw.example.internal", both, f"DNS:gw.example.internal,IP:{GW_IN4}", rsa=True)
        self.issue("public", "gateway-outside", "mivc.example.com", "serverAuth", f"DNS:mivc.example.com,IP:{GW_OUT4},IP:{GW_OUT6}", rsa=True)
        self.issue("stranger", "stranger-phone", "08000FEEEEEE", "clientAuth")
        # one file with key, leaf and chain, out of order, as the seed's hq_signed.crt
        self.join("gateway-inside-import.pem", "hq.pem", "gateway-inside.key", "gateway-inside.pem")
        self.join("gateway-outside-import.pem", "gateway-outside.pem", "gateway-outside.key", "public.pem")
        self.join("bundle.pem", "makers.pem", "hq.pem")
        self.join("bundle-makers.pem", "makers.pem")
        self.join("bundle-hq.pem", "hq.pem")

    def path(self, name):
        return f"{self.folder}/{name}"

    def join(self, name, *parts):
        with open(self.path(name), "w") as out:
            for part in parts:
                with open(self.path(part)) as one:
                    out.write(one.read())

    def phone(self, mac):
        """Certificate and key paths of the phone with this MAC; made on first use."""
        if not os.path.exists(self.path(f"phones/{mac}.pem")):
            self.issue("makers", f"phones/{mac}", mac, "clientAuth")
        return self.path(f"phones/{mac}.pem"), self.path(f"phones/{mac}.key")

    def certificate(self, root, name, common_name, *how):
        """A phone certificate with a serial number in the authority's book, so that it can be revoked. `how`: further arguments of `openssl ca`."""
        book = f"{self.folder}/{os.path.basename(root)}.ca"
        if not os.path.exists(f"{book}.cnf"):
            open(f"{book}.index", "w").close()
            with open(f"{book}.serial", "w") as out:
                out.write("1000\n")
            with open(f"{book}.cnf", "w") as out:
                out.write(f"[ca]\ndefault_ca=it\n[it]\ndatabase={book}.index\nserial={book}.serial\nnew_certs_dir={self.folder}\ndefault_md=sha256\n"
                          "policy=any\ndefault_days=800\ndefault_crl_days=30\nunique_subject=no\nx509_extensions=phone\ncrl_extensions=list\n"
                          "[any]\ncommonName=supplied\n[phone]\nbasicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth\n"
                          "[list]\nauthorityKeyIdentifier=keyid\n")
        self._key(name, rsa=False)
        sh("openssl", "req", "-new", "-key", self.path(f"{name}.key"), "-subj", f"/CN={common_name}", "-out", self.path(f"{name}.csr"))
        span = [("-startdate" if h == "-not_before" else "-enddate" if h == "-not_after" else h) for h in how]
        sh("openssl", "ca", "-batch", "-config", f"{book}.cnf", "-cert", self.path(f"{root}.pem"), "-keyfile", self.path(f"{root}.key"), *span, "-notext",
           "-in", self.path(f"{name}.csr"), "-out", self.path(f"{name}.pem"))

    def revoke(self, root, certificate, crl):
        config = f"{self.folder}/{root}.ca.cnf"
        ca = ["openssl", "ca", "-config", config, "-cert", self.path(f"{root}.pem"), "-keyfile", self.path(f"{root}.key")]
        sh(*ca, "-revoke", self.path(certificate))
        sh(*ca, "-gencrl", "-out", self.path(crl))

    def crowd(self, macs):
        """Certificates of many phones, four at a time and with one command each."""
        def make(mac):
            sh("openssl", "req", "-x509", "-newkey", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", self.path(f"phones/{mac}.key"),
               "-CA", self.path("makers.pem"), "-CAkey", self.path("makers.key"), "-subj", f"/CN={mac}", "-days", "825", "-addext", "basicConstraints=critical,CA:FALSE",
               "-out", self.path(f"phones/{mac}.pem"))
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(make, macs))

    def _key(self, name, rsa):
        how = ["RSA", "-pkeyopt", "rsa_keygen_bits:2048"] if rsa else ["EC", "-pkeyopt", "ec_paramgen_curve:P-256"]
        sh("openssl", "genpkey", "-algorithm", *how, "-out", self.path(f"{name}.key"))

    def _root(self, name, common_name):
        self._key(name, rsa=False)
        sh("openssl", "req", "-x509", "-new", "-key", self.path(f"{name}.key"), "-sha256", "-days", "3650", "-subj", f"/O=Farend lab/CN={common_name}",
           "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-out", self.path(f"{name}.pem"))

    def issue(self, root, name, common_name, usage, names=None, rsa=False):
        self._key(name, rsa)
        request = self.path(f"{name}.csr")
        sh("openssl", "req", "-new", "-key", self.path(f"{name}.key"), "-subj", f"/CN={common_name}", "-out", request)
        extensions = f"basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature{',keyEncipherment' if rsa else ''}\nextendedKeyUsage={usage}\n"
        extensions += "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
        if names:
            extensions += f"subjectAltName={names}\n"
        with open(self.path(f"{name}.ext"), "w") as out:
            out.write(extensions)
        sh("openssl", "x509", "-req", "-in", request, "-CA", self.path(f"{root}.pem"), "-CAkey", self.path(f"{root}.key"), "-CAcreateserial",
           "-sha256", "-days", "825", "-out", self.path(f"{name}.pem"), "-extfile", self.path(f"{name}.ext"))
