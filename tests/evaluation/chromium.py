"""A headless Chromium, driven through its DevTools socket: enough to open a page, press keys and look."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

BINARY = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)
WAIT_S = 60


class Page:
    """One tab. `complaints` collects console errors, uncaught exceptions and whatever the page asked of the network."""

    def __init__(self, socket: ClientConnection, session: str) -> None:
        self._socket, self._session, self._last = socket, session, 0
        self._events: list[dict[str, Any]] = []
        self.complaints: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        self._last += 1
        own = self._last
        self._socket.send(json.dumps({"id": own, "method": method, "params": params, "sessionId": self._session}))
        while (message := self._receive()).get("id") != own:
            pass
        assert "error" not in message, message
        result: dict[str, Any] = message["result"]
        return result

    def open(
        self, path: Path, *, width: int = 1200, height: int = 900, dark: bool = False, phone: bool = False
    ) -> None:
        scheme = "dark" if dark else "light"
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        self._events.clear()
        self.send("Page.navigate", url=path.resolve().as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self._events):
            self._receive()
        # charts are drawn by their resize observers, which run before a frame is painted
        self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))")

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression, a promise's when it is one."""
        found = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, text="\r" if key == "Enter" else "")

    def picture(self, *, whole: bool = True) -> bytes:
        shot = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(shot["data"])

    def download(self, expression: str, folder: Path) -> Path:
        """The file that running the expression saves to `folder`."""
        self.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder), eventsEnabled=True)
        self._events.clear()
        self.run(f"void {expression}")
        while not (names := self._params("Browser.downloadWillBegin")):
            self._receive()
        while not any(state["state"] == "completed" for state in self._params("Browser.downloadProgress")):
            self._receive()
        return folder / names[0]["suggestedFilename"]

    def _params(self, method: str) -> list[dict[str, Any]]:
        return [event["params"] for event in self._events if event["method"] == method]

    def _receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._socket.recv(timeout=WAIT_S))
        method, params = message.get("method"), message.get("params", {})
        if method is not None:
            self._events.append(message)
        if method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(params["exceptionDetails"])[:500])
        elif (method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert")) or (
            method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning")
        ):
            self.complaints.append(json.dumps(params)[:500])
        elif method == "Network.requestWillBeSent" and params["request"]["url"].startswith(("http", "ws", "ftp")):
            self.complaints.append(f"asked for {params['request']['url']}")
        elif method == "Page.javascriptDialogOpening":
            self.complaints.append(f"dialog: {params['message']}")
        return message


@contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """A tab of a fresh Chromium; the process ends with the block."""
    assert BINARY is not None
    command = [BINARY, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        assert process.stderr is not None
        said = (line.partition("listening on ")[2].strip() for line in process.stderr)
        address = next(line for line in said if line)
        with connect(address, max_size=64 << 20, open_timeout=WAIT_S, proxy=None) as socket:
            yield Page(socket, _attached(socket))
    finally:
        process.terminate()
        process.communicate(timeout=WAIT_S)


def _attached(socket: ClientConnection) -> str:
    """The session of a new tab."""

    def ask(number: int, method: str, **params: Any) -> dict[str, Any]:
        socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while (message := json.loads(socket.recv(timeout=WAIT_S))).get("id") != number:
            pass
        result: dict[str, Any] = message["result"]
        return result

    target = ask(-1, "Target.createTarget", url="about:blank")["targetId"]
    session: str = ask(-2, "Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    return session
