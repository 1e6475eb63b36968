"""What only the remote store has: a facade at the other end, or something that is none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest
from aiohttp import web

from mcp_discovery.adapters import open_store
from mcp_discovery.adapters.remote import RemoteStore
from mcp_discovery.adapters.store import StoreOptions
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import InvalidStoreURLError, StoreDeniedError, StoreUnavailableError
from tests.contract.served_facade import ServedFacade
from tests.records import document, record


@pytest.mark.parametrize(
    "url", ["http://", "http://u:p@h:4000", "http://h:4000/?a=1", "http://[::1", "http://h:999999"]
)
async def test_malformed_urls_do_not_repeat_a_password(url: str) -> None:
    with pytest.raises(InvalidStoreURLError, match="write http://") as caught:
        open_store(url)
    assert "u:p" not in str(caught.value)


@asynccontextmanager
async def faulty_facade(handler: object) -> AsyncIterator[RemoteStore]:
    """Something at the address of a facade that is none: a real one cannot be made so wrong."""
    app = web.Application()
    app.router.add_route("*", "/{any:.*}", handler)  # type: ignore[arg-type]
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        port = runner.addresses[0][1]
        async with RemoteStore(f"http://127.0.0.1:{port}", StoreOptions(timeout=1)) as store:
            yield store
    finally:
        await runner.cleanup()


async def _page(_: web.Request) -> web.Response:
    return web.Response(status=404, text="<h1>Not here</h1>", content_type="text/html")


async def _nonsense(_: web.Request) -> web.Response:
    return web.Response(body=b"event: snapshot\ndata: [1, 2\n\n", content_type="text/event-stream")


async def _denied(_: web.Request) -> web.Response:
    return web.json_response({"detail": "no token"}, status=401)


async def _busy(_: web.Request) -> web.Response:
    return web.json_response({"title": "Too Many Requests", "detail": "slow down"}, status=429)


async def _silent(_: web.Request) -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError("nobody sets it")


@pytest.mark.parametrize(
    ("handler", "error", "says"),
    [
        (_page, StoreUnavailableError, "is this the address of a facade"),
        (_denied, StoreDeniedError, "no token"),
        (_busy, StoreUnavailableError, "HTTP 429: slow down"),
        (_silent, StoreUnavailableError, "no answer within 1 s"),
    ],
)
async def test_what_answers_like_no_facade(
    handler: object, error: type[Exception], says: str
) -> None:
    async with faulty_facade(handler) as store:
        with pytest.raises(error, match=says):
            await store.register(record(), document("a"), ttl=10, reap_after=20)
        with pytest.raises(error, match=says):
            async with aclosing(store.watch()) as events:
                await anext(events)


async def test_events_that_are_no_events() -> None:
    async with faulty_facade(_nonsense) as store:
        with pytest.raises(StoreUnavailableError, match="cannot be read"):
            async with aclosing(store.watch()) as events:
                await anext(events)


async def test_a_registration_goes_on_when_the_facade_was_restarted_with_its_file(
    tmp_path: object,
) -> None:
    from mcp_discovery.adapters.embedded import EmbeddedStore
    from mcp_discovery.errors import RegistrationLostError
    from mcp_discovery.health import healthy

    url = f"embedded://{tmp_path}/store.db"
    async with ServedFacade(EmbeddedStore(url)) as facade, RemoteStore(facade.url) as store:
        registration = await store.register(record(), document("a"), ttl=30, reap_after=60)
        await facade.stop()
        await facade.start(EmbeddedStore(url))
        with pytest.raises(
            RegistrationLostError
        ):  # the list is there, the facade's hold on it is not
            await registration.heartbeat(healthy())
        again = await store.register(record(), document("a"), ttl=30, reap_after=60)
        await again.heartbeat(healthy())


async def test_a_facade_of_a_release_before_skills_gets_documents_without_them() -> None:
    """It makes a digest of what it knows, and takes no document that has another."""
    plain = document("find")
    known: set[str] = set()

    async def older(request: web.Request) -> web.Response:
        if request.method == "PUT":
            digest = request.path.rpartition("/")[2]
            if digest != plain.digest:
                refused = {"type": "urn:mcp-discovery:problem:invalid-document", "detail": "no"}
                return web.json_response(refused, status=422)
            known.add(digest)
            return web.Response(status=204)
        offered = (await request.json())["capabilities"]
        if offered["digest"] in known:
            registered.append(offered)
            return web.json_response({}, status=201)
        unknown = {"type": "urn:mcp-discovery:problem:unknown-document", "detail": "send it"}
        return web.json_response(unknown, status=409)

    registered: list[dict[str, object]] = []
    skill = {"uri": "skill://a/SKILL.md", "frontmatter": {"name": "a"}}
    offered = CapabilityDocument(tools=plain.tools, skills=(skill,))
    async with faulty_facade(older) as store:
        named = record(capabilities=offered.names())
        await store.register(named, offered, ttl=30, reap_after=60)
    (listed,) = registered
    assert (listed["skills"], listed["digest"]) == (["a"], plain.digest)
