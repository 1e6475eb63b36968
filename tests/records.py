"""Records and documents for tests."""

from __future__ import annotations

from typing import Any

from mcp_discovery.document import CapabilityDocument
from mcp_discovery.record import Record


def document(*tools: str, filler: int = 0) -> CapabilityDocument:
    """A document with these tools; ``filler`` bytes of incompressible text in each description."""
    return CapabilityDocument(tools=tuple(tool(name, filler) for name in tools))


def tool(name: str, filler: int = 0) -> dict[str, Any]:
    """One tool as MCP spells it."""
    import random

    noise = random.Random(name).randbytes(filler // 2).hex()
    return {
        "name": name,
        "description": f"Does {name}. {noise}",
        "inputSchema": {"type": "object", "properties": {"query": {"type": "string"}}},
    }


def record(id: str = "catalog-1", **fields: Any) -> Record:
    """A record that is fit to be registered; ``fields`` in JSON's spelling."""
    return Record.parse(
        {
            "id": id,
            "name": "product-catalog",
            "description": "Products and their stock",
            "version": "1.2.3",
            "tags": ["products", "inventory"],
            "endpoint": {"url": f"http://127.0.0.1:8001/mcp?of={id}"},
        }
        | fields
    )
