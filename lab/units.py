"""systemd itself in namespaces of its own, with the units of packaging/systemd as they are: what a service manager does to the two processes."""

import os
import shutil
import signal
import subprocess

from cases import Failed
from gateway import Gateway
from proc import Proc, until

PACKAGING = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "packaging", "systemd")
UNITS = ("farend.service", "farend-media.service")
# What default dependencies name, and a host has.
TARGETS = ("sysinit", "basic", "shutdown", "network-online", "multi-user")
SYSTEMD = "/lib/systemd/systemd"

# Nothing of the host is changed: every folder that is written to is a copy or empty, and goes with the namespace.
INSIDE = r'''set -e
mount --make-rprivate /
mount -t proc proc /proc
mkdir -p {work}/etc && cp -a /etc/. {work}/etc
mount -t tmpfs tmpfs /run
mkdir -p /run/lock /run/host-bin /run/systemd/system /run/etc
cp -a {work}/etc/. /run/etc && rm -r {work}/etc
mount --bind /run/etc /etc
rm -rf /etc/systemd/system/* /etc/farend
mount -t tmpfs tmpfs /var/lib
mount --bind /usr/bin /run/host-bin
mount -t tmpfs tmpfs /usr/bin
export PATH=/run/host-bin:/usr/sbin:/sbin
ln -s /run/host-bin/* /usr/bin/
rm -f /usr/bin/farend && cp {farend} /usr/bin/farend
if grep -q name=systemd /proc/self/cgroup; then
  mount -t tmpfs tmpfs /sys/fs/cgroup
  mkdir /sys/fs/cgroup/systemd
  mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
else
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
fi
grep -q ^farend: /etc/passwd || echo 'farend:x:64999:64999::/nonexistent:/usr/sbin/nologin' >> /etc/passwd
grep -q ^farend: /etc/group || echo 'farend:x:64999:' >> /etc/group
install -d -m 0750 -o root -g farend /etc/farend
cp -r {pki} /etc/farend/pki && chown -R root:farend /etc/farend/pki && chmod -R g+rX /etc/farend/pki
install -m 0640 -o root -g farend {config} /etc/farend/farend.toml
cp {work}/units/* /run/systemd/system/
for unit in {units}; do
  mkdir /run/systemd/system/$unit.d
  printf '[Service]\nStandardOutput=append:{work}/%s.log\nStandardError=inherit\n' $unit > /run/systemd/system/$unit.d/log.conf
done
export container=farend-lab SYSTEMD_UNIT_PATH=/run/systemd/system
exec {systemd} --system --unit=basic.target --log-target=console --show-status=no
'''


class Log:
    """What a unit has said."""

    def __init__(self, path):
        self.log = path
        open(path, "ab").close()

    text, size = Proc.text, Proc.size


class Host:
    """In no namespace."""

    @staticmethod
    def argv(_, *command):
        return list(command)


class Units(Gateway):
    """The gateway and its media process as services."""

    def __init__(self, lab, **options):
        super().__init__(lab, start=False, **options)
        self.manager = self.cgroup = None
        self.work = f"{self.folder}/systemd"
        os.makedirs(f"{self.work}/units")
        for unit in UNITS:
            shutil.copy(f"{PACKAGING}/{unit}", f"{self.work}/units")
        for target in TARGETS:
            with open(f"{self.work}/units/{target}.target", "w") as out:
                out.write("[Unit]\nDefaultDependencies=no\n")
        self.proc, self.media_log = (Log(f"{self.work}/{unit}.log") for unit in UNITS)

    def text(self, **options):
        return super().text(**options).replace(self.lab.pki.folder, "/etc/farend/pki").replace(f"{self.folder}/state", "/var/lib/farend")

    def boot(self):
        """Why it can't be done here; None: systemd runs."""
        if not os.path.exists(SYSTEMD):
            return "there is no systemd on this host"
        root = next((root for root in ("/sys/fs/cgroup/systemd", "/sys/fs/cgroup") if os.path.exists(f"{root}/cgroup.procs")), None)
        if not root:
            return "no hierarchy of control groups for systemd"
        self.cgroup = f"{root}/{os.path.basename(self.lab.folder)}-units"
        try:
            os.mkdir(self.cgroup)
        except OSError as error:
            self.cgroup = None
            return f"no control group can be made: {error}"
        script = f"{self.work}/inside.sh"
        with open(script, "w") as out:
            out.write(INSIDE.format(work=self.work, farend=os.path.abspath(self.lab.farend), pki=self.lab.pki.folder, config=self.config, systemd=SYSTEMD, units=" ".join(UNITS)))
        unshare = ["unshare", "--mount", "--pid", "--fork", "--cgroup", "--ipc", "--uts", "--kill-child", "bash", script]
        # `ip netns exec` has a /sys of its own: the group is entered before.
        command = ["sh", "-c", f"echo $$ > {self.cgroup}/cgroup.procs && exec {' '.join(self.lab.net.argv('gw', *unshare))}"]
        self.manager = Proc(Host, None, "systemd", self.lab.folder, command)
        try:
            until("systemd runs", lambda: not self.manager.running() or self.control("is-active", "basic.target", check=False).stdout.strip() == "active", 15, 0.1)
        except TimeoutError:
            return f"systemd does not come up: …{self.manager.text()[-300:]}"
        return None if self.manager.running() else f"systemd ended: …{self.manager.text()[-300:]}"

    def enter(self, *command, check=True):
        """Runs a command where systemd is."""
        with open(f"/proc/{self.manager.pid}/task/{self.manager.pid}/children") as children:
            first = children.read().split()[:1]
        if not first:
            return subprocess.CompletedProcess(command, 1, "", "nobody there")
        done = subprocess.run(["nsenter", "-t", first[0], "-m", "-p", "-n", *command], capture_output=True, text=True, timeout=60)
        if check and done.returncode:
            raise Failed(f"{' '.join(command)}: exit {done.returncode}: {done.stderr.strip() or done.stdout.strip()}; …{self.manager.text()[-600:]}; …{self.proc.text()[-600:]}")
        return done

    def control(self, *words, check=True):
        return self.enter("/run/host-bin/systemctl", *words, check=check)

    def show(self, unit, name):
        return self.control("show", "--value", "-p", name, unit).stdout.strip()

    def start(self):
        self.control("start", "farend.service")
        until("the gateway listens", lambda: {5061, 6586, 6587} <= self.listening(), 10)
        return self

    def put(self, **changes):
        """Another configuration, in its place."""
        self.write(**changes)
        self.enter("/run/host-bin/install", "-m", "0640", "-o", "root", "-g", "farend", self.config, "/etc/farend/farend.toml")

    def close(self):
        if self.manager:
            self.manager.stop(signal.SIGKILL)
        if self.cgroup:
            def gone():
                for folder, _, _ in os.walk(self.cgroup, topdown=False):
                    try:
                        os.rmdir(folder)
                    except OSError:
                        return False
                return True
            until("the control groups are gone", gone, 5, 0.1)
            self.cgroup = None

    stop = close
