"""Chromium without a window, told over a pipe what to download (Chrome DevTools Protocol)."""

import atexit
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import time

WAIT = 120


class Browser:
    def __init__(self, folder):
        self.folder = folder
        self.downloads = folder / "downloads"
        self.downloads.mkdir(parents=True)
        to_read, self.to = os.pipe()
        self.back, to_write = os.pipe()
        flags = [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--disable-background-networking", "--remote-debugging-pipe", f"--user-data-dir={folder / 'profile'}",
            "about:blank",
        ]  # fmt: skip
        # Both ends have their numbers by the protocol.
        command = f'exec "$@" 3<&{to_read} 4>&{to_write}'
        self.process = subprocess.Popen(
            ["bash", "-c", command, "-", shutil.which("chromium") or "chromium", *flags],
            pass_fds=(to_read, to_write), start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=(folder / "stderr").open("wb"),
        )  # fmt: skip
        os.close(to_read)
        os.close(to_write)
        atexit.register(self.close)
        self.number, self.read, self.events = 0, b"", []
        wishes = {"behavior": "allowAndName", "downloadPath": str(self.downloads), "eventsEnabled": True}
        self.call("Browser.setDownloadBehavior", **wishes)

    def close(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def _message(self, deadline):
        while b"\0" not in self.read:
            if not select.select([self.back], [], [], max(0, deadline - time.monotonic()))[0]:
                raise TimeoutError("Chromium says nothing")
            more = os.read(self.back, 65536)
            if not more:
                raise EOFError(f"Chromium has ended: {(self.folder / 'stderr').read_text()}")
            self.read += more
        message, self.read = self.read.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, **parameters):
        self.number += 1
        order = {"id": self.number, "method": method, "params": parameters}
        os.write(self.to, json.dumps(order).encode() + b"\0")
        deadline = time.monotonic() + WAIT
        while True:
            message = self._message(deadline)
            if message.get("id") == self.number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]
            self.events.append(message)

    def download(self, url):
        """Goes to an address that is a download: the file that it became, and the name that it was to have."""
        self.events.clear()
        # A tab of its own, which may go when it turns out to be no page.
        tab = self.call("Target.createTarget", url=url)["targetId"]
        guid = name = None
        deadline = time.monotonic() + WAIT
        while True:
            message = self.events.pop(0) if self.events else self._message(deadline)
            parameters = message.get("params", {})
            if message.get("method") == "Browser.downloadWillBegin":
                guid, name = parameters["guid"], parameters["suggestedFilename"]
            elif message.get("method") == "Browser.downloadProgress" and parameters["guid"] == guid:
                if parameters["state"] == "completed":
                    with contextlib.suppress(RuntimeError):
                        self.call("Target.closeTarget", targetId=tab)
                    return self.downloads / guid, name
                if parameters["state"] == "canceled":
                    raise RuntimeError(f"Chromium gives up the download of {url}")
