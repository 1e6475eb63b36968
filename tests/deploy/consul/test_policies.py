"""Each ACL policy of `deploy/consul/policies/` is enough for its role, and not more.

Enough: the role does all of its work. Not more, in two ways: with any one rule taken away it fails
at something, in one sentence; and with the token itself, whatever is not the role's is refused by
Consul.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from mcp_discovery.adapters.consul import ConsulStore
from mcp_discovery.adapters.store import StoreOptions, new_holder
from mcp_discovery.errors import DuplicateInstanceError, StoreDeniedError
from mcp_discovery.health import Health, Status, healthy
from tests.contract.watcher import watching
from tests.deploy.consul.agents import POLICIES
from tests.facade.harness import served
from tests.records import document, record
from tests.stores import ConsulServer, RequestRefused

OWN = "?mode=service-per-server"
_RULE = re.compile(r'^(\w+) "([^"]*)" \{\n  policy = "(\w+)"\n\}\n', re.MULTILINE)


def rules_of(role: str) -> dict[str, str]:
    """The rules of a policy file, by what they are about."""
    text = (POLICIES / f"{role}.hcl").read_text()
    found = {f"{m[1]} {m[2]!r}": m[0] for m in _RULE.finditer(text)}
    bare = [line for line in text.splitlines() if not line.startswith("#")]
    assert len(found) == sum(line.endswith("{") for line in bare), "a rule was not understood"
    return found


def cases() -> list[tuple[str, str]]:
    """Each role with each of its rules."""
    roles = sorted(path.stem for path in POLICIES.glob("*.hcl"))
    return [(role, rule) for role in roles for rule in rules_of(role)]


@dataclass
class SecuredConsul:
    """An ACL server and stores with tokens of given rules."""

    server: ConsulServer

    async def store(self, rules: str, query: str = "") -> ConsulStore:
        """A store with a new token that has just these rules."""
        token = await self.server.create_token(rules)
        return ConsulStore(self.server.store_url + query, StoreOptions(token=token))

    def master(self, query: str = "") -> ConsulStore:
        """A store with the management token."""
        return ConsulStore(self.server.store_url + query, StoreOptions(token=self.server.token))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def secured() -> AsyncIterator[SecuredConsul]:
    async with ConsulServer(acl=True) as server:
        yield SecuredConsul(server)


@pytest.fixture(autouse=True)
async def clean(secured: SecuredConsul) -> AsyncIterator[None]:
    yield
    services = await secured.server.api("GET", "/v1/agent/services")
    for id in services.json():
        await secured.server.api("PUT", f"/v1/agent/service/deregister/{id}")
    await secured.server.api(
        "PUT", "/v1/catalog/deregister", body={"Node": "dead", "Datacenter": "dc1"}
    )
    await secured.server.api("DELETE", "/v1/kv/?recurse")


# Enough


async def live(store: ConsulStore, name: str = "product-catalog", *, rename: bool = True) -> None:
    """All that a sidecar ever does with its store."""
    assert await store.node_address()
    registration = await store.register(
        record("life-1", name=name), document("a"), ttl=30, reap_after=60
    )
    for status in (Status.DEGRADED, Status.DOWN, Status.DOWN):
        await registration.heartbeat(Health(status, f"looked {status}"))
    await registration.heartbeat(healthy())
    await registration.require_held()
    await registration.update(record("life-1", name=name, version="2.0.0"), document("b"))
    if rename:
        await registration.update(record("life-1", name="renamed"), document("b"))
    await registration.drain()
    await registration.deregister()


@pytest.mark.parametrize(
    ("role", "query"), [("sidecar", ""), ("sidecar-of-one-server", OWN)], ids=["one", "own"]
)
async def test_a_sidecar_has_enough(secured: SecuredConsul, role: str, query: str) -> None:
    async with await secured.store("".join(rules_of(role).values()), query) as store:
        assert await store.would_refuse(_OWN_RECORD) is None
        await live(store, rename=not query)
        # An id that another server holds is refused by name, as with all rights.
        async with secured.master(query) as other:
            await other.register(
                record("life-1", name="weather"), document(), ttl=30, reap_after=60
            )
            with pytest.raises(DuplicateInstanceError, match="sidecar"):
                await live(store, rename=False)


async def test_a_facade_has_enough_to_watch_and_with_the_sidecars_to_keep_what_is_posted(
    secured: SecuredConsul,
) -> None:
    reading = "".join(rules_of("facade").values())
    body = {"name": "posted", "url": "http://127.0.0.1:9/mcp", "transport": "streamable-http"}
    async with secured.master() as other:
        await other.register(record(), document("a"), ttl=30, reap_after=60)
        async with await secured.store(reading) as store, served(store) as client:
            await client.until_status("catalog-1", "healthy", 5)
            assert (await client("GET", "/servers/catalog-1/capabilities")).json["tools"]
            refused = await client("POST", "/servers", body)
            assert refused.status >= 400
            assert "denied" in refused.json["detail"].lower()
        both = "".join(rules_of("sidecar").values())
        async with await secured.store(both) as store, served(store) as client:
            posted = await client("POST", "/servers", body)
            assert posted.status == 201
            deleted = await client("DELETE", f"/servers/{posted.json['id']}")
            assert deleted.status in (200, 204)


async def test_a_facade_answers_queries_and_keeps_them_with_the_policy_for_that(
    secured: SecuredConsul,
) -> None:
    reading, keeping = ("".join(rules_of(each).values()) for each in ("facade", "queries"))
    body = {"filters": {"tags": ["products"]}}
    async with await secured.store(reading + keeping) as store, served(store) as client:
        assert await store.keeps_queries() is None
        assert (await client("PUT", "/queries/products", body)).status == 201
    async with await secured.store(reading) as store, served(store) as client:
        assert (await client("GET", "/queries/products")).status == 200
        for method in ("PUT", "DELETE"):
            refused = await client(method, "/queries/products", body)
            assert refused.status == 502
            assert "lacks key:write on 'mcp/queries/'" in refused.json["detail"]
        assert "lacks key:write on 'mcp/queries/'" in str(await store.keeps_queries())


async def litter(secured: SecuredConsul) -> None:
    """An orphan, a document that nothing names, and a service on a machine that is gone."""
    async with secured.master() as other:
        await other.register(record("orphan-1"), document("orphan"), ttl=30, reap_after=60)
        await secured.server.api("PUT", "/v1/agent/service/deregister/orphan-1")
    await secured.server.put(f"mcp/documents/{document('unnamed').digest}/1-of-1", "x")
    dead: dict[str, Any] = {
        "Node": "dead",
        "Address": "10.9.9.9",
        "Service": {"ID": "dead-1", "Service": "mcp", "Tags": ["dead"]},
        "Checks": [
            {"Node": "dead", "CheckID": "serfHealth", "Name": "Serf", "Status": "critical"},
            {
                "Node": "dead",
                "CheckID": "mcp:dead-1",
                "Name": "MCP heartbeat",
                "ServiceID": "dead-1",
                "Status": "passing",
                "Notes": "held by 0123456789abcdef",
            },
        ],
    }
    await secured.server.api("PUT", "/v1/catalog/register", body=dead)


async def sweep_all(store: ConsulStore) -> int:
    """Sweeps until nothing goes any more; how many keys and services went."""
    total = await store.sweep()
    while removed := await store.sweep():
        total += removed
    return total


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweeper that waits for nothing, for it waits a minute otherwise."""
    monkeypatch.setattr("mcp_discovery.adapters.consul.store.GRACE", 0.0)
    monkeypatch.setattr("mcp_discovery.adapters.consul.store.LEAST_REAP", 0.0)


