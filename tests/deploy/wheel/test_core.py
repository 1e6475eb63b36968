"""What is installed without extras: facade, sidecar and shell work; the rest names its extra."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.deploy.wheel.environment import Environment
from tests.programs import AskedFacade, Ended, command, facade, running
from tests.servers.process import McpServer, odd

# pip installs some twenty distributions: under load that takes its time.
pytestmark = [pytest.mark.xdist_group("wheel"), pytest.mark.timeout(400)]

CLIENT = "pip install 'mcp-discovery[client]'"


def test_the_core_brings_neither_the_sdk_nor_what_that_needs(core: Environment) -> None:
    installed = core.versions()
    assert installed["mcp-discovery"] == "0.2.0.dev0"
    brought_by_extras = {"mcp", "mcp-types", "httpx2", "starlette", "uvicorn", "dnspython"}
    brought_by_extras |= {"pyjwt", "cryptography", "sqlalchemy", "aiosqlite", "asyncpg", "redis"}
    brought_by_extras |= {"numpy", "tokenizers", "wordllama"}
    brought_by_extras |= {"openai", "anthropic", "google-genai", "opentelemetry-api"}
    assert not brought_by_extras & set(installed)
    core.check()


#: Modules that an extra is for, and that nobody imports without it.
OF_EXTRAS = {
    *(f"mcp_discovery.ask.{each}" for each in ("agent", "anthropic", "gemini", "offered_tools")),
    *(f"mcp_discovery.ask.{each}" for each in ("openai", "results", "toolbox")),
    "mcp_discovery.facade.access.issuer_keys",
    "mcp_discovery.facade.access.signed_tokens",
    "mcp_discovery.facade.access.audit.database",
    "mcp_discovery.facade.history.database",
    "mcp_discovery.facade.mcp.call_credentials",
    "mcp_discovery.query.vectors",
    "mcp_discovery.query.wordllama",
    "mcp_discovery.telemetry.figures",
    "mcp_discovery.telemetry.sdk",
    "mcp_discovery.testing",
}


def test_every_module_but_those_of_extras_is_importable(core: Environment) -> None:
    script = (
        "import importlib, pkgutil, mcp_discovery\n"
        "for found in pkgutil.walk_packages(mcp_discovery.__path__, 'mcp_discovery.'):\n"
        "    part = found.name.split('.')[1]\n"
        f"    if found.name in {OF_EXTRAS}: continue\n"
        "    if part not in ('client', 'examples') and not found.name.endswith('__main__'):\n"
        "        importlib.import_module(found.name); print(found.name)\n"
    )
    done = core.run("-W", "ignore", "-c", script)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) > 150


async def _command(core: Environment, *arguments: str, **environment: str) -> Ended:
    return await command(
        *arguments, timeout=30, program=core.program, cwd=core.folder, **environment
    )


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def served(
    core: Environment, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[AskedFacade, McpServer]]:
    """A facade and a sidecar of the core, and the server that the sidecar registered."""
    folder: Path = tmp_path_factory.mktemp("core")
    place: dict[str, Any] = {"program": core.program, "cwd": core.folder}
    async with (
        facade(folder, "embedded:", **place) as asked,
        odd("--tools", "2") as server,
        running(
            *(folder, "sidecar", "--store", asked.url, "--url", server.url),
            *("--name", "shop", "--tag", "red", "--id", "shop-1"),
            **place,
        ),
    ):
        await asked.until_status("shop-1", "healthy", 20)
        yield asked, server


async def test_a_facade_answers_mcp(served: tuple[AskedFacade, McpServer]) -> None:
    asked, _ = served
    request = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        },
    }
    headers = {"Accept": "application/json, text/event-stream"}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{asked.url}/mcp", json=request, headers=headers) as answer,
    ):
        assert answer.status == 200, await answer.text()
        assert "serverInfo" in await answer.text()


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("servers", "--json"), "shop-1"),
        (("tools", "--json"), "tool-1"),
        (("describe", "shop", "--json"), "shop-1"),
        (("watch", "--once", "--json"), "shop-1"),
        (("export",), "shop"),
        (("doctor", "--json"), "its list is up to date"),
        (("--help",), "sidecar"),
        (("--version",), "0.2.0.dev0"),
    ],
    ids=lambda each: each[0] if isinstance(each, tuple) else "",
)
async def test_the_shell_works(
    core: Environment,
    served: tuple[AskedFacade, McpServer],
    arguments: tuple[str, ...],
    part: str,
) -> None:
    ended = await _command(core, *arguments, MCP_DISCOVERY_FACADE=served[0].url)
    assert ended.code == 0, ended
    assert part in ended.out


async def test_what_needs_the_sdk_says_so_in_one_sentence(
    core: Environment, served: tuple[AskedFacade, McpServer]
) -> None:
    for arguments in (("call", "tool-1"), ("demo", "--once"), ("facade", "--mcp-call-tool")):
        ended = await _command(core, *arguments, MCP_DISCOVERY_FACADE=served[0].url)
        assert ended.code == 2, ended
        assert CLIENT in ended.err
        assert "Traceback" not in ended.err
        assert len(ended.err.strip().splitlines()) == 1, ended.err
    file = core.folder / "facade.yaml"
    file.write_text("facade: {mcp-call-tool: true}\n")
    ended = await _command(core, "config", "check", str(file))
    assert (ended.code, CLIENT in ended.out + ended.err) == (2, True), ended


def test_the_library_says_so_too(core: Environment) -> None:
    for line in ("from mcp_discovery import Discovery", "import mcp_discovery.client.formats"):
        done = core.run("-c", line)
        assert done.returncode == 1
        last = done.stderr.strip().splitlines()[-1]
        assert last.startswith("mcp_discovery.errors.MissingExtraError: ")
        assert last.endswith(CLIENT)
    script = (
        "try:\n    from mcp_discovery import Discovery\n"
        "except ImportError as error:\n    print(error.extra)"
    )
    assert core.run("-c", script).stdout == "client\n"


async def test_known_callers_without_the_extras_of_audit_and_issuers(core: Environment) -> None:
    file = core.folder / "auth.yaml"
    file.write_text("roles: {reader: read}\n")
    ended = await _command(core, "facade", "--auth", str(file), "--port", "0")
    assert (ended.code, len(ended.err.strip().splitlines())) == (2, 1), ended
    assert "pip install 'mcp-discovery[audit]'" in ended.err
    assert "--audit-store none" in ended.err
    file.write_text("issuers: [{issuer: 'https://a.example', audience: b}]\n")
    ended = await _command(
        core, "facade", "--auth", str(file), "--port", "0", "--audit-store", "none"
    )
    assert (ended.code, len(ended.err.strip().splitlines())) == (2, 1), ended
    assert "pip install 'mcp-discovery[auth]'" in ended.err


async def test_a_doctor_without_dnspython_does_not_call_dns_fine(
    core: Environment, served: tuple[AskedFacade, McpServer]
) -> None:
    ended = await _command(
        core, "doctor", "--json", "--dns", "127.0.0.1:53", MCP_DISCOVERY_FACADE=served[0].url
    )
    findings = [json.loads(line) for line in ended.out.splitlines()]
    (found,) = [each for each in findings if each["check"] == "dns"]
    assert found["state"] == "unchecked"
    assert "pip install 'mcp-discovery[doctor]'" in found["message"] + found.get("advice", "")
