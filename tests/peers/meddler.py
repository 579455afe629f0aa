"""A script for mitmdump that makes it slow in known ways: the names that it looks up, and the flows that it holds.

What is to happen to a flow is in its query, such as `?hold=request`.
"""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

from mitmproxy import http
from mitmproxy.addonmanager import Loader

DELAY = 1.0
"""Seconds that everything here takes."""

FAST, SLOW, MISSING = "fast.names.test", "slow.names.test", "missing.names.test"


class Meddler:
    def load(self, _loader: Loader) -> None:
        getaddrinfo = socket.getaddrinfo

        def slow_getaddrinfo(host: Any, *arguments: Any, **options: Any) -> Any:
            if host in (SLOW, MISSING):
                time.sleep(DELAY)
            if host == MISSING:
                raise socket.gaierror(socket.EAI_NONAME, "there is no such name")
            return getaddrinfo("127.0.0.1" if host in (FAST, SLOW) else host, *arguments, **options)

        socket.getaddrinfo = slow_getaddrinfo

    async def requestheaders(self, flow: http.HTTPFlow) -> None:
        flow.request.stream = "stream" in flow.request.query
        await self._hold(flow, "headers")

    async def request(self, flow: http.HTTPFlow) -> None:
        await self._hold(flow, "request")
        if "answer" in flow.request.query:
            flow.response = http.Response.make(200, b"made by an addon")
        if "kill" in flow.request.query:
            flow.kill()

    async def responseheaders(self, flow: http.HTTPFlow) -> None:
        if flow.response is not None:
            flow.response.stream = "stream" in flow.request.query

    async def response(self, flow: http.HTTPFlow) -> None:
        await self._hold(flow, "response")

    async def _hold(self, flow: http.HTTPFlow, where: str) -> None:
        """Hold the flow as a slow addon does, or as a person who intercepts it."""
        if flow.request.query.get("hold") == where:
            await asyncio.sleep(DELAY)
        if flow.request.query.get("intercept") == where:
            flow.intercept()
            asyncio.get_running_loop().call_later(DELAY, flow.resume)


addons = [Meddler()]
