"""The local Consul agent, which keeps the services that are registered through it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from mcp_discovery.adapters.consul.checks import Check
from mcp_discovery.adapters.consul.transport import Transport, path
from mcp_discovery.errors import DiscoveryError, StoreDeniedError


@dataclass(frozen=True, slots=True)
class AgentService:
    """A service as the local agent knows it. ``service`` is its Consul service's name."""

    service: str
    checks: Mapping[str, Check]


class UnknownCheckError(DiscoveryError):
    """The local agent has no such check. Always caught: it says that a registration is lost."""


class Agent:
    """Services and checks of the local agent, as the agent itself has them."""

    def __init__(self, http: Transport) -> None:
        self._http = http

    async def register(self, definition: Mapping[str, Any]) -> None:
        """Registers a service with the local agent, replacing its checks."""
        await self._http.ask(
            "PUT",
            "/v1/agent/service/register",
            {"replace-existing-checks": "true"},
            data=orjson.dumps(definition),
        )

    async def deregister(self, id: str) -> None:
        """Removes a service from the local agent; an unknown one is no error."""
        await self._http.ask("PUT", f"/v1/agent/service/deregister/{path(id)}", missing=True)

    async def service(self, id: str) -> AgentService | None:
        """The service with that id at the local agent, as the agent itself has it."""
        # The status speaks of health: 200 passing, 429 warning, 503 critical, 404 unknown.
        answer = await self._http.send(
            "GET", f"/v1/agent/health/service/id/{path(id)}", {"format": "json"}
        )
        if "X-Consul-Reason" not in answer.headers and answer.status != 200:
            self._http.refuse(answer)
        content = self._http.json(answer)
        try:
            if content["Service"] is None:
                return None
            checks = {check["CheckID"]: check for check in content["Checks"] or ()}
            return AgentService(content["Service"]["Service"], checks)
        except (KeyError, TypeError) as error:
            raise self._http.strange(answer) from error

    async def update_check(self, id: str, status: str, output: str) -> None:
        """Sets a TTL check's status and output, which renews it. Raises
        :class:`UnknownCheckError`."""
        body = orjson.dumps({"Status": status, "Output": output})
        answer = await self._http.send("PUT", f"/v1/agent/check/update/{path(id)}", data=body)
        if answer.status == 200:
            return
        # 1.8 says 500, later versions 404; the words are the only sign.
        words = answer.text.lower()
        if answer.status in (404, 500) and (
            "unknown check" in words or "does not have associated ttl" in words
        ):
            raise UnknownCheckError(id)
        self._http.refuse(answer)

    async def datacenter(self) -> str | None:
        """The local agent's datacenter; ``None`` where the token may not read it."""
        return await self._itself("Config", "Datacenter")

    async def node(self) -> str | None:
        """The local agent's node name; ``None`` where the token may not read it."""
        return await self._itself("Config", "NodeName")

    async def address(self) -> str | None:
        """The local agent's address in its cluster; ``None`` where the token may not read it."""
        return await self._itself("Member", "Addr")

    async def _itself(self, part: str, name: str) -> str | None:
        try:
            answer = await self._http.ask("GET", "/v1/agent/self")
        except StoreDeniedError:
            return None
        try:
            return str(self._http.json(answer)[part][name])
        except (KeyError, TypeError) as error:
            raise self._http.strange(answer) from error
