"""What an ACL token may read, as far as Consul tells it.

Consul leaves out of every answer what the token may not read, as if there were no such thing. From
1.12 on a header says so, though not in answers from an agent's stream; earlier ones are silent. All
of them say whether the token has a right on a thing whose name is known.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import orjson

from mcp_discovery.adapters.consul.transport import ConsulTransport
from mcp_discovery.errors import StoreDeniedError

#: How many rights are asked for in one request.
_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class ReadRight:
    """The right to read the node, the service or the key of that name."""

    resource: Literal["node", "service", "key"]
    name: str

    def __str__(self) -> str:
        return f"{self.resource}:read on {self.name!r}"


#: A node whose name nobody gives: who may read it may read all nodes, unless one is denied by name.
ANY_NODE = ReadRight("node", f"any-{secrets.token_hex(8)}")


class Permissions:
    """The permissions of one store's token."""

    def __init__(self, http: ConsulTransport) -> None:
        self._http = http

    async def lacking(self, rights: Iterable[ReadRight]) -> set[ReadRight]:
        """Those of ``rights`` that the token lacks; none where ACLs are off, or where a proxy
        blocks the question."""
        wanted = list(dict.fromkeys(rights))
        found: set[ReadRight] = set()
        for start in range(0, len(wanted), _AT_ONCE):
            found |= await self._asked(wanted[start : start + _AT_ONCE]) or set()
        return found

    async def require(self, rights: Sequence[ReadRight]) -> bool:
        """Raises :class:`StoreDeniedError` unless the token has all of ``rights``; returns whether
        that was asked, which it is not where ACLs are off or a proxy blocks the question."""
        lacking = await self._asked(rights)
        if lacking:
            missing = ", ".join(sorted(map(str, lacking)))
            raise StoreDeniedError(self._http.address.shown, f"the token lacks {missing}")
        return lacking is not None

    async def _asked(self, rights: Sequence[ReadRight]) -> set[ReadRight] | None:
        wanted = [
            {"Resource": each.resource, "Segment": each.name, "Access": "read"} for each in rights
        ]
        response = await self._http.send(
            "POST", "/v1/internal/acl/authorize", data=orjson.dumps(wanted)
        )
        if response.status in (401, 404, 405):  # ACLs are off, or a proxy blocks the request
            return None
        if response.status != 200:
            self._http.refuse(response)
        with self._http.reading(response):
            answers = self._http.json(response)
            return {right for right, each in zip(rights, answers, strict=True) if not each["Allow"]}
