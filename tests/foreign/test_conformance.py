"""The official conformance suite finds the same through the gateway, and through a sidecar that
bridges to stdio, as straight at the server."""

from __future__ import annotations

import re
from pathlib import Path

import aiohttp
import pytest

from tests.foreign.bridged import bridged
from tests.foreign.programs import GO, NODE, NPM
from tests.foreign.servers import EVERYTHING, SERVERS
from tests.foreign.servers import running as foreign
from tests.programs import command, facade
from tests.stores.waiting import NotYet, until

#: The servers that were written for the suite, with sessions and without, and one that was not.
_JUDGED = ("go-sdk", "go-sdk-stateless", "mcp-go", "everything")
_SUITE = (str(NODE), str(NPM / "@modelcontextprotocol/conformance/dist/index.js"), "server")
_REBINDING, _PROTECTED = "dns-rebinding-protection", "2 passed, 0 failed"
_OUTCOME = re.compile(r"^[✓✗] (\S+): (\d+ passed, \d+ failed)", re.MULTILINE)


@pytest.mark.parametrize("name", _JUDGED)
async def test_through_the_gateway_as_straight(name: str, tmp_path: Path) -> None:
    server = next(each for each in SERVERS if each.name == name)
    async with (
        foreign(server, tmp_path) as process,
        facade(tmp_path, "embedded:", MCP_DISCOVERY_GATEWAY="true") as asked,
    ):
        posted = {"name": name, "endpoint": {"url": process.url}}
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{asked.url}/servers", json=posted) as answer,
        ):
            assert answer.status == 201, await answer.text()
        gateway = f"{asked.url}/gateway/{name}/mcp"
        straight = await _judged(process.url, tmp_path)
        if name == "everything":  # which has no protection of its own
            straight[_REBINDING] = _PROTECTED
        through = await _judged(gateway, tmp_path)

        async def alike() -> bool:
            # mcp-go sends some notifications beside the answer that they belong to, in either
            # order.
            if through != straight:
                again = await _judged(process.url, tmp_path)
                straight.update((k, found) for k, found in again.items() if through[k] == found)
                raise NotYet(f"{through} through the gateway, {straight} straight")
            return True

        await until(alike, timeout=60, what="the same outcomes")
    assert through[_REBINDING] == _PROTECTED
    assert sum(not outcome.startswith("0 passed") for outcome in straight.values()) >= 5


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("go-sdk", [str(GO / "go-sdk")]),
        ("everything", [str(NODE), str(NPM / EVERYTHING), "stdio"]),
    ],
    ids=["go-sdk", "everything"],
)
async def test_over_stdio_as_over_http(name: str, command: list[str], tmp_path: Path) -> None:
    """A server over stdio passes through the bridge what it passes by its own HTTP. What is of the
    transport alone, the bridge passes for itself."""
    server = next(each for each in SERVERS if each.name == name)
    async with (
        foreign(server, tmp_path) as process,
        facade(tmp_path, "embedded:") as asked,
        bridged(tmp_path, asked, name, command) as bridge,
    ):
        straight = await _judged(process.url, tmp_path)
        through = await _judged((await bridge.is_well())["url"], tmp_path)
    own = [each for each in straight if each == _REBINDING or each.startswith("server-sse-")]
    assert {each for each in own if not through[each].endswith(", 0 failed")} == set()
    for each in own:
        del straight[each], through[each]
    assert through == straight
    assert len(straight) >= 25


async def _judged(url: str, folder: Path) -> dict[str, str]:
    """What the suite finds, by scenario."""
    options = ("--suite", "all", "--url", url, "--output-dir", str(folder / "results"))
    ended = await command(*options, program=_SUITE, timeout=120, cwd=folder)
    found = dict(_OUTCOME.findall(ended.out))
    assert found, (ended.out, ended.err)
    return found
