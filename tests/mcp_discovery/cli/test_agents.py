"""The commands beside an A2A agent, and about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.mcp_discovery.cli.doctor.test_doctor import doctor
from tests.programs import AskedFacade, command, facade, running
from tests.servers.scripted_agent import replies, scripted_agent
from tests.stores.waiting import NotYet, until


async def test_an_agent_from_its_sidecar_to_the_shell(tmp_path: Path) -> None:
    async with facade(tmp_path, "embedded:") as own, scripted_agent() as agent:
        beside = ("sidecar", "--store", own.url, "--kind", "agent", "--url", agent.url)
        async with running(tmp_path, *beside, "--ttl", "3s") as sidecar:
            entry = await listed(own)
            assert (entry["name"], entry["reason"]) == ("travel-agent", "answers A2A")
            url = own.url

            shown = await command("servers", MCP_DISCOVERY_FACADE=url)
            assert "No server matches." in shown.out
            shown = await command("servers", "--kind", "agent", "--json", MCP_DISCOVERY_FACADE=url)
            assert [json.loads(line)["kind"] for line in shown.out.splitlines()] == ["agent"]
            shown = await command("describe", "travel-agent", MCP_DISCOVERY_FACADE=url)
            assert "Protocol: 1.0 JSONRPC" in " ".join(shown.out.split())
            assert "Book a trip  Books trains" in shown.out

            about = ("--facade", own.url, "--server", "travel-agent")
            report = await doctor(*about)
            assert report.has("ok server", f"{agent.url} speaks A2A (1.0)")
            assert report.has("ok server", "its skills are those that are listed: 1")
            agent.rpc = replies(500)
            report = await doctor(*about)
            why = f"{agent.url} does not answer as A2A: HTTP 500 from its A2A interface"
            assert report.has("wrong server", why)

            assert await sidecar.stop() == 0
        assert await own.servers("kind=all&status=all") == {}


async def listed(own: AskedFacade) -> dict[str, Any]:
    async def found() -> dict[str, Any]:
        for entry in (await own.servers("kind=agent")).values():
            return entry
        raise NotYet("no agent")

    return await until(found, timeout=15, what="the agent being listed")


async def test_a_file_of_servers_may_have_agents(tmp_path: Path) -> None:
    async with facade(tmp_path, "embedded:") as own, scripted_agent() as agent:
        file = tmp_path / "agents.json"
        entry = {"id": "travel-1", "name": "travel", "kind": "agent", "url": agent.url}
        file.write_text(json.dumps({"source": "test", "servers": [entry]}))
        here = ("--facade", own.url)
        for says in ("1 to add", "1 the same"):
            ended = await command("register", str(file), "--prune", "--yes", *here)
            assert ended.code == 0 and says in ended.err, ended
        copy = await command("export", "--format", "servers", *here)
        assert json.loads(copy.out)["servers"][0]["kind"] == "agent"
        other = {"id": "other-1", "name": "other", "url": "http://127.0.0.1:9"}
        file.write_text(json.dumps({"source": "test", "servers": [other]}))
        ended = await command("register", str(file), "--prune", "--yes", *here)
        assert ended.code == 0, ended
        assert (await own.servers("kind=all&status=all")).keys() == {"other-1"}
