"""A headless Chromium, driven over its debugging socket: enough to load a page, run a script in it, and listen."""

import asyncio
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tornado.websocket import WebSocketClientConnection, websocket_connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0", "about:blank")
LONGEST = 60.0  # seconds


@dataclass
class Visit:
    """What a page did: the results of the scripts, complaints on its console, addresses it asked for."""

    results: list[Any] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


def installed() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def visit(page: Path, *scripts: str, width: int = 1300) -> Visit:
    """Open the file in a window `width` pixels wide and evaluate each script in turn."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:  # the browser may still write to it
        command = [str(installed()), *FLAGS[:-1], f"--user-data-dir={profile}", FLAGS[-1]]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            visited = _visit(_socket(Path(profile)), page.resolve().as_uri(), scripts, width)
            return asyncio.run(asyncio.wait_for(visited, LONGEST))
        finally:
            process.terminate()
            process.wait(timeout=LONGEST)


def _socket(profile: Path) -> str:
    """The address of the first tab; the browser writes its port into the profile when it is ready."""
    until = time.monotonic() + LONGEST
    while time.monotonic() < until:
        try:
            port = (profile / "DevToolsActivePort").read_text().splitlines()[0]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=5) as answer:
                tabs = [tab for tab in json.load(answer) if tab["type"] == "page"]
            return str(tabs[0]["webSocketDebuggerUrl"])
        except (OSError, IndexError):
            time.sleep(0.1)
    raise TimeoutError("Chromium did not open its debugging port")


async def _visit(address: str, page: str, scripts: tuple[str, ...], width: int) -> Visit:
    found, connection = Visit(), await websocket_connect(address)
    for number, domain in enumerate(("Page", "Runtime", "Log", "Network"), start=1):
        await _call(connection, found, number, f"{domain}.enable")
    window = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    await _call(connection, found, 9, "Emulation.setDeviceMetricsOverride", **window)
    await _call(connection, found, 10, "Page.navigate", url=page)
    while (await _message(connection, found)).get("method") != "Page.loadEventFired":
        pass
    for number, script in enumerate(scripts, start=20):
        answer = await _call(connection, found, number, "Runtime.evaluate", expression=script, returnByValue=True)
        found.results.append(answer["result"].get("value"))
    connection.close()
    return found


async def _call(connection: WebSocketClientConnection, found: Visit, number: int, method: str, **given: Any) -> Any:
    await connection.write_message(json.dumps({"id": number, "method": method, "params": given}))
    while (message := await _message(connection, found)).get("id") != number:
        pass
    return message["result"]


async def _message(connection: WebSocketClientConnection, found: Visit) -> dict[str, Any]:
    text = await connection.read_message()
    assert text is not None, "Chromium closed the connection"
    message = json.loads(text)
    parameters = message.get("params", {})
    match message.get("method"):
        case "Runtime.exceptionThrown":
            found.complaints.append(parameters["exceptionDetails"]["text"])
        case "Runtime.consoleAPICalled" if parameters["type"] in ("error", "warning"):
            found.complaints.append(json.dumps(parameters["args"]))
        case "Log.entryAdded":
            found.complaints.append(parameters["entry"]["text"])
        case "Network.requestWillBeSent":
            found.requests.append(parameters["request"]["url"])
    return message
