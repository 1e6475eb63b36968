"""What the shell offers after Tab: names, ids, tags and tools that the facade knows."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

import typer

from mcp_discovery.cli.options import FACADE

#: Seconds that a person who pressed Tab waits at most.
_PATIENCE = 0.5
# What is completed ends up in a command line: nothing that a shell could take for its own.
_HARMLESS = re.compile(r"[A-Za-z0-9_@%+:,./-]{1,128}")


def names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of servers."""
    return _offered((each.get("name") for each in _servers(ctx)), incomplete)


def names_and_ids(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of servers, and the ids of those that have several instances."""
    servers = _servers(ctx)
    found = [each.get("name") for each in servers]
    several = {name for name in found if found.count(name) > 1}
    ids = [each.get("id") for each in servers if each.get("name") in several]
    return _offered([*found, *ids], incomplete)


def tags(ctx: typer.Context, incomplete: str) -> list[str]:
    """Tags that servers have."""
    return _offered((tag for each in _servers(ctx) for tag in each.get("tags") or ()), incomplete)


def tools(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of tools."""
    answer = _ask(ctx, "/tools?status=all&limit=10000")
    return _offered((each.get("name") for each in answer.get("tools") or ()), incomplete)


def _servers(ctx: typer.Context) -> list[dict[str, Any]]:
    return _ask(ctx, "/servers?status=all&fields=" + quote("name,tags")).get("servers") or []


def _offered(found: Iterable[object], incomplete: str) -> list[str]:
    texts = {each for each in found if isinstance(each, str)}
    return sorted(
        each for each in texts if each.startswith(incomplete) and _HARMLESS.fullmatch(each)
    )


def _ask(ctx: typer.Context, path: str) -> dict[str, Any]:
    """The facade's answer; nothing where there is none: Tab must not complain."""
    import json
    from urllib.error import URLError
    from urllib.request import ProxyHandler, Request, build_opener

    facade = ctx.params.get("facade") or os.environ.get("MCP_DISCOVERY_FACADE") or FACADE
    token = ctx.params.get("facade_token") or os.environ.get("MCP_DISCOVERY_FACADE_TOKEN")
    if not str(facade).startswith(("http://", "https://")):
        return {}
    request = Request(f"{str(facade).rstrip('/')}{path}")
    if token:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    try:
        with build_opener(ProxyHandler({})).open(request, timeout=_PATIENCE) as answer:
            content = json.load(answer)
    except (URLError, OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
