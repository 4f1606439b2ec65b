"""The HTTP services with curl: files, checksum, HQ behind them, CONNECT tunnels, and who is turned away."""

from cases import case, check, same
from gateway import STARTUP, Gateway
from net import FORBIDDEN, GW_IN4, GW_OUT4, HQ
from servers import CasStub

MAC = "08000FA00001"


class Curl:
    """curl in home1, as a phone; `certificate` = None sends none."""

    def __init__(self, lab, certificate=MAC, roots=None):
        self.lab = lab
        self.roots = roots or lab.pki.path("public.pem")
        self.pair = lab.pki.phone(certificate) if certificate else None

    def get(self, path, *more, port=6586):
        client = ["--cert", self.pair[0], "--key", self.pair[1]] if self.pair else []
        return self._run("--cacert", self.roots, *client, *more, f"https://{GW_OUT4}:{port}{path}")

    def tunnel(self, url, *more):
        client = ["--proxy-cert", self.pair[0], "--proxy-key", self.pair[1]] if self.pair else []
        return self._run("--proxytunnel", "--proxy", f"https://{GW_OUT4}:6587", "--proxy-cacert", self.roots, *client, "--cacert", self.lab.pki.path("hq.pem"), *more, url)

    def _run(self, *args):
        """(exit code, status of the answer, status of the CONNECT, body)"""
        out = self.lab.net.run("home1", "curl", "-sS", "--max-time", "10", "--interface", "192.168.1.7", "-w", "\n%{http_code} %{http_connect}", *args, check=False)
        body, _, codes = out.stdout.rpartition("\n")
        status, connect = (int(c) for c in codes.split())
        return out.returncode, status, connect, body


@case("http")
def http(lab):
    """startup.cfg, its checksum, version.txt from nginx, a firmware file, CONNECT to the CAS"""
    Gateway(lab)
    return boot(lab)


def boot(lab):
    """What a phone fetches before it registers."""
    curl = Curl(lab)
    code, status, _, body = curl.get("/startup.cfg")
    same((code, status, body.strip()), (0, 200, STARTUP.strip()), "startup.cfg")
    folder = f"{lab.folder}/curl"
    lab.net.run("home1", "mkdir", "-p", folder)
    same(curl.get("/startup.cfg", "-o", f"{folder}/startup.cfg")[1], 200, "startup.cfg to a file")
    same(curl.get("/startup.cfg.sha256", "-o", f"{folder}/startup.cfg.sha256")[1], 200, "startup.cfg.sha256")
    done = lab.net.run("home1", "sh", "-c", f"cd {folder} && sha256sum -c startup.cfg.sha256", check=False)
    same((done.returncode, done.stdout), (0, "startup.cfg: OK\n"), f"sha256sum -c {done.stderr.strip()}")
    code, status, _, body = curl.get("/version.txt")
    same((code, status, body), (0, 200, lab.nginx.VERSION), "version.txt from HQ")
    same(curl.get("/firmware/6930.st", "-o", f"{folder}/6930.st")[1], 200, "a firmware file of 1 MiB")
    with open(f"{folder}/6930.st", "rb") as got, open(f"{lab.folder}/hq/firmware/6930.st", "rb") as had:
        check(got.read() == had.read(), "the firmware file arrived unchanged")
    same(curl.get("/nothing.txt")[1], 404, "a file nobody has")
    code, status, connect, body = curl.tunnel(f"https://{HQ}:5448/hello")
    same((code, connect, status, body), (0, 200, 200, "cas: GET /hello HTTP/1.1\n"), "CONNECT to the CAS")
    return "startup.cfg, sha256sum -c OK, version.txt and 1 MiB from nginx, CONNECT to 10.0.1.10:5448 200"


@case("http-refused")
def refused(lab):
    """no or a stranger's certificate: the handshake fails; CONNECT to what is not allowed: 403 and no packet"""
    Gateway(lab)
    trap = CasStub(lab, FORBIDDEN, 443, tls=False)
    try:
        for port in (6586, 6587):
            code, status, _, _ = Curl(lab, None).get("/startup.cfg", port=port)
            check(code in (35, 52, 55, 56) and status == 0, f"port {port} without a certificate: curl {code}, HTTP {status}")
        stranger = Curl(lab)
        stranger.pair = lab.pki.path("stranger-phone.pem"), lab.pki.path("stranger-phone.key")
        code, status, _, _ = stranger.get("/startup.cfg")
        check(code in (35, 52, 55, 56) and status == 0, f"a certificate nobody trusts: curl {code}, HTTP {status}")
        code, _, connect, _ = Curl(lab, None).tunnel(f"https://{HQ}:5448/")
        check(code != 0 and connect == 0, f"CONNECT without a certificate: curl {code}, CONNECT {connect}")
        curl = Curl(lab)
        targets = [f"{FORBIDDEN}:443", "forbidden.example.internal:443", f"{GW_IN4}:5061", "127.0.0.1:22", "169.254.169.254:80", f"{GW_OUT4}:6586", "[::1]:443"]
        for target in targets:
            _, _, connect, _ = curl.tunnel(f"https://{target}/")
            same(connect, 403, f"CONNECT {target}")
        same(trap.connections, 0, "connections to the forbidden server")
        same(curl.get("/startup.cfg", port=6587)[1], 405, "GET on the tunnel port")
        status = curl.get("/startup.cfg", "-X", "POST")[1]
        same(status, 405, "POST on the repository")
        return f"no certificate, stranger's certificate: handshake fails; CONNECT to {len(targets)} forbidden targets 403, 0 connections there; GET on 6587 and POST on 6586 405"
    finally:
        trap.stop()
