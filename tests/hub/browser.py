"""A headless Chromium driven through its DevTools protocol over a pipe, with the standard library alone."""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path


def chromium() -> str | None:
    """The installed browser."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Browser:
    """A browser that shows one page at a time.

    Args:
        profile (`Path`): a folder for the browser's own files.
    """

    def __init__(self, profile: Path):
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        # Chromium reads commands from descriptor 3 and answers on 4.
        script = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
        options = (
            "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync", "--remote-debugging-pipe", "--window-size=1280,1000",
            f"--user-data-dir={profile}", "about:blank",
        )  # fmt: skip
        self.process = subprocess.Popen(
            ["bash", "-c", script, "browser", chromium(), *options],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._number, self._buffer, self._session = 0, b"", None

    def open(self, url: str) -> None:
        """Shows a page."""
        self._session = None
        target = self.send("Target.createTarget", url=url)["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def send(self, method: str, seconds: float = 120, **parameters) -> dict:
        """Sends a command and waits for its answer; events in between are dropped."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + seconds
        while True:
            while b"\0" not in self._buffer:
                if not select.select([self._read], [], [], max(0.0, end - time.monotonic()))[0]:
                    raise TimeoutError(f"{method} was not answered in {seconds} s")
                if not (piece := os.read(self._read, 1 << 16)):
                    raise EOFError("the browser ended")
                self._buffer += piece
            line, _, self._buffer = self._buffer.partition(b"\0")
            answer = json.loads(line)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def evaluate(self, script: str):
        """The value of an expression on the page."""
        done = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in done:
            raise RuntimeError(str(done["exceptionDetails"])[:500])
        return done["result"].get("value")

    def wait(self, script: str, seconds: float = 180):
        """Waits until an expression is true, and returns its value."""
        end = time.monotonic() + seconds
        while not (value := self.evaluate(script)):
            if time.monotonic() > end:
                raise TimeoutError(f"{script} stayed false; the page says: {self.evaluate('document.body.innerText')}")
            time.sleep(0.3)
        return value

    def screenshot(self, path: Path) -> None:
        """Writes the whole page."""
        shown = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shown["data"]))

    def close(self) -> None:
        """Ends the browser."""
        self.process.terminate()
        self.process.wait(30)
        os.close(self._read)
        os.close(self._write)
