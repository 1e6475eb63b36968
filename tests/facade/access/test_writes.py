"""Facades that refuse changes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mcp_discovery.errors import InvalidInputError
from mcp_discovery.facade.access.writes import ReadOnlyHosts
from mcp_discovery.facade.app import OPERATIONS
from tests.facade.access.test_front_door import concrete
from tests.facade.access.tokens import bearer, guarded
from tests.facade.harness import QUICK, leased, served
from tests.facade.plain import HealthServer
from tests.programs import command, running
from tests.stores import ports
from tests.stores.waiting import until


@pytest.mark.parametrize(
    ("options", "says"),
    [({"read_only": True}, "--read-only"), ({"open_writes": False}, "--open-writes")],
)
async def test_every_change_is_refused_in_one_sentence(options: dict[str, Any], says: str) -> None:
    async with served(options=replace(QUICK, **options)) as ask:
        for each in OPERATIONS:
            if each.path == "/registry/stream" or "events" in each.path:
                continue
            reply = await ask(each.method, concrete(each.path), {"id": "a"})
            if each.needs in ("register", "report"):
                assert reply.status == 403, each
                assert says in reply.json["detail"]
                assert reply.json["type"].endswith(":refused-here")
            else:
                assert reply.status != 403, each
        assert (await ask("GET", "/metrics")).status == 200


async def test_what_was_posted_before_is_kept(tmp_path: Path) -> None:
    server = HealthServer()
    await server.start()
    try:
        port = ports.draw().number
        here = ("facade", "--port", str(port), "--store", f"embedded://{tmp_path}/list.db")
        url = f"http://127.0.0.1:{port}"

        async def healthy() -> bool:
            said = await command("servers", "--facade", url, "--json")
            return '"id":"kept"' in said.out

        async with running(tmp_path, *here, "--probe-interval", "1s") as process:
            record = tmp_path / "servers.yaml"
            record.write_text(
                f"servers:\n  - {{id: kept, name: kept, url: '{server.base_url}/mcp'}}\n"
            )

            async def posted() -> bool:
                said = await command("register", str(record), "--yes", "--facade", url)
                return said.code == 0

            await until(posted, timeout=20, what="the entry being posted")
            await until(healthy, timeout=20, what="it being healthy")
            await process.stop()
        async with running(tmp_path, *here, "--read-only", "--probe-interval", "1s"):
            await until(healthy, timeout=30, what="it being healthy")
            record.write_text("servers:\n  - {id: b, name: b, url: 'http://127.0.0.1:9/mcp'}\n")
            said = await command("register", str(record), "--yes", "--facade", url)
            assert said.code != 0 and "--read-only" in said.err
    finally:
        await server.stop()


async def is_ready(port: int) -> bool:
    return (await command("health", "--port", str(port), "--ready")).code == 0


async def test_a_facade_that_others_reach_refuses_unless_it_is_told_otherwise(
    tmp_path: Path,
) -> None:
    record = tmp_path / "servers.yaml"
    record.write_text("servers:\n  - {id: a, name: a, url: 'http://127.0.0.1:9/mcp'}\n")
    for more, refused in ((), True), (("--open-writes",), False):
        port = ports.draw().number
        url = f"http://127.0.0.1:{port}"
        given = ("--host", "0.0.0.0", "--port", str(port), *more)
        async with running(tmp_path, "facade", *given) as process:
            ready = partial(is_ready, port)
            await until(ready, timeout=20, what="the facade being ready")
            said = await command("register", str(record), "--yes", "--facade", url)
            assert ("with --open-writes where" in said.err) is refused, said.err
            assert (said.code != 0) is refused
            assert ("changes nothing for others" in process.log) is refused


async def test_by_some_names_nothing_is_changed(tmp_path: Path) -> None:
    """An Ingress leads to the same port as the cluster's own clients."""
    more: dict[str, Any] = {
        "allowed_hosts": ("mcp.example.com", "inside"),
        "read_only_hosts": ("MCP.example.com",),
        "trusted_proxies": ("127.0.0.1",),
    }
    async with guarded(tmp_path, **more) as ask:
        for headers, status in (
            ({"Host": "mcp.example.com"}, 403),
            ({"Host": "mcp.EXAMPLE.com.:8443"}, 403),
            ({"Host": "inside", "X-Forwarded-Host": "mcp.example.com"}, 403),
            ({"Host": "inside"}, 201),
        ):
            sent = headers | bearer("operator")
            reply = await ask("POST", "/servers", leased("a"), headers=sent)
            assert reply.status == status, (headers, reply.body)
            assert (await ask("GET", "/servers?status=all", headers=sent)).status == 200
        sent = {"Host": "mcp.example.com"} | bearer("operator")
        refused = await ask("DELETE", "/servers/a", headers=sent)
        assert refused.status == 403
        assert "--read-only-host" in refused.json["detail"]


@pytest.mark.parametrize(
    "name", ["https://mcp.example.com", "*.example.com", "*", "mcp.example.com:443", ""]
)
def test_what_is_no_name_is_none_for_reading_only(name: str) -> None:
    """Nothing would be asked by it: who gives it would believe that it is obeyed."""
    with pytest.raises(InvalidInputError, match=r"--read-only-host .* is no host"):
        ReadOnlyHosts(("mcp.example.com.", name))