@pytest.mark.usefixtures("impatient")
async def test_a_sweeper_has_enough(secured: SecuredConsul) -> None:
    await litter(secured)
    async with await secured.store("".join(rules_of("sweeper").values())) as store:
        assert await sweep_all(store) == 4


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("role", ["facade", "sweeper"])
async def test_as_the_files_say_for_a_service_for_each_server(
    secured: SecuredConsul, role: str
) -> None:
    """`service_prefix "mcp-"` in place of `service "mcp"`."""
    assert 'service_prefix "mcp-" in place of service "mcp"' in (
        POLICIES / f"{role}.hcl"
    ).read_text().replace("\n# ", " ")
    rules = "".join(rules_of(role).values()).replace('service "mcp"', 'service_prefix "mcp-"')
    async with secured.master(OWN) as other, await secured.store(rules, OWN) as store:
        await other.register(record(), document("a"), ttl=30, reap_after=60)
        async with watching(store) as watcher:
            await watcher.until_status("catalog-1", Status.HEALTHY, 5)
        await store.document(document("a").digest)
        if role == "sweeper":
            await secured.server.api("PUT", "/v1/agent/service/deregister/catalog-1")
            assert await sweep_all(store) == 2  # the record, then the document


# Not more, rule by rule


async def _watched(store: ConsulStore) -> None:
    async with aclosing(store.watch()) as events:
        await anext(events)


