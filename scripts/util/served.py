"""A storage server of its own for a script, and what the scripts that call it share."""

import atexit
import contextlib
import http.client
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

# So that what is registered to be done at the end is done.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20


def program():
    """The release binary: that of $CLOUDSTORE, else one that is built now."""
    if given := os.environ.get("CLOUDSTORE"):
        return given
    build = ["cargo", "build", "--quiet", "--release", "--locked", "--bin", "cloudstore"]
    subprocess.run(build, cwd=ROOT, check=True)
    return str(Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "cloudstore")


def workplace(needed):
    """A folder that is gone at the end, on a disk with so many bytes free."""
    folder = Path(tempfile.mkdtemp(prefix="cloudstore-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    free = shutil.disk_usage(folder).free
    if free < needed + 256 * MIB:
        sys.exit(f"{folder} has {free >> 20} MiB free, and {(needed >> 20) + 256} are needed: set TMPDIR to another disk")
    return folder


class Server:
    """`cloudstore serve` on a port that stays the same when it is started again."""

    def __init__(self, binary, data, *flags, files=None, environment=None):
        self.binary, self.data, self.flags, self.files = binary, Path(data), flags, files
        # Settings of whoever runs the script are not those of the server.
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CLOUDSTORE")}
        self.environment = kept | (environment or {})
        self.log = self.data.parent / f"{self.data.name}.log"
        # Bound, not listening: nobody else gets the port while the server is down.
        self.holder = socket.socket()
        self.holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self.holder.bind(("127.0.0.1", 0))
        self.port = self.holder.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = None
        atexit.register(self.kill)

    def start(self):
        command = [self.binary, "serve", "--listen", f"127.0.0.1:{self.port}", "--data", str(self.data), *self.flags]
        if self.files:
            command = ["bash", "-c", f'ulimit -n {self.files}; exec "$@"', "-", *command]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, env=self.environment, text=True
            )
        line = self.process.stdout.readline()
        if f"127.0.0.1:{self.port}" not in line:
            sys.exit(f"the server does not start:\n{self.log.read_text()}")
        return self

    def kill(self):
        self._end(signal.SIGKILL)

    def cut(self):
        """Ends it as a second SIGTERM does: what is under way is cut off."""
        # Two at once may come as one.
        while self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.05)
        self._end(signal.SIGTERM)

    def _end(self, how):
        if self.process:
            self.process.send_signal(how)
            self.process.wait(60)
            self.process.stdout.close()
            self.process = None

    def status(self, key):
        """A figure of /proc/PID/status; memory in KiB."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(key + ":"):
                return int(line.split()[1])
        raise KeyError(key)

    def cpu_seconds(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def open_files(self):
        """What each descriptor is of."""
        found = []
        for path in Path(f"/proc/{self.process.pid}/fd").iterdir():
            # It may be closed meanwhile.
            with contextlib.suppress(OSError):
                found.append(os.readlink(path))
        return sorted(found)

    def has_empty_stage(self):
        """Whether nothing is on its way; what stands there for rows that are written soon has its time."""
        until = time.monotonic() + 10
        while any((self.data / "stage").iterdir()):
            if time.monotonic() > until:
                return False
            time.sleep(0.05)
        return True

    def ask(self, method, target, body=None, headers=None, timeout=60):
        """One request on a connection of its own: status, headers, body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, target, body, headers or {})
            reply = connection.getresponse()
            return reply.status, reply.headers, reply.read()
        finally:
            connection.close()

    def metric(self, name):
        for line in self.ask("GET", "/metrics")[2].decode().splitlines():
            if line.startswith(name + " "):
                return float(line.split()[1])
        raise KeyError(name)


def content(size, seed=0):
    """Pieces of 1 MiB, each another, of which one half packs well."""
    source = random.Random(seed)
    noise = source.randbytes(MIB // 2)
    text = b" ".join(b"%09d" % source.randrange(10**6) for _ in range(MIB // 20 + 1))
    base = (noise + text)[:MIB]
    number = 0
    while size > 0:
        turn = (number * 7919 + seed) % MIB
        piece = (b"%016x" % number + base[turn:] + base[:turn])[: min(size, MIB)]
        yield piece
        size -= len(piece)
        number += 1


def write(path, size, seed=0):
    with open(path, "wb") as file:
        file.writelines(content(size, seed))
    return path


class Checks:
    """Counts what holds and what does not."""

    def __init__(self):
        self.passed, self.failed, self.lock = 0, 0, threading.Lock()

    def check(self, what, holds, detail=""):
        with self.lock:
            if holds:
                self.passed += 1
            else:
                self.failed += 1
                print(f"failed: {what}{': ' if detail else ''}{detail}", flush=True)
        return holds

    def end(self):
        print(f"{self.passed} passed, {self.failed} failed")
        sys.exit(self.failed > 0)
