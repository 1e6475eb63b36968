"""A store that is a facade with ``--auth``: tokens that are rotated, refused, and lack a right."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from mcp_discovery.adapters.catalog import Catalog
from mcp_discovery.adapters.remote import RemoteStore, api
from mcp_discovery.adapters.store import Change, Snapshot, StoreOptions
from mcp_discovery.errors import ForbiddenError, StoreUnavailableError, UnauthenticatedError
from mcp_discovery.facade.access.tokens import hash_of, new_token
from mcp_discovery.health import Status, healthy
from mcp_discovery.record import Record
from tests.facade.access.tokens import ROLES, SCOPES, TOKENS, guarded, write_auth_file
from tests.facade.harness import served
from tests.records import document, record
from tests.stores.waiting import until

_OTHER = new_token("registrar")


def only(token: str) -> dict[str, object]:
    return {"registrar": {"hash": hash_of(token), "roles": "registrar"}}


async def test_a_rotated_token_loses_no_registration_and_no_list(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKENS["registrar"])
    auth = tmp_path / "auth.yaml"
    async with (
        guarded(tmp_path) as ask,
        RemoteStore(ask.url, StoreOptions(token_file=str(file))) as store,
    ):
        registration = await store.register(record(), document("a"), ttl=30, reap_after=60)
        async with Catalog(store) as catalog:
            await catalog.ready()
            # The old one counts no more before the new one is there.
            write_auth_file(auth, tokens=only(_OTHER))
            what = "the old token being refused"
            await until(lambda: _refused(registration.heartbeat(healthy())), timeout=20, what=what)
            file.write_text(_OTHER)
            await registration.heartbeat(healthy())

            async def confirmed() -> bool:
                return catalog.view.stale_since is None

            await until(confirmed, timeout=20, what="the list being confirmed again")
            (entry,) = catalog.view.entries.values()
            assert entry.health.status is Status.HEALTHY
            assert catalog.view.revision == 1  # it was never shown otherwise
        await registration.deregister()


async def _refused(call: Awaitable[None]) -> bool:
    try:
        await call
    except UnauthenticatedError:
        return True
    return False


async def test_refusals_say_what_is_missing(tmp_path: Path) -> None:
    async with guarded(tmp_path) as ask:
        async with RemoteStore(ask.url, StoreOptions(token=TOKENS["reader"])) as store:
            with pytest.raises(ForbiddenError, match="no right to register; ask for a") as caught:
                await store.register(record(), document("a"), ttl=30, reap_after=60)
            assert caught.value.needs == "register"
        async with RemoteStore(ask.url) as store:
            with pytest.raises(UnauthenticatedError, match="--store-token-file"):
                await store.register(record(), document("a"), ttl=30, reap_after=60)
            with pytest.raises(UnauthenticatedError):
                async with aclosing(store.watch()) as events:
                    await anext(events)


async def test_a_token_that_cannot_be_had_is_a_store_that_is_away(tmp_path: Path) -> None:
    async def asked() -> str:
        raise OSError("the issuer is away")

    async with guarded(tmp_path) as ask, RemoteStore(ask.url, StoreOptions(token=asked)) as store:
        with pytest.raises(StoreUnavailableError, match="OSError: the issuer is away"):
            await store.register(record(), document("a"), ttl=30, reap_after=60)


async def test_a_watch_goes_on_when_the_facade_ends_its_stream_with_the_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "_WHOLE_STREAM", 0.0)  # however short it was
    tokens = [new_token("first"), TOKENS["registrar"]]
    first, second = (
        {name: {"hash": hash_of(token), "subject": "sidecar", "roles": "registrar"}}
        for name, token in zip(("first", "registrar"), tokens, strict=True)
    )
    asked: list[str] = []

    async def ask_for_token() -> str:
        asked.append(tokens[min(len(asked), 1)])
        return asked[-1]

    async with (
        guarded(tmp_path, {"tokens": first | second}) as ask,
        RemoteStore(ask.url, StoreOptions(token=ask_for_token)) as store,
    ):
        await store.register(record("a"), document("a"), ttl=30, reap_after=60)
        async with aclosing(store.watch()) as events:
            snapshot = await anext(events)
            assert isinstance(snapshot, Snapshot) and list(snapshot.instances) == ["a"]
            write_auth_file(tmp_path / "auth.yaml", tokens=second)
            async with asyncio.timeout(30):
                registering = asyncio.create_task(_after(asked, store))
                change = await anext(events)
                await registering
            assert isinstance(change, Change) and change.id == "b"
    assert asked == tokens


async def _after(asked: list[str], store: RemoteStore) -> None:
    """Registers an instance once the stream was opened with the second token."""

    async def twice() -> bool:
        return len(asked) == 2

    await until(twice, timeout=20, what="a second token being asked for")
    await store.register(record("b"), document("a"), ttl=30, reap_after=60)


async def test_what_a_token_lacks_is_known_without_writing(tmp_path: Path) -> None:
    async def lacking(role: str | None, for_what: Record | None) -> str | None:
        token = None if role is None else TOKENS[role]
        async with RemoteStore(ask.url, StoreOptions(token=token)) as store:
            return await store.would_refuse(for_what)

    async with guarded(tmp_path) as ask:
        assert await lacking("registrar", record()) is None
        assert await lacking("reader", None) is None
        found = await lacking("reader", record())
        assert found == f"reader (roles: reader) has no right to register at {ask.url}"
        found = await lacking(None, record())
        assert found == f"{ask.url} wants a token to register, and none is given"
        async with RemoteStore(ask.url, StoreOptions(token="mcpd_x_" + "x" * 43)) as store:
            with pytest.raises(UnauthenticatedError):
                await store.would_refuse(record())
    async with served() as ask:
        assert await lacking(None, record()) is None


async def test_who_may_keep_queries_is_known_without_writing(tmp_path: Path) -> None:
    sections: dict[str, Any] = {
        "roles": dict(ROLES) | {"employee": "team"},
        "scopes": dict(SCOPES) | {"team": [{"verbs": ["read", "register"], "names": ["a*"]}]},
    }

    async def lacking(role: str) -> str | None:
        async with RemoteStore(ask.url, StoreOptions(token=TOKENS[role])) as store:
            return await store.keeps_queries()

    async with guarded(tmp_path, sections) as ask:
        assert await lacking("registrar") is None
        assert f"no right to register at {ask.url}" in str(await lacking("reader"))
        assert await lacking("employee") == (
            f"employee may register some servers alone at {ask.url}"
        )
        async with RemoteStore(ask.url, StoreOptions(token=TOKENS["employee"])) as store:
            await store.queries()  # there is none whose definition is hidden
            async with RemoteStore(ask.url, StoreOptions(token=TOKENS["operator"])) as other:
                await other.put_query("pay", b"{}")
            with pytest.raises(ForbiddenError, match="who see all servers"):
                await store.queries()
            with pytest.raises(ForbiddenError, match="register every server"):
                await store.put_query("pay", b"{}")
