"""Records what a facade shows, as agents see it: its stream of events, and its list."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import aiohttp
import orjson

from mcp_discovery.probe.event_stream import Event, EventReader
from tests.faults.history import History

_LIMIT = 2**26
RECONNECT = 0.1
"""Seconds until a reader whose stream ended opens the next one."""
POLL = 0.2
"""Seconds between two requests of a reader for the list."""


@asynccontextmanager
async def reading(
    history: History, name: str, url: str, *, lists: bool = True
) -> AsyncGenerator[None, None]:
    """Records the facade at ``url``, as ``<name>/stream`` and with ``lists`` as ``<name>/list``,
    meanwhile."""
    async with aiohttp.ClientSession() as http:
        tasks = [asyncio.create_task(_stream(history, f"{name}/stream", http, url))]
        if lists:
            tasks.append(asyncio.create_task(_lists(history, f"{name}/list", http, url)))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            for task in tasks:
                if not task.cancelled():
                    task.result()  # a recorder that fails is no recorder


async def _stream(history: History, name: str, http: aiohttp.ClientSession, url: str) -> None:
    last: str | None = None
    away = False
    while True:
        headers = {"Last-Event-ID": last} if last else {}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=1, sock_read=20)
        try:
            async with http.get(f"{url}/events", headers=headers, timeout=timeout) as response:
                response.raise_for_status()
                history.note("read", name)
                away = False
                last = await _follow(history, name, response, last)
        except (aiohttp.ClientError, TimeoutError):
            pass
        if not away:
            history.note("unread", name)
            away = True
        await asyncio.sleep(RECONNECT)


async def _follow(
    history: History, name: str, response: aiohttp.ClientResponse, last: str | None
) -> str | None:
    reader = EventReader(_LIMIT)
    try:
        async for chunk in response.content.iter_any():
            for event in reader.feed(chunk):
                last = event.id or last
                _record(history, name, event)
    except (aiohttp.ClientError, TimeoutError):
        pass
    return last


def _record(history: History, name: str, event: Event) -> None:
    data = orjson.loads(event.data)
    match event.name:
        case "snapshot":
            shown = {each["id"]: each["status"] for each in data["servers"]}
            epoch, revision = data["epoch"], data["revision"]
            history.note("list", name, epoch=epoch, revision=revision, servers=shown)
            history.note("stale" if "staleSince" in data else "fresh", name)
        case "change":
            epoch, _, revision = event.id.partition(":")
            status = data["server"]["status"] if data["server"] else None
            place = {"epoch": epoch, "revision": int(revision)}
            history.note("change", name, **place, id=data["id"], status=status)
        case "stale" | "fresh":
            history.note("stale" if event.name == "stale" else "fresh", name)


async def _lists(history: History, name: str, http: aiohttp.ClientSession, url: str) -> None:
    away = True
    was_stale: bool | None = None
    before: dict[str, object] = {}
    while True:
        timeout = aiohttp.ClientTimeout(total=2)
        try:
            async with http.get(f"{url}/servers?status=all", timeout=timeout) as response:
                response.raise_for_status()
                position = response.headers["X-Discovery-Revision"]
                body = orjson.loads(await response.read())
        except (aiohttp.ClientError, TimeoutError):
            if not away:
                history.note("unread", name)
            away = True
        else:
            if away:
                history.note("read", name)
            away = False
            epoch, _, revision = position.partition(":")
            shown = {each["id"]: each["status"] for each in body["servers"]}
            seen = {"epoch": epoch, "revision": int(revision), "servers": shown}
            if seen != before:
                history.note("list", name, **seen)
                before = seen
            if (stale := "staleSince" in body) is not was_stale:
                history.note("stale" if stale else "fresh", name)
                was_stale = stale
        await asyncio.sleep(POLL)
