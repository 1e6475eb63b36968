"""The arguments of tools that stand in headers besides (``x-mcp-header``, MCP 2026-07-28)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

import orjson
from cachetools import LRUCache
from multidict import MultiMapping

from mcp_discovery.mcp_messages import (
    HEADER_MISMATCH,
    JsonRpcError,
    decoded_header,
    header_value,
)

_KEY, _MARK = "x-mcp-header", b'"x-mcp-header"'
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_TYPES: Final = ("string", "integer", "boolean")
#: How many tools are remembered, how deep a schema is looked into, and the bytes of a list at most.
_MOST_TOOLS, _DEEPEST, _MOST_READ = 1000, 16, 16 * 2**20


class ParamHeaders:
    """Which arguments of which tools do, learned from the lists of tools that pass."""

    def __init__(self) -> None:
        self._known: LRUCache[str, Mapping[tuple[str, ...], str]] = LRUCache(_MOST_TOOLS)

    async def learn(self, message: bytes) -> None:
        """Takes a response, which may be a list of tools."""
        if len(message) <= _MOST_READ and _MARK in message:
            self._known.update(await asyncio.to_thread(_listed, message))

    async def learn_tools(self, tools: Any) -> None:
        """Takes what may be a list of tools."""
        if isinstance(tools, list):
            self._known.update(await asyncio.to_thread(_annotated_tools, tools))

    def check(self, headers: MultiMapping[str], params: Mapping[str, Any]) -> None:
        """Raises :class:`JsonRpcError` (-32020) where the ``headers`` of a call do not repeat its
        ``params`` as they must."""
        expected = self.of(params)
        name = params.get("name")
        known = self._known.get(name, {}) if isinstance(name, str) else {}
        for header in {f"Mcp-Param-{each}" for each in known.values()}:
            given, wanted = headers.getall(header, []), expected.get(header)
            if [decoded_header(each) for each in given] != [
                decoded_header(each) for each in (wanted,) if each is not None
            ]:
                detail = f"the header {header} is not the argument of {name} in the body"
                raise JsonRpcError(HEADER_MISMATCH, detail)

    def of(self, params: Mapping[str, Any]) -> dict[str, str]:
        """The headers of the call with these ``params``."""
        name = params.get("name")
        known = self._known.get(name, {}) if isinstance(name, str) else {}
        found = {}
        for path, header in known.items():
            value: Any = params.get("arguments")
            for key in path:
                value = value.get(key) if isinstance(value, dict) else None
            if isinstance(value, bool):
                value = "true" if value else "false"
            if isinstance(value, str | int | float):
                found[f"Mcp-Param-{header}"] = header_value(str(value))
        return found


def _listed(message: bytes) -> dict[str, dict[tuple[str, ...], str]]:
    with suppress(orjson.JSONDecodeError, KeyError, TypeError):
        return _annotated_tools(orjson.loads(message)["result"]["tools"])
    return {}


def _annotated_tools(tools: list[Any]) -> dict[str, dict[tuple[str, ...], str]]:
    found = {}
    with suppress(AttributeError, KeyError, TypeError):
        for tool in tools:
            found[tool["name"]] = dict(_annotated(tool["inputSchema"], ()))
    return found


def _annotated(schema: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(properties, dict) or len(path) > _DEEPEST:
        return
    for name, each in properties.items():
        header = each.get(_KEY) if isinstance(each, dict) else None
        if isinstance(header, str) and _TOKEN.fullmatch(header) and each.get("type") in _TYPES:
            yield (*path, name), header
        yield from _annotated(each, (*path, name))
