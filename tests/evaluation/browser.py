"""Headless Chromium through its debugging pipe: a page is opened, watched, asked and photographed.

python -m tests.evaluation.browser report.html folder/    # light, dark, phone, print
"""

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FOUND = next(filter(None, map(shutil.which, NAMES)), None)
# name -> width, colour scheme, scale
VIEWS = {"light": (1280, "light"), "dark": (1280, "dark"), "phone": (390, "light")}


class Browser:
    """One page of a browser; `requests` and `complaints` fill up as it goes."""

    def __init__(self, timeout=60):
        self.timeout, self.count, self.buffer = timeout, 0, b""
        self.requests, self.complaints = [], []
        self.profile = tempfile.mkdtemp(prefix="chromium-")
        theirs_in, self.out = os.pipe()
        self.back, theirs_out = os.pipe()

        def on_their_side():  # Chromium reads from descriptor 3 and writes to 4
            ours = os.dup(theirs_in), os.dup(theirs_out)
            os.dup2(ours[0], 3)
            os.dup2(ours[1], 4)

        self.process = subprocess.Popen(
            [
                FOUND,
                *("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"),
                *("--no-first-run", "--disable-background-networking", "--hide-scrollbars"),
                f"--user-data-dir={self.profile}",
                "about:blank",
            ],
            preexec_fn=on_their_side,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError, EOFError):
            self.session = None
            self.call("Browser.close")
        self.process.wait(20)
        os.close(self.out)
        os.close(self.back)
        shutil.rmtree(self.profile, ignore_errors=True)

    def call(self, method, **parameters):
        """The result of one command of the DevTools protocol."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == message["id"]:
                assert "error" not in answer, answer
                return answer["result"]

    def _next(self):
        end = time.monotonic() + self.timeout
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.back], [], [], end - time.monotonic())
            assert ready, "Chromium does not answer"
            part = os.read(self.back, 1 << 16)
            if not part:
                raise EOFError("Chromium is gone")
            self.buffer += part
        raw, self.buffer = self.buffer.split(b"\0", 1)
        message = json.loads(raw)
        self._note(message.get("method"), message.get("params", {}))
        return message

    def _note(self, method, told):
        if method == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(told["exceptionDetails"]["text"])
        elif method == "Runtime.consoleAPICalled":
            self.complaints.append(str(told["args"]))
        elif method == "Log.entryAdded":
            self.complaints.append(told["entry"]["text"])

    def open(self, path, width=1280, scheme="light"):
        """Loads a file; waits until it is there."""
        self.look(width, scheme)
        self.call("Page.navigate", url=Path(path).resolve().as_uri())
        end = time.monotonic() + self.timeout
        while self.ask("document.readyState") != "complete":
            assert time.monotonic() < end, "the page does not load"
            time.sleep(0.02)

    def look(self, width, scheme):
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        scheme = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=scheme)

    def ask(self, expression):
        """The value of a JavaScript expression in the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def photograph(self, path, top=0, height=None):
        """The page from `top` pixels on, as PNG; all of it without a height."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": top, "width": size["width"], "scale": 1}
        clip["height"] = min(size["height"] - top, height or size["height"])
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        Path(path).write_bytes(base64.b64decode(shot["data"]))

    def print(self, path):
        """The page as it comes out of a printer, as PDF."""
        found = self.call("Page.printToPDF", printBackground=False)
        Path(path).write_bytes(base64.b64decode(found["data"]))


def main():
    page, folder = sys.argv[1], Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    with Browser() as browser:
        for name, (width, scheme) in VIEWS.items():
            browser.open(page, width, scheme)
            height = browser.ask("document.documentElement.scrollHeight")
            for part in range(min(4, -(-height // 1800))):
                browser.photograph(folder / f"{name}-{part}.png", 1800 * part, 1800)
        browser.print(folder / "print.pdf")
    print(browser.requests, browser.complaints)


if __name__ == "__main__":
    main()
