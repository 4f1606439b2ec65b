"""Programs that a run starts: each with its own log, ended by the id we started."""

import os
import signal
import subprocess
import time


def until(what, test, seconds=5.0, step=0.03):
    """Wait until test() is true; TimeoutError names what did not happen."""
    end = time.monotonic() + seconds
    while True:
        value = test()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(step)


class Proc:
    def __init__(self, net, short, name, folder, command, cwd=None, env=None):
        self.name, self.log = name, os.path.join(folder, f"{name}.log")
        self._out = open(self.log, "ab")
        self.proc = subprocess.Popen(net.argv(short, *command), stdin=subprocess.DEVNULL, stdout=self._out, stderr=subprocess.STDOUT,
                                     cwd=cwd, start_new_session=True, env={**os.environ, **(env or {})})

    @property
    def pid(self):
        return self.proc.pid

    def running(self):
        return self.proc.poll() is None

    def text(self, start=0):
        with open(self.log, "rb") as f:
            f.seek(start)
            return f.read().decode("utf-8", "replace")

    def size(self):
        return os.path.getsize(self.log)

    def wait_for(self, text, seconds=5.0, start=0):
        def seen():
            if text in self.text(start):
                return True
            if not self.running():
                raise RuntimeError(f"{self.name} ended with {self.proc.returncode}: …{self.text()[-1500:]}")
            return False
        until(f"{self.name} says {text!r}", seen, seconds)

    def send(self, number):
        self.proc.send_signal(number)

    def stop(self, number=signal.SIGTERM, seconds=3.0):
        """End it and its children (they share its session)."""
        if self.running():
            self._group(number)
            try:
                self.proc.wait(seconds)
            except subprocess.TimeoutExpired:
                pass
        self._group(signal.SIGKILL)
        code = self.proc.wait(5)
        self._out.close()
        return code

    def _group(self, number):
        try:
            os.killpg(self.proc.pid, number)
        except ProcessLookupError:
            pass
