"""What an ACL token may read and write, as far as Consul tells it.

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
from mcp_discovery.adapters.consul.url import ConsulAddress
from mcp_discovery.errors import StoreDeniedError, StoreFault
from mcp_discovery.record import Record

#: How many rights are asked for in one request.
_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class AclRight:
    """The right to read or write the node, the service or the key of that name."""

    resource: Literal["node", "service", "key"]
    name: str
    access: Literal["read", "write"] = "read"
    #: What the name stands for, where nobody has it.
    stands_for: str = ""

    def __str__(self) -> str:
        return f"{self.resource}:{self.access} on {self.stands_for or repr(self.name)}"


#: A node whose name nobody gives: who may read it may read all nodes, unless one is denied by name.
ANY_NODE = AclRight("node", f"any-{secrets.token_hex(8)}", stands_for='all nodes (node_prefix "")')


class Permissions:
    """The permissions of one store's token."""

    def __init__(self, http: ConsulTransport) -> None:
        self._http = http

    async def lacking(self, rights: Iterable[AclRight]) -> set[AclRight]:
        """Those of ``rights`` that the token lacks; none where ACLs are off, or where a proxy
        blocks the question."""
        wanted = list(dict.fromkeys(rights))
        found: set[AclRight] = set()
        for start in range(0, len(wanted), _AT_ONCE):
            found |= await self._asked(wanted[start : start + _AT_ONCE]) or set()
        return found

    async def require(self, rights: Sequence[AclRight]) -> bool:
        """Raises :class:`StoreDeniedError` unless the token has all of ``rights``; returns whether
        that was asked, which it is not where ACLs are off or a proxy blocks the question."""
        lacking = await self._asked(rights)
        if lacking:
            why = lacking_sentence(lacking, self._http.token)
            raise StoreDeniedError(self._http.address.shown, why, fault=StoreFault.FORBIDDEN)
        return lacking is not None

    async def _asked(self, rights: Sequence[AclRight]) -> set[AclRight] | None:
        wanted = [
            {"Resource": each.resource, "Segment": each.name, "Access": each.access}
            for each in rights
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


def lacking_sentence(lacking: Iterable[AclRight], token: str | None) -> str:
    """That ``token`` lacks these rights; without one it is the anonymous token that does."""
    who = "the token lacks" if token else "no token is given, and the anonymous one lacks"
    return f"{who} {', '.join(sorted(map(str, lacking)))}"


def of_sidecar(address: ConsulAddress, record: Record) -> list[AclRight]:
    """What it takes to keep ``record`` registered, and to see who holds its id otherwise."""
    rights = [
        AclRight("service", address.service_of(record.name), "write"),
        AclRight("key", f"{address.records}{record.name}/{record.id}", "write"),
        AclRight("key", address.documents, "write"),
        ANY_NODE,
    ]
    if address.mode == "service-per-server":
        other, of = f"any-{secrets.token_hex(4)}", "of other servers"
        service, key = address.service_of(other), f"{address.records}{other}/{record.id}"
        rights.append(AclRight("service", service, stands_for=f"'{address.service_of('…')}' {of}"))
        rights.append(AclRight("key", key, stands_for=f"'{address.records}…' {of}"))
    return rights
