"""Chromium's developer tools, reading a HAR file by the code that their network panel reads it with."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.peers.api import eventually
from tests.peers.programs import program

LISTENING = re.compile(r"DevTools listening on ws://(127\.0\.0\.1:\d+)/")

READ = """
(async () => {
  const HAR = await import("/devtools/models/har/har.js");
  const requests = HAR.Importer.Importer.requestsFromHARLog(new HAR.HARFormat.HARRoot(%s).log);
  const seen = [];
  for (const request of requests) {
    const content = await request.requestContentData();
    seen.push({
      id: request.requestId(),
      method: request.requestMethod,
      url: request.url(),
      status: request.statusCode,
      type: request.resourceType().name(),
      remote: request.remoteAddress(),
      size: request.resourceSize,
      base64: content.isTextContent ? null : content.base64,
      text: content.isTextContent ? content.text : null,
      frames: request.frames().map((frame) => [frame.type, frame.opCode, frame.text]),
    });
  }
  return JSON.stringify(seen);
})()
"""


@contextmanager
def _debugged(folder: Path) -> Iterator[str]:
    """Run a headless Chromium, and yield where its developer tools listen."""
    arguments = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
    options = (
        "--remote-debugging-port=0",
        f"--user-data-dir={folder}",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    )
    command = [program("chromium"), *arguments, *options, "about:blank"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            yield next(match[1] for line in process.stderr if (match := LISTENING.search(line)))
        finally:
            process.terminate()


@contextmanager
def _page(address: str) -> Iterator[ClientConnection]:
    """Open the developer tools as a page."""
    url = f"http://{address}/json/new?http://{address}/devtools/devtools_app.html"
    with urllib.request.urlopen(urllib.request.Request(url, method="PUT")) as answer:
        page = json.load(answer)
    with connect(page["webSocketDebuggerUrl"], max_size=None, proxy=None) as socket:
        yield socket


def opened_har(folder: Path, har: Path) -> list[dict[str, Any]]:
    """Return what developer tools make of each entry of a HAR file."""
    with _debugged(folder) as address, _page(address) as socket:
        numbers = itertools.count(1)

        def evaluate(expression: str) -> dict[str, Any]:
            params = {"expression": expression, "awaitPromise": True, "returnByValue": True}
            number = next(numbers)
            socket.send(json.dumps({"id": number, "method": "Runtime.evaluate", "params": params}))
            answers = (json.loads(socket.recv()) for _ in itertools.count())
            result: dict[str, Any] = next(answer for answer in answers if answer.get("id") == number)["result"]
            return result

        eventually(lambda: evaluate("document.readyState + location.pathname"), _is_loaded)
        read = evaluate(READ % har.read_text())
        assert "exceptionDetails" not in read, read
        seen: list[dict[str, Any]] = json.loads(read["result"]["value"])
        return seen


def _is_loaded(result: dict[str, Any]) -> bool:
    return bool(result["result"].get("value") == "complete/devtools/devtools_app.html")
