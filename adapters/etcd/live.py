"""The value of a ``live/<id>`` key: health, load, and who holds the instance."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from mcp_discovery.health import Health, Load
from mcp_discovery.instance import health_from_dict, health_to_dict, load_from_dict, load_to_dict


@dataclass(frozen=True, slots=True)
class Live:
    """What an instance says of itself at every change; ``holder`` is its holder's id.

    ``name`` is the server's, under which the record is found.
    """

    health: Health
    load: Load | None
    holder: str
    name: str

    def encode(self) -> bytes:
        """The value as JSON."""
        content = health_to_dict(self.health) | {"holder": self.holder, "name": self.name}
        if self.load is not None:
            content["load"] = load_to_dict(self.load)
        return orjson.dumps(content)

    @classmethod
    def decode(cls, value: bytes) -> Live:
        """Reads what :meth:`encode` wrote; raises :class:`ValueError` where it is not that."""
        content = orjson.loads(value)
        if not isinstance(content, dict):
            raise ValueError("the health is not a JSON object")
        holder, name = content.get("holder"), content.get("name")
        if not isinstance(holder, str) or not isinstance(name, str):
            raise ValueError("the health names no holder or no server")
        return cls(health_from_dict(content), load_from_dict(content.get("load")), holder, name)
