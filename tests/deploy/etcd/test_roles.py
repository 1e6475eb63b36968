"""The roles of ``deploy/etcd/roles.sh``: enough for what each does, and not more."""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing

import pytest
import pytest_asyncio

from mcp_discovery.adapters.etcd import EtcdStore
from mcp_discovery.adapters.etcd import documents as documents_module
from mcp_discovery.adapters.etcd.keys import encode
from mcp_discovery.adapters.store import StoreOptions
from mcp_discovery.errors import StoreDeniedError
from mcp_discovery.health import Health, Status, healthy
from mcp_discovery.record import Record
from tests.deploy.etcd.roles import (
    DOMAIN,
    PASSWORD,
    Permission,
    environment,
    etcdctl,
    grant,
    permissions,
    revoke,
    run,
    script,
)
from tests.records import document, record
from tests.stores.etcd import EtcdServer
from tests.stores.server import RequestRefused

#: What ``roles.sh roles`` grants, in full.
GRANTED = {
    "mcp-sidecar": [
        ("READWRITE", "/mcp/documents/"),
        ("READWRITE", "/mcp/ids/"),
        ("READWRITE", "/mcp/live/"),
        ("READWRITE", "/mcp/servers/"),
        ("READWRITE", "/skydns/internal/example/_"),
        ("READWRITE", "/skydns/internal/example/mcp/"),
    ],
    "mcp-facade": [("READ", "/mcp/documents/"), ("READ", "/mcp/live/")],
    "mcp-queries": [("READWRITE", "/mcp/queries/")],
    "mcp-sweeper": [("READWRITE", "/mcp/documents/"), ("READ", "/mcp/servers/")],
    "mcp-dns": [("READ", "/skydns/internal/example/")],
    "mcp-sidecar-product-catalog": [
        ("READWRITE", "/mcp/documents/"),
        ("READWRITE", "/mcp/ids/product-catalog-"),
        ("READWRITE", "/mcp/live/product-catalog-"),
        ("READWRITE", "/mcp/servers/product-catalog/"),
        *(
            ("READWRITE", f"/skydns/internal/example/_{label}/_mcp/product-catalog-")
            for label in ("product-catalog", "products")
        ),
        *(
            ("READWRITE", f"/skydns/internal/example/mcp/{path}/product-catalog-")
            for path in (
                *("product-catalog", "products", "tag/products", "server/_product-catalog"),
                "_agents/product-catalog",
            )
        ),
        ("WRITE", "/skydns/internal/example/mcp/server/product-catalog/product-catalog-"),
        ("READ", "/mcp/servers/products/"),
        ("READ", "/skydns/internal/example/mcp/server/product-catalog/"),
        ("READ", "/skydns/internal/example/mcp/tag/product-catalog/"),
    ],
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def served() -> AsyncIterator[EtcdServer]:
    """An etcd with users, set up as the script's first comment says."""
    async with EtcdServer(auth=True) as server:
        await script(server, "roles")
        await script(server, "roles")  # may be run again
        await script(server, "server", "product-catalog", "products")
        for role in GRANTED:
            await script(server, "user", role, role)
        await script(server, "user", "facade-with-all", "mcp-facade,mcp-sweeper,mcp-sidecar")
        yield server


@pytest.fixture
def open_as(served: EtcdServer) -> Callable[..., EtcdStore]:
    """Opens the store as a user; ``dns`` says whether with SkyDNS records."""

    def opened(user: str, *, dns: bool = True) -> EtcdStore:
        url = served.store_url + (f"?skydns={DOMAIN}&skydns-agents=true" if dns else "")
        return EtcdStore(url, StoreOptions(user=user, password=PASSWORD))

    return opened


async def whole_life(store: EtcdStore, id: str = "any", rename: str | None = "renamed") -> None:
    """Everything that a sidecar does; ``id`` is what its instance's begins with."""
    id = f"{id}-{secrets.token_hex(4)}"  # what failed before may be listed yet
    first = record(id, tags=["products"])
    big = document(secrets.token_hex(8), filler=4000)  # one that is not there yet
    registration = await store.register(first, big, ttl=20, reap_after=60)
    await registration.heartbeat(healthy())
    await registration.heartbeat(Health(Status.DEGRADED, "slow"))
    await registration.heartbeat(healthy())
    changed = record(id, name=rename or first.name, tags=["products"])
    await registration.update(changed, document("b"))
    registration._heartbeats._verified -= 60  # it is time to look whether all is still there
    await registration.heartbeat(healthy())
    again = await store.register(changed, document("b"), ttl=20, reap_after=60)
    await again.drain()
    await again.heartbeat(healthy())
    await again.deregister()
    assert await store.document(big.digest) == big


async def listing(store: EtcdStore) -> None:
    """Everything that a facade does which keeps nothing itself."""
    offered = document("offered-to-facades")
    assert await store.document(offered.digest) == offered
    async with aclosing(store.watch()) as events:
        await anext(events)
    await store.queries()


async def keeping_queries(store: EtcdStore) -> None:
    """What a facade does that keeps named queries."""
    version = await store.put_query("payments", b"{}")
    assert set(await store.queries()) == {"payments"}
    await store.put_query("payments", None, expected=version)


async def sweeping(store: EtcdStore) -> None:
    """What a sweep does: it finds documents, and removes those that nobody needs."""
    store._documents._unreferenced._grace = 0.0
    assert await store.sweep() >= 1


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents in chunks, too."""
    monkeypatch.setattr(documents_module, "CHUNK", 1000)


@pytest.fixture
async def furnished(served: EtcdServer) -> None:
    """A document that a facade can read, and one that a sweep can remove."""
    options = StoreOptions(user="root", password=served.password)
    async with EtcdStore(served.store_url, options) as store:
        await store._documents.put_missing(document("offered-to-facades"))
        await store._documents.put_missing(document("needed-by-nobody"))


WORK: dict[str, Callable[[EtcdStore], Awaitable[None]]] = {
    "mcp-sidecar": whole_life,
    "mcp-facade": listing,
    "mcp-queries": keeping_queries,
    "mcp-sweeper": sweeping,
    "mcp-sidecar-product-catalog": lambda store: whole_life(store, "product-catalog", rename=None),
}


#: What each role keeps registered, or lists, as the doctor asks for it.
KEPT: dict[str, tuple[Record | None, ...]] = {
    "mcp-sidecar": (record("any-1", name="any", tags=["products"]),),
    "mcp-facade": (None,),
    "mcp-sidecar-product-catalog": (record("product-catalog-1", tags=["products"]),),
}


@pytest.mark.parametrize("role", list(GRANTED))
async def test_the_script_grants_just_this(served: EtcdServer, role: str) -> None:
    found = await permissions(served, role)
    assert sorted((each.kind, each.first) for each in found) == sorted(GRANTED[role])
    for each in found:
        last = "/mcp/servers0" if each.first == "/mcp/live/" and each.kind == "READ" else None
        assert each.end == (last or each.first[:-1] + chr(ord(each.first[-1]) + 1))


@pytest.mark.parametrize("role", list(WORK))
async def test_a_role_is_enough(
    furnished: None, open_as: Callable[..., EtcdStore], role: str
) -> None:
    async with open_as(role) as store:
        assert [await store.would_refuse(each) for each in KEPT.get(role, ())] == [None] * len(
            KEPT.get(role, ())
        )
        await WORK[role](store)


async def test_a_sidecar_without_names_needs_no_permission_for_them(
    served: EtcdServer, open_as: Callable[..., EtcdStore]
) -> None:
    lacking = [each for each in await permissions(served, "mcp-sidecar") if "sky" in each.first]
    for each in lacking:
        await revoke(served, "mcp-sidecar", each)
    try:
        async with open_as("mcp-sidecar", dns=False) as store:
            await whole_life(store)
    finally:
        for each in lacking:
            await grant(served, "mcp-sidecar", each)


async def test_a_facade_of_posted_servers_has_three_roles(
    furnished: None, open_as: Callable[..., EtcdStore]
) -> None:
    async with open_as("facade-with-all") as store:
        await whole_life(store, "posted")
        await listing(store)
        await sweeping(store)


def _cases() -> list[tuple[str, int, str]]:
    """Each permission taken away, and each of READWRITE cut to one half."""
    return [
        (role, number, left)
        for role in WORK
        for number, (kind, _) in enumerate(sorted(GRANTED[role]))
        for left in ("nothing", *(("READ", "WRITE") if kind == "READWRITE" else ()))
    ]


@pytest.mark.parametrize(("role", "number", "left"), _cases())
async def test_with_one_permission_less_a_role_fails_and_says_so(
    served: EtcdServer,
    furnished: None,
    open_as: Callable[..., EtcdStore],
    role: str,
    number: int,
    left: str,
) -> None:
    kind, first = sorted(GRANTED[role])[number]
    (whole,) = [p for p in await permissions(served, role) if (p.kind, p.first) == (kind, first)]
    if left == "nothing":
        await revoke(served, role, whole)
    else:
        await grant(served, role, Permission(left, whole.first, whole.end))
    try:
        async with open_as(role) as store:
            told = [await store.would_refuse(each) for each in KEPT.get(role, ())]
            with pytest.raises(StoreDeniedError) as caught:
                await WORK[role](store)
        lacks = {"nothing": kind, "READ": "WRITE", "WRITE": "READ"}[left]
        said = f"permission denied: the user {role!r} lacks "
        for each in told:
            assert each is not None
            assert said in each and f"{lacks} on {first}" in each, each
        error = str(caught.value)
        assert said in error and PASSWORD not in error
        any_of = "(READ|WRITE|READWRITE)" if lacks == "READWRITE" else lacks
        assert re.search(f"{any_of} on {first}", error), error
    finally:
        await grant(served, role, whole)
    async with open_as(role) as store:
        await WORK[role](store)


# -- abuse -----------------------------------------------------------------------------------

_ELSEWHERE = ("/other", "/mcp", "/mcp/lives/x", "/mcp/servers0", "/skydns/internal/other/x")
_OF_ALL = ("/mcp/documents/x", "/mcp/ids/x", "/mcp/live/x", "/mcp/servers/x/x")
_NAMES = ("/skydns/internal/example/mcp/x/x/host", "/skydns/internal/example/_x/_mcp/x")
#: Keys that a role must not write …
UNWRITABLE = {
    "mcp-sidecar": _ELSEWHERE,
    "mcp-facade": (*_ELSEWHERE, *_OF_ALL, *_NAMES, "/mcp/queries/x"),
    "mcp-queries": (*_ELSEWHERE, *_OF_ALL, *_NAMES),
    "mcp-sweeper": (*_ELSEWHERE, *_OF_ALL[1:], *_NAMES),
    "mcp-dns": (*_ELSEWHERE, *_OF_ALL, *_NAMES),
    "mcp-sidecar-product-catalog": (
        *_ELSEWHERE,
        *_OF_ALL[1:],
        *_NAMES,
        "/mcp/servers/product-catalogue/product-catalog-1",
        "/mcp/live/product-catalog",
        "/mcp/live/product-catalogue-1",
        "/skydns/internal/example/mcp/products/other-1/host",
        "/skydns/internal/example/mcp/inventory/product-catalog-1/host",
        "/skydns/internal/example/mcp/server/other/product-catalog-1/host",
        "/skydns/internal/example/mcp/_agents/other/product-catalog-1",
    ),
}
#: … and must not read.
UNREADABLE = {
    "mcp-sidecar": _ELSEWHERE,
    "mcp-facade": ("/other", "/mcp", "/mcp/ids/x", *_NAMES),
    "mcp-queries": (*_ELSEWHERE, *_OF_ALL, *_NAMES),
    "mcp-sweeper": (*_ELSEWHERE, "/mcp/ids/x", "/mcp/live/x", *_NAMES),
    "mcp-dns": (*_ELSEWHERE, *_OF_ALL),
    "mcp-sidecar-product-catalog": UNWRITABLE["mcp-sidecar-product-catalog"],
}


@pytest.mark.parametrize("role", list(GRANTED))
async def test_a_role_reaches_no_other_keys(served: EtcdServer, role: str) -> None:
    async def refused(path: str, body: Mapping[str, object]) -> bool:
        headers = {"Authorization": await served.authenticate(role, PASSWORD)}
        try:
            await served.request("POST", f"/v3/{path}", body=body, headers=headers)
        except RequestRefused as error:
            return "permission denied" in error.body
        return False

    for key in UNWRITABLE[role]:
        put = {"key": encode(key), "value": encode("x")}
        assert await refused("kv/put", put), key
        assert await refused("kv/deleterange", {"key": encode(key)}), key
        assert await refused("kv/txn", {"success": [{"request_put": put}]}), key
    for key in UNREADABLE[role]:
        assert await refused("kv/range", {"key": encode(key)}), key
    everything = {"key": encode("\0"), "range_end": encode("\0")}
    assert await refused("kv/range", everything)
    assert await refused("kv/deleterange", everything)


@pytest.mark.parametrize("role", list(GRANTED))
async def test_a_role_changes_no_users_and_no_cluster(served: EtcdServer, role: str) -> None:
    mine = environment(served, role)
    for command in (
        "user list",
        "user get root",
        "user add x:y",
        "user delete root",
        "user passwd root --interactive=false",
        f"user grant-role {role} root",
        "role list",
        "role get root",
        "role add x",
        f"role grant-permission {role} readwrite / --prefix=true",
        "auth disable",
        "snapshot save /dev/null",
        "defrag",
        "member add x --peer-urls=http://127.0.0.1:1",
    ):
        code, said = await run(mine, etcdctl(), *command.split(), given=PASSWORD)
        assert code != 0, command
        assert "permission denied" in said.lower(), (command, said)


async def test_a_lease_with_keys_of_others_is_not_revoked(
    served: EtcdServer, open_as: Callable[..., EtcdStore]
) -> None:
    """Leases have no owner in etcd: only who may write each of their keys can revoke one."""
    async with open_as("mcp-sidecar") as store:
        registration = await store.register(
            record("another-1"), document("a"), ttl=20, reap_after=60
        )
        found = await served.call("kv/range", {"key": encode("/mcp/live/another-1")})
        lease = int(found["kvs"][0]["lease"])
        for role in GRANTED.keys() - {"mcp-sidecar"}:
            code, said = await run(
                environment(served, role), etcdctl(), "lease", "revoke", f"{lease:x}"
            )
            assert code != 0, role
            assert "permission denied" in said, said
        await registration.heartbeat(healthy())
        await registration.deregister()
