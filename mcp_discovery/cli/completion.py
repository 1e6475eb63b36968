"""Shell completion: names, ids, tags and tools that the facade lists."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import typer

from mcp_discovery.cli.options import FACADE_URL

#: Seconds that a completion may take.
_TIMEOUT = 0.5
# Completions go into a command line: they may hold nothing that has a meaning to a shell.
_SHELL_SAFE = re.compile(r"[A-Za-z0-9_@%+:,./-]{1,128}")


def names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of servers."""
    return _candidates((each.get("name") for each in _servers(ctx)), incomplete)


def names_and_ids(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of servers, and the ids of those that have several instances."""
    servers = _servers(ctx)
    found = [each.get("name") for each in servers]
    several = {name for name in found if found.count(name) > 1}
    ids = [each.get("id") for each in servers if each.get("name") in several]
    return _candidates([*found, *ids], incomplete)


def tags(ctx: typer.Context, incomplete: str) -> list[str]:
    """Tags that servers have."""
    return _candidates(
        (tag for each in _servers(ctx) for tag in each.get("tags") or ()), incomplete
    )


def tools(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of tools."""
    answer = _get(ctx, "/tools?status=all&limit=10000")
    return _candidates((each.get("name") for each in answer.get("tools") or ()), incomplete)


def _servers(ctx: typer.Context) -> list[dict[str, Any]]:
    return _get(ctx, "/servers?status=all&fields=" + quote("name,tags")).get("servers") or []


def _candidates(found: Iterable[object], incomplete: str) -> list[str]:
    texts = {each for each in found if isinstance(each, str)}
    return sorted(
        each for each in texts if each.startswith(incomplete) and _SHELL_SAFE.fullmatch(each)
    )


def _given(ctx: typer.Context, option: str) -> str | None:
    given: str | None = ctx.params.get(option)
    return given or os.environ.get(f"MCP_DISCOVERY_{option.upper()}") or None


def _of_login(facade: str) -> str | None:
    """The token of a login; it is not renewed, which takes longer than a completion may."""
    from mcp_discovery.cli import stored_logins

    try:
        login = stored_logins.find(facade)
    except ValueError:  # of a login that cannot be used, or an address that is none
        return None
    return login.access_token if login is not None and login.lasts(0) else None


def _get(ctx: typer.Context, path: str) -> dict[str, Any]:
    """The facade's response; an empty one on any error, since a completion must print none."""
    import json
    from urllib.error import URLError
    from urllib.request import ProxyHandler, Request, build_opener

    facade = ctx.params.get("facade") or os.environ.get("MCP_DISCOVERY_FACADE") or FACADE_URL
    token = _given(ctx, "facade_token")
    if not str(facade).startswith(("http://", "https://")):
        return {}
    if token is None and (file := _given(ctx, "facade_token_file")) is not None:
        try:
            token = Path(file).read_text().strip()
        except (OSError, ValueError):
            return {}
    if token is None:
        token = _of_login(str(facade))
    request = Request(f"{str(facade).rstrip('/')}{path}")
    if token:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    try:
        with build_opener(ProxyHandler({})).open(request, timeout=_TIMEOUT) as answer:
            content = json.load(answer)
    except (URLError, OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
