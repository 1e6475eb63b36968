"""The servers of an office: what a stranger finds, with everything in it real.

An etcd with three members; a facade over it that knows people by tokens and by a certified issuer,
records what happens, and calls tools; a calendar with two instances, one of which was brought to
another version; servers of a shop; meeting rooms that are down.

``python -m tests.facade.pages.office`` starts it until Ctrl-C, and says how to sign in.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from mcp_discovery.facade.access.tokens import hash_of, new_token
from tests import programs
from tests.facade.access.issuer import AUDIENCE
from tests.facade.access.oidc_provider import OidcProvider
from tests.facade.access.tokens import write_auth_file
from tests.facade.harness import Client
from tests.servers.process import McpServer, running
from tests.stores import ports
from tests.stores.etcd import EtcdCluster
from tests.stores.waiting import until

#: Who works here: ada runs it, ben has calendars only, and the sidecars register.
PEOPLE: Mapping[str, Any] = {
    "ada": "operator",
    "ben": "guest",
    "sidecars": "registrar",
}
ROLES: Mapping[str, Any] = {
    "operator": "read call register report admin",
    "registrar": "read register report",
    "guest": "calendars",
}


@dataclass(frozen=True)
class Office:
    """All of it; ``tokens`` are those of :data:`PEOPLE`, ``ask`` asks as ada, ``calendars`` are the
    calendar's instances."""

    url: str
    tokens: Mapping[str, str]
    ask: Client
    calendars: Sequence[McpServer]
    store: EtcdCluster
    issuer: OidcProvider


@asynccontextmanager
async def office(folder: Path, *options: str) -> AsyncIterator[Office]:
    """Starts it, in ``folder``, its facade with ``options``; it is whole as the block begins."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        cluster = await enter(EtcdCluster())
        issuer = OidcProvider(folder)
        await issuer.start("one")
        stack.push_async_callback(issuer.stop)
        tokens = {name: new_token(name) for name in PEOPLE}
        auth = _auth_file(folder, tokens, issuer)
        port = ports.draw()
        stack.callback(port.release)
        url = f"http://127.0.0.1:{port.number}"
        log = folder / "logs"
        log.mkdir()
        await enter(
            programs.running(
                log,
                *("facade", "--store", cluster.store_url, "--port", str(port.number)),
                *("--auth", auth, "--audit-store", f"sqlite:///{folder}/audit.db"),
                *("--gateway", "--mcp-call-tool", *options),
            )
        )
        headers = {"Authorization": f"Bearer {tokens['ada']}"}
        ask = Client(url, await enter(aiohttp.ClientSession(headers=headers)))

        async def ready() -> bool:
            return (await ask("GET", "/ready")).status == 200

        await until(ready, timeout=60, what="the facade being ready")
        first = await enter(running(("-m", "tests.servers.calendar")))
        second = await enter(running(("-m", "tests.servers.calendar")))
        rooms = await enter(running(("-m", "tests.servers.sdk")))

        async def sidecar(server: McpServer, id: str, *more: str) -> None:
            about = ("--url", server.url, "--id", id, "--ttl", "5", *more)
            await enter(programs.running(log, "sidecar", "--store", cluster.store_url, *about))

        office = ("--tag", "office", "--owner", "workplace")
        for id, server, zone in (("calendar-1", first, "eu-1"), ("calendar-2", second, "eu-2")):
            about = ("--name", "calendar", "--title", "Calendar", "--zone", zone)
            await sidecar(server, id, *about, "--tag", "calendar", *office)
        about = ("--name", "meeting-rooms", "--title", "Meeting rooms", "--zone", "eu-1")
        say = ("--description", "Doors, displays and the heating of meeting rooms.")
        await sidecar(rooms, "meeting-rooms-1", *about, *say, *office)
        for name, script in (("shop", "product_catalog.py"), ("analytics", "analytics.py")):
            server = await enter(running((str(programs.ROOT / "examples" / script),)))
            posted = {"name": name, "id": f"{name}-1", "url": server.url, "tags": [name]}
            reply = await ask("POST", "/servers", posted)
            assert reply.status == 201, reply.body
            await ask.until_status(f"{name}-1", "healthy")
        for id in ("calendar-1", "calendar-2", "meeting-rooms-1"):
            await ask.until_status(id, "healthy")
        await second.restart("--version", "1.5.0")
        await rooms.terminate()
        await ask.until_status("meeting-rooms-1", "down")

        async def brought() -> bool:
            found = (await ask("GET", "/servers/calendar-2")).json
            return bool(found["version"] == "1.5.0" and found["status"] == "healthy")

        await until(brought, timeout=30, what="the calendar's other version being known")
        yield Office(url, tokens, ask, (first, second), cluster, issuer)


def _auth_file(folder: Path, tokens: Mapping[str, str], issuer: OidcProvider) -> str:
    secret = folder / "client-secret"
    secret.write_text("another secret of the tests\n")
    login = {"client_id": "pages", "name": "idp", "client_secret_file": str(secret)}
    trusted = {
        "issuer": issuer.url,
        "audience": AUDIENCE,
        "roles_claim": "groups",
        "roles": {"operators": "operator", "readers": "guest"},
        "login": login,
    }
    known = {n: {"hash": hash_of(t), "roles": PEOPLE[n]} for n, t in tokens.items()}
    return write_auth_file(
        folder / "auth.yaml",
        roles=dict(ROLES),
        scopes={"calendars": {"verbs": ["read", "call"], "names": ["calendar"]}},
        tokens=known,
        issuers=[trusted],
    )


async def _main() -> None:
    with tempfile.TemporaryDirectory(prefix="office-") as folder:
        async with office(Path(folder)) as found:
            print(f"{found.url}/ui/login")
            for name, token in found.tokens.items():
                print(name, token, flush=True)
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main())
