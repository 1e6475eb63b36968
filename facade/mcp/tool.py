"""What a tool of the facade's own is, and what it answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import orjson

from mcp_discovery.errors import DiscoveryError
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.facade.mcp.arguments import read
from mcp_discovery.facade.mcp.streams import ClientGoneError
from mcp_discovery.facade.mcp.tool_caller import OnProgress

#: Tools that only look: they change nothing, may be asked again, and know one closed world.
READ_ONLY: Final = {
    "readOnlyHint": True,
    "destructiveHint": False,
    "idempotentHint": True,
    "openWorldHint": False,
}


class Tool(ABC):
    """One tool. ``input_schema`` is also what arguments are checked by.

    ``output_schema`` is ``None`` where an answer is another tool's; ``slow`` says that a call may
    take long, tell of its progress and be cancelled.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    description: ClassVar[str]
    input_schema: ClassVar[Mapping[str, Any]]
    output_schema: ClassVar[Mapping[str, Any] | None] = None
    annotations: ClassVar[Mapping[str, Any]] = READ_ONLY
    slow: ClassVar[bool] = False

    @property
    def definition(self) -> dict[str, Any]:
        """The tool as ``tools/list`` tells it."""
        told: dict[str, Any] = {
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "inputSchema": self.input_schema,
        }
        if self.output_schema is not None:
            told["outputSchema"] = self.output_schema
        return told | {"annotations": {"title": self.title, **self.annotations}}

    async def call(
        self, arguments: Mapping[str, Any], on_progress: OnProgress | None
    ) -> Mapping[str, Any]:
        """The result of one call; what is wrong with it is told in it (``isError``)."""
        try:
            return await self.run(read(self.input_schema, arguments), on_progress)
        except ClientGoneError:
            raise
        except ProblemError as error:
            return failed(error.detail)
        except DiscoveryError as error:
            return failed(str(error))

    @abstractmethod
    async def run(
        self, arguments: Mapping[str, Any], on_progress: OnProgress | None
    ) -> Mapping[str, Any]:
        """The result for arguments that are right and whole.

        Raises :class:`InvalidArgumentsError`, :class:`ProblemError` or :class:`DiscoveryError`,
        whose sentence becomes the result.
        """


def answered(told: Mapping[str, Any]) -> dict[str, Any]:
    """A result that is ``told``, as structured content and as text for those who read only that."""
    text = orjson.dumps(told, default=dict).decode()
    return {"content": [{"type": "text", "text": text}], "structuredContent": told}


def failed(sentence: str) -> dict[str, Any]:
    """A result that says why there is none."""
    return {"content": [{"type": "text", "text": sentence}], "isError": True}


def strings(description: str, *, most: int = 64, **more: Any) -> dict[str, Any]:
    """The schema of a list of short strings."""
    items = {"type": "string", "minLength": 1, "maxLength": 256, **more}
    return {"type": "array", "items": items, "maxItems": most, "description": description}
