"""Targets: what Consul, etcd and a facade answer, as the watches over them read it."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeVar

import orjson
from hypothesis import strategies as st

from mcp_discovery.adapters.consul.api import ConsulApi
from mcp_discovery.adapters.consul.hidden import HiddenInstances
from mcp_discovery.adapters.consul.listing import WatchMemory
from mcp_discovery.adapters.consul.url import parse_url as parse_consul_url
from mcp_discovery.adapters.consul.watch import watch as watch_consul
from mcp_discovery.adapters.embedded.store import _path as embedded_path
from mcp_discovery.adapters.etcd.keys import Keys
from mcp_discovery.adapters.etcd.url import parse_url as parse_etcd_url
from mcp_discovery.adapters.etcd.watch import Watch
from mcp_discovery.adapters.http import StoreResponse
from mcp_discovery.adapters.remote import RemoteStore
from mcp_discovery.adapters.remote.api import FacadeApi
from mcp_discovery.adapters.skipped_keys import SkippedKeys
from mcp_discovery.adapters.store import StoreOptions
from mcp_discovery.errors import (
    InvalidStoreURLError,
    StoreDeniedError,
    StoreError,
    StoreUnavailableError,
)
from mcp_discovery.probe.errors import ProbeError
from mcp_discovery.probe.event_stream import EventReader
from tests.faults.fuzz.corpus import json_like, text_like
from tests.faults.fuzz.target import Target
from tests.faults.fuzz.vocabulary import ENTRY, LIVE, REGISTRATIONS
from tests.faults.hostile import corpus
from tests.stores.waiting import bounded

T = TypeVar("T")
_ID = REGISTRATIONS[0]["id"]
_NAME = REGISTRATIONS[0]["name"]


def _run(work: Awaitable[T], seconds: float = 5) -> T:
    return asyncio.run(bounded(work, seconds))


def _parts(data: bytes, count: int) -> list[bytes]:
    parts = data.split(b"\n", count - 1)
    return parts + [b"[]"] * (count - len(parts))


# -- Consul -------------------------------------------------------------------------------------


class _FakeConsul:
    """Answers two queries with what it was given, and the ones after them never."""

    token = None

    def __init__(self, services: bytes, records: bytes) -> None:
        self._bodies = {"health": services, "kv": records}

    async def request(self, _: str, url: str, *, params: Any = None, **__: Any) -> StoreResponse:
        kind = url.split("/v1/")[1].partition("/")[0]
        if kind not in self._bodies:
            return StoreResponse(404, {}, b"")
        if "index" in params:
            await asyncio.Event().wait()
        return StoreResponse(200, {"X-Consul-Index": "7"}, self._bodies[kind])


async def _consul_list(mode: str, services: bytes, records: bytes) -> object:
    api = ConsulApi(parse_consul_url(f"consul://127.0.0.1{mode}"), StoreOptions())
    api._http._http = _FakeConsul(services, records)  # type: ignore[assignment]
    skipped, hidden = SkippedKeys("consul:"), HiddenInstances(api)
    async with aclosing(watch_consul(api, skipped, WatchMemory(), hidden)) as events:
        return await anext(events)


def _consul(mode: str) -> Any:
    return lambda data: _run(_consul_list(mode, *_parts(data, 2)))


def _base64(value: Any) -> str:
    return base64.b64encode(orjson.dumps(value)).decode()


_CHECKS = [
    {**check, "Node": "node", "ServiceName": "mcp", "ServiceTags": [_NAME], "ModifyIndex": 5}
    | {"Notes": "held by holder", "Output": check["Output"].replace(" h ", " holder ")}
    for check in corpus.checks(_ID, corpus.output())
]
_HEALTH = [{"Node": {"Node": "node"}, "Service": {"ID": _ID, "Service": "mcp"}, "Checks": _CHECKS}]
_KV = [{"Key": f"mcp/servers/{_NAME}/{_ID}", "Value": _base64(REGISTRATIONS[0]), "ModifyIndex": 6}]


def _both(first: st.SearchStrategy[bytes], second: st.SearchStrategy[bytes]) -> Any:
    return st.tuples(first, second).map(lambda two: two[0].replace(b"\n", b" ") + b"\n" + two[1])


# -- etcd ---------------------------------------------------------------------------------------


class _FakeStream:
    def __init__(self, data: bytes) -> None:
        self.content, self._data = self, [data, b""]

    async def readany(self) -> bytes:
        return self._data.pop(0)


class _FakeEtcd:
    """Lists what it was given, then answers one watch with what it was given."""

    store, endpoint = "etcd:", "http://127.0.0.1:2379"

    def __init__(self, listed: bytes, watched: bytes) -> None:
        self._listed, self._watched = listed, [watched]

    async def pages(self, *_: Any, **__: Any) -> AsyncIterator[tuple[int, Any]]:
        yield 1, orjson.loads(self._listed)

    @asynccontextmanager
    async def stream(self, *_: Any, **__: Any) -> AsyncIterator[_FakeStream]:
        if not self._watched:
            raise StoreDeniedError(self.store, "enough")
        yield _FakeStream(self._watched.pop())

    async def call_endpoint(self, *_: Any) -> Any:
        raise StoreDeniedError(self.store, "enough")

    renew_token = call = call_endpoint

    def pass_over(self, _: str) -> None:
        raise StoreDeniedError(self.store, "enough")


def _etcd(data: bytes) -> None:
    listed, watched = _parts(data, 2)
    watch = Watch(_FakeEtcd(listed, watched), Keys("/mcp/"), SkippedKeys("etcd:"))  # type: ignore[arg-type]
    _run(watch.run())


def _key(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


_RECORD_KV = {
    "key": _key(f"/mcp/servers/{_NAME}/{_ID}"),
    "value": _base64(REGISTRATIONS[0]),
    "mod_revision": "2",
    "lease": "7",
}
_LIVE_KV = {"key": _key(f"/mcp/live/{_ID}"), "value": _base64(LIVE), "mod_revision": "3"}
_WATCHED = (
    {"result": {"header": {"revision": "4"}, "created": True}},
    {"result": {"header": {"revision": "5"}, "events": [{"kv": _RECORD_KV}, {"kv": _LIVE_KV}]}},
    {"result": {"events": [{"type": "DELETE", "kv": {**_LIVE_KV, "mod_revision": "6"}}]}},
    {"result": {"canceled": True, "compact_revision": "9", "cancel_reason": "gone"}},
    {"error": {"code": 14, "message": "no leader"}},
)


# -- a facade -----------------------------------------------------------------------------------


def _remote(data: bytes) -> None:
    reader = EventReader(100_000)

    class _FakeApi:
        async def events(self, _: Any) -> Any:
            try:
                for event in reader.feed(data):
                    yield event
            except ProbeError as error:
                raise StoreUnavailableError("http:", str(error)) from error
            raise StoreUnavailableError("http:", "the stream ended")

    async def read() -> None:
        store = RemoteStore("http://127.0.0.1:9")
        store._api = _FakeApi()  # type: ignore[assignment]
        async for _ in store.watch():
            pass

    _run(read())


def _event(name: str) -> Any:
    return lambda data: (
        b"event: " + name.encode() + b"\ndata: " + data.replace(b"\n", b" ") + b"\n\n"
    )


_STREAMS = st.one_of(
    json_like({"epoch": "a", "revision": 1, "servers": [ENTRY]}).map(_event("snapshot")),
    json_like({"id": ENTRY["id"], "server": ENTRY}, {"id": "a", "server": None}).map(
        _event("change")
    ),
    json_like({"staleSince": "2026-01-01T00:00:00Z", "problem": "away"}).map(_event("stale")),
)


def _problem(data: bytes) -> None:
    """A facade's error, whatever its body is."""
    api = FacadeApi("http://127.0.0.1:9", StoreOptions())
    for status in (300, 400, 404, 409, 410, 422, 500):
        try:
            api._checked(StoreResponse(status, {}, data))
        except Exception as error:
            if (
                "mcp_discovery.errors" not in type(error).__module__
                and "adapters" not in type(error).__module__
            ):
                raise


