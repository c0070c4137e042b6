"""Headless Chromium, driven over its own debugging pipe: no other package is needed."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


class Browser:
    """One page. `Browser(folder)` starts it, and it ends with the `with` block."""

    def __init__(self, profile: Path) -> None:
        read, self._to = os.pipe()
        self._from, write = os.pipe()
        flags = (
            "--headless=new --no-sandbox --disable-gpu --remote-debugging-pipe "
            "--no-first-run --hide-scrollbars --disable-dev-shm-usage"
        )
        command = f'exec "$0" {flags} --user-data-dir="$1" 3<&{read} 4>&{write}'
        self._process = subprocess.Popen(
            ["bash", "-c", command, CHROMIUM, str(profile)],
            pass_fds=(read, write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read)
        os.close(write)
        self._numbers = itertools.count(1)
        self._buffer = b""
        self._session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=1200,
            height=1250,
            deviceScaleFactor=1,
            mobile=False,
        )
        self.call("Network.enable")
        self.requested: list[str] = []  # addresses that the page asked for

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(20)
        os.close(self._to)
        os.close(self._from)

    def call(self, method: str, **parameters: object) -> dict:
        """One command of the DevTools protocol and its result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self._buffer:
                part = os.read(self._from, 2**16)
                if not part:
                    raise RuntimeError("the browser has ended")
                self._buffer += part
            line, self._buffer = self._buffer.split(b"\0", 1)
            answer = json.loads(line)
            if answer.get("method") == "Network.requestWillBeSent":
                self.requested.append(answer["params"]["request"]["url"])
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(answer["error"]["message"])
                return answer["result"]

    def run(self, code: str) -> object:
        """The value of a JavaScript expression on the page."""
        result = self.call(
            "Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True
        )
        return result["result"].get("value")

    def wait(self, condition: str, seconds: float = 60) -> object:
        """The value of the expression, once it is true."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if value := self.run(condition):
                return value
            time.sleep(0.2)
        raise TimeoutError(f"never true in {seconds} s: {condition}")

    def type(self, element: str, text: str) -> None:
        """Replaces what stands in the text field inside the element of that id."""
        self.run(
            f"(() => {{ const f = document.querySelector('#{element} textarea, #{element} input');"
            " f.focus(); f.select(); })()"
        )
        self.call("Input.insertText", text=text)

    def click(self, element: str) -> None:
        self.wait(f"document.getElementById('{element}') !== null")
        self.run(f"document.getElementById('{element}').click()")

    def screenshot(self, path: Path) -> None:
        data = self.call("Page.captureScreenshot", captureBeyondViewport=False)["data"]
        path.write_bytes(base64.b64decode(data))