async def _registered(store: ConsulStore) -> None:
    await store.register(record("life-1"), document("a"), ttl=30, reap_after=60)


async def _registered_where_taken(store: ConsulStore) -> None:
    await store.register(record(), document("a"), ttl=30, reap_after=60, holder=new_holder())


async def _read_document(store: ConsulStore) -> None:
    await store.document(document("a").digest)


async def _read_queries(store: ConsulStore) -> None:
    await store.queries()


async def _kept_query(store: ConsulStore) -> None:
    await store.put_query("payments", b"{}")


_OWN_RECORD = record("life-1", capabilities={"digest": document("a").digest})
_SENTENCE = {
    ("sidecar", "service 'mcp'"): (_registered, "ermission denied"),
    ("sidecar", "key_prefix 'mcp/servers/'"): (_registered, "ermission denied"),
    ("sidecar", "key_prefix 'mcp/documents/'"): (_registered, "ermission denied"),
    ("sidecar", "node_prefix ''"): (_registered_where_taken, "lacks node:read"),
    ("sidecar-of-one-server", "service 'mcp-product-catalog'"): (_registered, "ermission denied"),
    ("sidecar-of-one-server", "service_prefix 'mcp-'"): (
        _registered_where_taken,
        "ermission denied",
    ),
    ("sidecar-of-one-server", "key_prefix 'mcp/servers/product-catalog/'"): (
        _registered,
        "ermission denied",
    ),
    ("sidecar-of-one-server", "key_prefix 'mcp/servers/'"): (
        _registered_where_taken,
        "ermission denied",
    ),
    ("sidecar-of-one-server", "key_prefix 'mcp/documents/'"): (_registered, "ermission denied"),
    ("sidecar-of-one-server", "node_prefix ''"): (_registered_where_taken, "lacks node:read"),
    ("facade", "service 'mcp'"): (_watched, "lacks service:read on 'mcp'"),
    ("facade", "key_prefix 'mcp/servers/'"): (_watched, "lacks key:read on 'mcp/servers/'"),
    ("facade", "key_prefix 'mcp/documents/'"): (
        _read_document,
        "lacks key:read on 'mcp/documents/'",
    ),
    ("facade", "key_prefix 'mcp/queries/'"): (_read_queries, "lacks key:read on 'mcp/queries/'"),
    ("facade", "node_prefix ''"): (_watched, "lacks node:read"),
    ("queries", "key_prefix 'mcp/queries/'"): (_kept_query, "lacks key:write on 'mcp/queries/'"),
    ("sweeper", "service 'mcp'"): (sweep_all, "lacks service:read on 'mcp'"),
    ("sweeper", "key_prefix 'mcp/servers/'"): (sweep_all, "lacks key:read on 'mcp/servers/'"),
    ("sweeper", "key_prefix 'mcp/documents/'"): (sweep_all, "lacks key:read on 'mcp/documents/'"),
    ("sweeper", "node_prefix ''"): (sweep_all, "lacks node:read"),
}
"""What each role does and reads when that rule is missing. The rest is in tests of its own."""
_ASKED = {
    "service 'mcp'": "service:write on 'mcp'",
    "service 'mcp-product-catalog'": "service:write on 'mcp-product-catalog'",
    "service_prefix 'mcp-'": "service:read on 'mcp-…' of other servers",
    "key_prefix 'mcp/servers/product-catalog/'": "write on 'mcp/servers/product-catalog/life-1'",
    "key_prefix 'mcp/documents/'": "key:write on 'mcp/documents/'",
    "node_prefix ''": "node:read on all nodes",
}
"""What a sidecar that asks first is told of that rule."""
_ELSEWHERE = {"agent_prefix ''", "session_prefix ''"}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("role", "rule"), [c for c in cases() if c in _SENTENCE])
async def test_each_rule_is_needed(secured: SecuredConsul, role: str, rule: str) -> None:
    query = OWN if role == "sidecar-of-one-server" else ""
    work: Callable[[ConsulStore], Awaitable[object]]
    work, sentence = _SENTENCE[role, rule]
    rules = rules_of(role)
    # Taken by another server where the sidecar may read only its own name's rights.
    taken = "weather" if rule in ("service_prefix 'mcp-'", "key_prefix 'mcp/servers/'") else None
    name = taken if query and taken else "product-catalog"
    async with secured.master(query) as other:
        await other.register(record(name=name), document("a"), ttl=30, reap_after=60)
    if role == "sweeper":
        await litter(secured)
    del rules[rule]
    async with await secured.store("".join(rules.values()), query) as store:
        asked = await store.would_refuse(_OWN_RECORD)
        with pytest.raises(StoreDeniedError) as raised:
            await work(store)
        assert sentence in str(raised.value)
        if role.startswith("sidecar"):
            of_others = "key:read on 'mcp/servers/…'" if query else "key:write on 'mcp/servers/"
            assert asked is not None
            assert _ASKED.get(rule, of_others) in asked
        if work is _registered:
            assert asked is not None
            assert asked in str(raised.value)
        assert "\n" not in str(raised.value)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("rule", [r for r in rules_of("sweeper") if r != "node_prefix ''"])