# -- store URLs ---------------------------------------------------------------------------------


def _url(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    rest = text.partition(":")[2]
    for parse in (parse_consul_url, parse_etcd_url, embedded_path):
        for url in (text, f"consul:{rest}", f"etcd:{rest}", f"embedded:{rest}"):
            try:
                parse(url)
            except InvalidStoreURLError:
                continue
    FacadeApi(text, StoreOptions())


_KVS = json_like([_RECORD_KV, _LIVE_KV], [])

TARGETS = (
    Target("consul", _consul(""), (StoreError,), _both(json_like(_HEALTH, []), json_like(_KV))),
    Target(
        "consul-per-server",
        _consul("?mode=service-per-server"),
        (StoreError,),
        _both(json_like(_CHECKS, []), json_like(_KV)),
    ),
    Target(
        "etcd",
        _etcd,
        (StoreError,),
        _both(
            _KVS.filter(lambda data: _is_list(data)),
            st.lists(json_like(*_WATCHED), max_size=4).map(b"\n".join).map(lambda d: d + b"\n"),
        ),
    ),
    Target("remote", _remote, (StoreError,), _STREAMS),
    Target("problem", _problem, (), json_like({"type": "urn:x", "detail": "no", "id": "a"})),
    Target(
        "store-url",
        _url,
        (InvalidStoreURLError,),
        text_like(
            *("consul://127.0.0.1:8500/mcp?dc=a&mode=one-service", "etcd://a:1,[::1]:2/p%2Fq"),
            *("embedded:///tmp/x.db", "http://facade:4000", "consul+https://user:pass@h"),
        ),
    ),
)


def _is_list(data: bytes) -> bool:
    """The gateway has checked as much."""
    try:
        return isinstance(orjson.loads(data), list)
    except ValueError:
        return False
