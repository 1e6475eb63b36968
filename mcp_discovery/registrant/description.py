"""What is registered of an MCP server: its record and its capability document."""

from __future__ import annotations

from dataclasses import dataclass

from mcp_discovery.document import CapabilityDocument
from mcp_discovery.record import Record


@dataclass(frozen=True, slots=True)
class ServerDescription:
    """What is registered of an MCP server; ``notes`` say what was left out of the record."""

    record: Record
    document: CapabilityDocument
    notes: tuple[str, ...] = ()

    def same_as(self, other: ServerDescription) -> bool:
        """Whether both would leave the same in a store."""
        return self.document.digest == other.document.digest and self.record.same_as(other.record)

    def same_place(self, other: ServerDescription) -> bool:
        """Whether one registration can go over to the other: id and name stay what they are."""
        return (self.record.id, self.record.name) == (other.record.id, other.record.name)