async def test_a_sweeper_that_may_only_read_is_told_so(secured: SecuredConsul, rule: str) -> None:
    await litter(secured)
    rules = rules_of("sweeper")
    rules[rule] = rules[rule].replace("write", "read")
    async with await secured.store("".join(rules.values())) as store:
        with pytest.raises(StoreDeniedError, match="ermission denied"):
            await sweep_all(store)


@pytest.mark.parametrize("role", ["sidecar", "sidecar-of-one-server"])
async def test_without_agent_read_the_machines_address_stays_unknown_and_that_is_said(
    secured: SecuredConsul, role: str, caplog: pytest.LogCaptureFixture
) -> None:
    rules = rules_of(role)
    del rules["agent_prefix ''"]
    async with await secured.store("".join(rules.values())) as store:
        assert await store.node_address() is None
    assert "lacks agent:read" in caplog.text
    assert "--advertise-url" in caplog.text


@pytest.mark.parametrize("role", ["sidecar", "sidecar-of-one-server"])
async def test_without_sessions_a_sidecar_works_and_says_what_is_lost(
    secured: SecuredConsul, role: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As with a policy from before there were any."""
    rules = rules_of(role)
    del rules["session_prefix ''"]
    query = OWN if role == "sidecar-of-one-server" else ""
    async with await secured.store("".join(rules.values()), query) as store:
        await live(store, rename=not query)
    assert "lacks session:write" in caplog.text
    assert "stays listed" in caplog.text


def test_every_rule_of_every_policy_has_its_test() -> None:
    for role, rule in cases():
        assert (role, rule) in _SENTENCE or rule in _ELSEWHERE or role == "dns", (role, rule)


# Not more, by abuse


_ABUSES: dict[str, tuple[str, str, Any]] = {
    "a service of another": ("PUT", "/v1/agent/service/register", {"ID": "w", "Name": "web"}),
    "the catalog": ("PUT", "/v1/catalog/register", {"Node": "evil", "Address": "10.6.6.6"}),
    "a node's end": ("PUT", "/v1/catalog/deregister", {"Node": "server"}),
    "keys of others": ("PUT", "/v1/kv/mcp/other", "x"),
    "keys of all": ("PUT", "/v1/kv/app/config", "x"),
    "secrets": ("GET", "/v1/kv/secrets/password?raw", None),
    "a policy": ("PUT", "/v1/acl/policy", {"Name": "mine", "Rules": 'operator = "write"'}),
    "a token": ("PUT", "/v1/acl/token", {"Policies": []}),
    "all tokens": ("GET", "/v1/acl/tokens", None),
    "an intention": (
        "POST",
        "/v1/connect/intentions",
        {"SourceName": "*", "DestinationName": "mcp", "Action": "allow"},
    ),
    "a prepared query": ("POST", "/v1/query", {"Name": "mcp-x", "Service": {"Service": "mcp"}}),
    "the agent's end": ("PUT", "/v1/agent/leave", None),
    "maintenance of the node": ("PUT", "/v1/agent/maintenance?enable=true", None),
    "the keyring": ("GET", "/v1/operator/keyring", None),
    "an event": ("PUT", "/v1/event/fire/deploy", None),
    "a snapshot": ("GET", "/v1/snapshot", None),
}


@pytest.mark.parametrize("abuse", _ABUSES)
@pytest.mark.parametrize("role", sorted(path.stem for path in POLICIES.glob("*.hcl")))
async def test_abuse_is_refused(secured: SecuredConsul, role: str, abuse: str) -> None:
    method, path, body = _ABUSES[abuse]
    await secured.server.put("secrets/password", "hunter2")
    token = await secured.server.create_token("".join(rules_of(role).values()))
    with pytest.raises(RequestRefused) as refused:
        await secured.server.api(method, path, body=body, token=token)
    assert "denied" in refused.value.body, refused.value.body


@pytest.mark.parametrize("role", ["facade", "dns"])
async def test_who_only_reads_can_write_nothing_of_ours_either(
    secured: SecuredConsul, role: str
) -> None:
    async with await secured.store("".join(rules_of(role).values())) as store:
        with pytest.raises(StoreDeniedError, match="ermission denied"):
            await _registered(store)
        assert not (await secured.server.api("GET", "/v1/agent/services")).json()


async def test_a_sidecar_of_one_server_writes_nothing_of_another(secured: SecuredConsul) -> None:
    async with secured.master(OWN) as other:
        await other.register(record("w-1", name="weather"), document(), ttl=30, reap_after=60)
    rules = "".join(rules_of("sidecar-of-one-server").values())
    token = await secured.server.create_token(rules)
    service = {"ID": "w-2", "Name": "mcp-weather"}
    hijack = {"ID": "w-1", "Name": "mcp-product-catalog"}
    for method, path, body in (
        ("PUT", "/v1/agent/service/register", service),
        ("PUT", "/v1/agent/service/register", hijack),
        ("PUT", "/v1/agent/service/deregister/w-1", None),
        ("PUT", "/v1/agent/check/update/mcp-health:w-1", {"Status": "critical"}),
        ("PUT", "/v1/kv/mcp/servers/weather/w-1", "x"),
        ("DELETE", "/v1/kv/mcp/servers/weather/?recurse", None),
        ("DELETE", "/v1/kv/mcp/servers/?recurse", None),
    ):
        with pytest.raises(RequestRefused) as refused:
            await secured.server.api(method, path, body=body, token=token)
        assert refused.value.status == 403, (path, refused.value.body)
    async with secured.master(OWN) as reader, watching(reader) as watcher:
        await watcher.until_status("w-1", Status.HEALTHY, 5)
