"""A facade with ``--auth``, and a token for each of the roles that the tests need."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml

from mcp_discovery.facade.access.tokens import hash_of, new_token
from tests.facade.harness import Client, served

#: The roles of an assistant for a whole company, and those of who runs it.
ROLES: Mapping[str, Any] = {
    "employee": "knowledge:read",
    "manager": "knowledge:read actions:read",
    "admin": "knowledge:read knowledge:write actions:read actions:write",
    "reader": "read",
    "registrar": "read register report",
    "operator": "read call register report admin",
}
SCOPES: Mapping[str, Any] = {
    "knowledge:read": ["search_knowledge", "get_article", "list_categories"],
    "knowledge:write": ["create_article", "update_article", "publish_article"],
    "actions:read": ["get_ticket", "list_tickets", "get_report"],
    "actions:write": ["create_ticket", "update_ticket", "trigger_alert"],
}
#: A token of each role, whose subject is the role's name: ``TOKENS["manager"]``.
TOKENS: Mapping[str, str] = {role: new_token(role) for role in ROLES}


def bearer(role: str) -> dict[str, str]:
    """The header of a caller with ``role``."""
    return {"Authorization": f"Bearer {TOKENS[role]}"}


def write_auth_file(path: Path, **sections: Any) -> str:
    """Writes a file with the roles and tokens above, and with ``sections`` in it or instead."""
    tokens = {role: {"hash": hash_of(TOKENS[role]), "roles": role} for role in ROLES}
    whole = {"roles": dict(ROLES), "scopes": dict(SCOPES), "tokens": tokens} | sections
    new = path.with_suffix(".new")
    new.write_text(yaml.safe_dump(whole))
    new.rename(path)
    return str(path)


def knowing_sidecars(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """The environment of a facade process that knows its sidecars, and theirs.

    Everybody else may read, register and report as well.
    """
    roles = dict(ROLES) | {"guest": "read register report"}
    file = write_auth_file(folder / "auth.yaml", roles=roles, anonymous="guest")
    facade = {"MCP_DISCOVERY_AUTH": file, "MCP_DISCOVERY_AUDIT_STORE": "none"}
    return facade, {"MCP_DISCOVERY_STORE_TOKEN": TOKENS["registrar"]}


@asynccontextmanager
async def guarded(
    folder: Path, sections: Mapping[str, Any] | None = None, **more: Any
) -> AsyncIterator[Client]:
    """A facade with such a file in ``folder``; ``more`` is for :func:`served`."""
    async with served(
        auth=write_auth_file(folder / "auth.yaml", **(sections or {})), **more
    ) as ask:
        yield ask
