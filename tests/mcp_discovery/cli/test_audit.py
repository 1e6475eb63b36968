"""``mcp-discovery audit``, and where a facade keeps what happens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from typer.testing import CliRunner, Result

from mcp_discovery.cli.main import command_line
from mcp_discovery.errors import InvalidInputError
from mcp_discovery.registrant.tasks import ended
from tests.facade.access.tokens import TOKENS, bearer, write_auth_file
from tests.facade.harness import leased
from tests.programs import AskedFacade, command, facade, running
from tests.stores.waiting import repeat, until_holds


@pytest.fixture(scope="module")
async def asked(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AskedFacade]:
    """A facade with ``--auth``, at which something was done and something refused."""
    folder = tmp_path_factory.mktemp("audit")
    auth = write_auth_file(folder / "auth.yaml")
    async with facade(folder, "embedded:", MCP_DISCOVERY_AUTH=auth) as found:
        async with aiohttp.ClientSession() as http:
            for role, status in (("registrar", 201), ("reader", 403)):
                body = leased("shop-1", name="shop")
                sent = http.post(f"{found.url}/servers", json=body, headers=bearer(role))
                async with sent as response:
                    assert response.status == status
        found.store = f"sqlite:///{folder}/state/mcp-discovery/audit.db"  # type: ignore[attr-defined]
        yield found


def of(asked: AskedFacade) -> dict[str, Any]:
    return {
        "MCP_DISCOVERY_FACADE": asked.url,
        "MCP_DISCOVERY_FACADE_TOKEN": TOKENS["operator"],
    }


async def test_list(asked: AskedFacade) -> None:
    done = await command("audit", "list", "--type", "change", **of(asked))
    assert done.code == 0, done.err
    head, row = done.out.splitlines()
    assert head.split()[:6] == ["TIME", "WHO", "ADDRESS", "WHAT", "TARGET", "OUTCOME"]
    assert row.split()[1:7] == ["registrar", "127.0.0.1", "register", "shop-1", "done", "201"]
    done = await command("audit", "list", "--outcome", "refused", "--json", **of(asked))
    [told] = map(json.loads, done.out.splitlines())
    assert told["actor"]["userId"] == "reader"


async def test_who_may_not_administer_is_told(asked: AskedFacade) -> None:
    given: dict[str, Any] = of(asked) | {"MCP_DISCOVERY_FACADE_TOKEN": TOKENS["reader"]}
    done = await command("audit", "list", **given)
    assert done.code == 4
    assert "no right to admin" in done.err


async def test_tail(asked: AskedFacade, tmp_path: Path) -> None:
    arguments = ("audit", "tail", "--name", "tailed")
    async with (
        running(tmp_path, *arguments, **of(asked)) as process,
        aiohttp.ClientSession() as http,
    ):
        number = 0

        async def register() -> None:
            nonlocal number
            number += 1
            body = leased(f"tailed-{number}", name="tailed")
            url = f"{asked.url}/servers"
            async with http.post(url, json=body, headers=bearer("registrar")) as response:
                assert response.status == 201

        registering = asyncio.create_task(repeat(register, every=0.5))
        told = "registrar 127.0.0.1 register tailed-"
        await until_holds(lambda: told in process.log, timeout=30, what="an event being printed")
        await ended(registering)


async def invoked(*arguments: str) -> Result:
    """What a command without a facade says, run in a thread of this process."""
    whole = ["audit", *arguments]
    app = command_line("audit")
    return await asyncio.to_thread(lambda: CliRunner().invoke(app, whole))


async def test_verify_and_head(asked: AskedFacade) -> None:
    store: Any = asked.store  # type: ignore[attr-defined]
    head = (await invoked("head", "--store", store)).output.strip()
    done = await invoked("verify", "--store", store, "--anchor", head)
    assert done.exit_code == 0, done.output
    assert "the log is whole." in done.output
    done = await invoked("verify", "--store", store, "--anchor", f"{head[:-1]}x", "--json")
    assert done.exit_code == 1
    [fault] = json.loads(done.output)["faults"]
    assert "is not the one that was noted" in fault["what"]
    for arguments, says in (
        (("--store", store, "--anchor", "x"), "is nothing that audit head prints"),
        (("--store", "sqlite:////nowhere/audit.db"), "there is no audit in /nowhere/audit.db"),
        (("/nowhere/audit.jsonl",), "cannot read /nowhere/audit.jsonl"),
    ):
        done = await invoked("verify", *arguments)
        assert isinstance(done.exception, InvalidInputError)
        assert says in str(done.exception)
    done = await invoked("verify", "--store", "postgresql://audit@127.0.0.1:9/audit")
    assert done.exit_code == 3
    assert "the audit cannot be read" in done.output


async def test_lines_that_were_tampered_with(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    async with (
        facade(tmp_path, "embedded:", MCP_DISCOVERY_AUDIT=str(file)) as asked,
        aiohttp.ClientSession() as http,
    ):
        await http.post(f"{asked.url}/servers", json=leased("a-1"))
    done = await invoked("verify", str(file))
    assert done.exit_code == 0, done.output
    assert (await invoked("head", str(file))).output.strip() in done.output
    file.write_text(file.read_text().replace('"127.0.0.1"', '"10.0.0.1"', 1))
    done = await invoked("verify", str(file))
    assert done.exit_code == 1
    assert "audit.jsonl:2: entry 2 was changed" in done.output


async def test_no_audit_is_kept_where_none_is_wanted(tmp_path: Path) -> None:
    auth = write_auth_file(tmp_path / "auth.yaml")
    given = {"MCP_DISCOVERY_AUTH": auth, "MCP_DISCOVERY_AUDIT_STORE": "none"}
    async with facade(tmp_path, "embedded:", **given):
        assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--audit-store", "mysql://x/y"), "'mysql' is no audit store; write sqlite:////absolute"),
        (("--audit-store", "postgresql://a:s3cr3t@h/d"), "MCP_DISCOVERY_AUDIT_PASSWORD"),
        (("--audit-store", "sqlite:////proc/nowhere/audit.db"), "cannot keep the audit in /proc"),
        (("--audit", "/proc/nowhere/audit.jsonl"), "cannot write the audit to /proc/nowhere"),
    ],
)
async def test_what_cannot_be_used_is_told_at_the_start(
    arguments: tuple[str, ...], says: str
) -> None:
    done = await command("facade", "--port", "0", *arguments)
    assert done.code == 2, done.err
    assert says in done.err
    assert "s3cr3t" not in done.err
    assert "Traceback" not in done.err
