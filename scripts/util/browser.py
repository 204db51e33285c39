"""Chromium without a window, told over a pipe what to do (Chrome DevTools Protocol)."""

import atexit
import base64
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

    def call(self, method, session=None, **parameters):
        self.number += 1
        order = {"id": self.number, "method": method, "params": parameters}
        if session:
            order["sessionId"] = session
        os.write(self.to, json.dumps(order).encode() + b"\0")
        deadline = time.monotonic() + WAIT
        while True:
            message = self._message(deadline)
            if message.get("id") == self.number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]
            self.events.append(message)

    def event(self, deadline):
        """The next one that nobody has taken."""
        return self.events.pop(0) if self.events else self._message(deadline)

    def downloaded(self):
        """Waits for the download that was begun: the file that it became, and the name that it was to have."""
        guid = name = None
        deadline = time.monotonic() + WAIT
        kept = []
        try:
            while True:
                message = self.event(deadline)
                parameters = message.get("params", {})
                if message.get("method") == "Browser.downloadWillBegin":
                    guid, name = parameters["guid"], parameters["suggestedFilename"]
                elif message.get("method") == "Browser.downloadProgress" and parameters["guid"] == guid:
                    if parameters["state"] == "completed":
                        return self.downloads / guid, name
                    if parameters["state"] == "canceled":
                        raise RuntimeError(f"Chromium gives up the download of {name}")
                else:
                    kept.append(message)
        finally:
            # What pages say is for those who look at them.
            self.events[:0] = [message for message in kept if "sessionId" in message]

    def download(self, url):
        """Goes to an address that is a download, as `downloaded`."""
        self.events.clear()
        # A tab of its own, which may go when it turns out to be no page.
        tab = self.call("Target.createTarget", url=url)["targetId"]
        found = self.downloaded()
        with contextlib.suppress(RuntimeError):
            self.call("Target.closeTarget", targetId=tab)
        return found


class Page:
    """A tab, and all that it complains of."""

    def __init__(self, browser):
        self.browser = browser
        self.target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = browser.call("Target.attachToTarget", targetId=self.target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "DOM", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        return self.browser.call(method, session=self.session, **parameters)

    def close(self):
        self.browser.call("Target.closeTarget", targetId=self.target)

    def wait_for(self, method):
        deadline = time.monotonic() + WAIT
        kept = []
        while True:
            message = self.browser.event(deadline)
            if message.get("sessionId") == self.session and message.get("method") == method:
                self.browser.events[:0] = kept
                return message["params"]
            kept.append(message)

    def _forget(self, method):
        self.browser.events = [message for message in self.browser.events if message.get("method") != method]

    @contextlib.contextmanager
    def loads(self):
        """What is done in it leads to another page."""
        self._forget("Page.loadEventFired")
        yield
        self.wait_for("Page.loadEventFired")

    def navigate(self, url):
        with self.loads():
            said = self.call("Page.navigate", url=url)
            if "errorText" in said:
                raise RuntimeError(f"{url}: {said['errorText']}")

    def evaluate(self, expression):
        """The value of an expression, of a promise when it is kept."""
        done = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True)
        if "exceptionDetails" in done:
            raise RuntimeError(f"{expression[:200]}: {done['exceptionDetails']}")
        return done["result"].get("value")

    def until(self, expression, seconds=30):
        """Asks again and again until it is so."""
        deadline = time.monotonic() + seconds
        while not self.evaluate(f"!!({expression})"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"it never came to: {expression}")
            time.sleep(0.02)

    def node(self, selector):
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        found = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        if not found:
            raise RuntimeError(f"nothing is {selector}")
        return found

    def choose_files(self, selector, paths):
        self.call("DOM.setFileInputFiles", nodeId=self.node(selector), files=[str(path) for path in paths])

    def middle(self, selector):
        node = self.node(selector)
        self.call("DOM.scrollIntoViewIfNeeded", nodeId=node)
        quad = self.call("DOM.getContentQuads", nodeId=node)["quads"][0]
        return sum(quad[0::2]) / 4, sum(quad[1::2]) / 4

    def click(self, selector):
        """As with a mouse: works without script too."""
        x, y = self.middle(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key, code=None, text=None):
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32}
        more = {"windowsVirtualKeyCode": codes[key]} if key in codes else {}
        typed = {"\r" if key == "Enter" else key} if key in ("Enter", " ") else ({text} if text else set())
        for value in typed:
            more["text"] = value
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=code or key, **more)
        more.pop("text", None)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=code or key, **more)

    def type(self, text):
        self.call("Input.insertText", text=text)

    def drop(self, selector, paths):
        """Files and folders, dragged there from outside."""
        x, y = self.middle(selector)
        data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def show(self, width, height=900, dark=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, path, whole=True):
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def complaints(self):
        """Errors and warnings on its console, and exceptions, since it was asked last."""
        # What is said by now is here then.
        self.evaluate("0")
        found, kept = [], []
        for message in self.browser.events:
            method, parameters = message.get("method"), message.get("params", {})
            if message.get("sessionId") != self.session:
                kept.append(message)
            elif method == "Runtime.exceptionThrown":
                found.append(str(parameters["exceptionDetails"]))
            elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
                found.append(str(parameters["args"]))
            elif method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
                entry = parameters["entry"]
                found.append(f"{entry['source']}: {entry['text']} {entry.get('url', '')}")
        self.browser.events = kept
        return found
