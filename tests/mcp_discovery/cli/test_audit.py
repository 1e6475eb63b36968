"""``mcp-discovery audit``, and where a facade keeps what happens."""

from __future__ import annotations

import asyncio
import gzip
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from typer.testing import CliRunner, Result

from mcp_discovery.cli.main import command_line
from mcp_discovery.errors import InvalidInputError
from mcp_discovery.facade.access.audit.database import DatabaseLog
from mcp_discovery.facade.access.audit.event import LogEntry
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


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("notes.txt", b"to do: buy bread\n\nand milk\n", "name a file that a facade writes"),
        ("pixels", bytes(range(256)) * 40, "name a file that a facade writes"),
        ("list.json", b'{"chain": 7, "sequence": "one"}\n[1, 2]\n', "name a file that a facade"),
        ("trail.2.gz", gzip.compress(b"{}\n" * 30), "it is compressed: unpack it first"),
    ],
    ids=["text", "binary", "JSON", "gzip"],
)
async def test_what_is_no_log_is_told_in_one_sentence(
    name: str, content: bytes, says: str, tmp_path: Path
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    for arguments in (("verify",), ("verify", "--json"), ("head",)):
        done = await invoked(*arguments, str(file))
        assert isinstance(done.exception, InvalidInputError), done.output
        assert str(done.exception).startswith(f"{file} is no audit log; {says}")
    done_here = await command("audit", "verify", str(file))
    assert (done_here.code, done_here.out) == (2, "")
    assert len(done_here.err.splitlines()) == 1


async def test_a_log_without_any_entry_is_not_called_whole(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.touch()
    two.write_text("\n\n")
    done = await invoked("verify", str(one), str(two))
    assert isinstance(done.exception, InvalidInputError)
    assert str(done.exception) == f"there is no entry in {one}, {two}, and so nothing to verify"
    done = await invoked("verify", str(one), "--anchor", f"ab12:3:{'0' * 64}")
    assert done.exit_code == 1
    assert "entry 3 of chain ab12, which was noted, is not there" in done.output


async def test_a_database_that_is_no_log_is_told_and_left_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "shop.db"
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("CREATE TABLE audit_log (sequence, wares)")
    before = file.read_bytes()
    (tmp_path / "page.html").write_text("<p>nothing here</p>")
    (tmp_path / "void.db").touch()
    for name, says in (
        ("shop.db", "is no audit log: the tables of one are not there"),
        ("void.db", "is no audit log: the tables of one are not there"),
        ("page.html", "is no database of SQLite; for lines of --audit name it as FILE"),
        ("", "Is a directory"),
    ):
        for what in ("verify", "head"):
            done = await invoked(what, "--store", f"sqlite:///{tmp_path}/{name}")
            assert isinstance(done.exception, InvalidInputError), done.output
            assert says in str(done.exception)
    assert file.read_bytes() == before
    assert {each.name for each in tmp_path.iterdir()} == {"shop.db", "page.html", "void.db"}
    done = await invoked("verify", str(file))
    assert f"it is a database: write --store sqlite:///{file}" in str(done.exception)
    done = await invoked("verify", "--store", "oracle://db")
    assert str(done.exception).startswith("--store: 'oracle' is no audit store; write sqlite:")


async def test_a_store_whose_head_was_removed_is_not_whole(tmp_path: Path) -> None:
    file = tmp_path / "trail.db"
    url = f"sqlite:///{file}"
    log = DatabaseLog(url)
    await log.open()
    await log.write([LogEntry.new("whole", {"eventType": "change"})], again=False)
    await log.close()
    assert (await invoked("verify", "--store", url)).exit_code == 0
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("DELETE FROM audit_head")
    for what in ("verify", "head"):
        done = await invoked(what, "--store", url)
        assert done.exit_code == 1, done.output
        assert "the row that says where the log ends was removed" in done.output


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--from", "last week", "--from 'last week' is no time; write 2026-01-31 or"),
        ("--to", "24:00", "--to '24:00' is no time; write"),
        ("--outcome", "don", "--outcome 'don' is not known; did you mean 'done'? use one of"),
        ("--type", "cal", "--type 'cal' is not known; did you mean 'call'?"),
        ("--user", "a\x07b", "--user has control characters"),
        ("--limit", "0", "--limit: "),
    ],
)
async def test_a_value_that_cannot_be_is_told_by_its_option(
    option: str, value: str, says: str, asked: AskedFacade
) -> None:
    done = await command("audit", "list", option, value, **of(asked))
    assert done.code == 2, done.err
    assert done.err.startswith(f"mcp-discovery: {says}"), done.err


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
