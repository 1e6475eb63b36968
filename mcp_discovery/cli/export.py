"""``mcp-discovery export``: the list as a file, for this command again or for an MCP host."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from mcp_discovery.cli import filters, options
from mcp_discovery.cli.exit_codes import run
from mcp_discovery.cli.terminal import json_text, say
from mcp_discovery.document import KINDS
from mcp_discovery.errors import InvalidInputError

FORMATS = ("registry", "servers", "mcp-json", "vscode", "dns")


@filters.filtered(status_help="Default: all; for hosts healthy.")
def export(
    format: str = typer.Option(
        "registry",
        "--format",
        "-f",
        metavar="FORMAT",
        help="registry: everything, with the schemas, for import. servers: a plain list for "
        "import and register, to be edited by hand. mcp-json: an mcpServers object for MCP "
        "hosts. vscode: the same as VS Code spells it. dns: a zone of --domain with the records by "
        "which drafts of ARD and the IETF find agents.",
        autocompletion=lambda: list(FORMATS),
    ),
    output: str | None = typer.Option(
        None, "--output", "-o", metavar="FILE", help="Default: standard output."
    ),
    gateway: bool = typer.Option(
        False,
        "--gateway",
        help="For hosts: the addresses of the facade's gateway, which stay while instances "
        "come and go.",
    ),
    domain: str | None = typer.Option(
        None, "--domain", metavar="NAME", help="For dns: the zone's, such as agents.example.com."
    ),
    facade: str = options.FACADE,
    *,
    selected: filters.Pairs,
    json: bool = typer.Option(
        False, "--json", envvar="MCP_DISCOVERY_JSON", help="On one line, not indented."
    ),
    facade_token: str | None = options.FACADE_TOKEN,
    facade_token_file: str | None = options.FACADE_TOKEN_FILE,
) -> None:
    """Write what a facade lists to a file.

    Move a registry: mcp-discovery export -o all.json, then mcp-discovery import all.json
    --facade http://other:4000

    For an MCP host: mcp-discovery export -f mcp-json --tag products -o .mcp.json

    For a name server: mcp-discovery export -f dns --domain agents.example.com -o agents.zone
    """
    if format not in FORMATS:
        from mcp_discovery.nearest import nearest

        near = nearest(format, FORMATS)
        hint = f"; did you mean {near}?" if near else ""
        raise InvalidInputError(f"--format {format!r} is none of {', '.join(FORMATS)}{hint}")
    for_hosts = format in ("mcp-json", "vscode", "dns")
    if gateway and not for_hosts:
        raise InvalidInputError("--gateway is for --format mcp-json, vscode and dns")
    zone_of = _zone_of(domain) if format == "dns" else ""
    if domain is not None and not zone_of:
        raise InvalidInputError("--domain is for --format dns")
    params = selected
    if not any(name == "status" for name, _ in params):
        params = [("status", "healthy" if for_hosts else "all"), *params]
    if format == "dns" and not any(name == "kind" for name, _ in params):
        params = [("kind", "all"), *params]
    everything = params == [("status", "all")] and not for_hosts

    async def work() -> None:
        from mcp_discovery.cli.facade_connection import every_entry, facade_api, get
        from mcp_discovery.cli.hints import hints
        from mcp_discovery.host_exports import mcp_json, vscode

        async with facade_api(facade, facade_token, facade_token_file, timeout=60) as api:
            entries = [] if everything else (await get(api, "/servers", params))["servers"]
            if format == "registry":
                content = await get(api, "/registry/export")
                if not everything:
                    content = restricted(content, {each["id"] for each in entries})
                count = len(content["connections"])
            elif format == "servers":
                if everything:
                    entries = await every_entry(api)
                content = {"servers": [registration_body(each) for each in entries]}
                count = len(entries)
            else:
                if format == "dns":
                    from mcp_discovery.cli.dns_zone import serial_after, zone

                    public = (await get(api, "/mcp/server-card"))["remotes"][0]["url"]
                    serial = serial_after(_read(output), int(time.time()))
                    at = public.removesuffix("/mcp"), zone_of, serial
                    content, notes = zone(entries, *at, gateway=gateway)
                else:
                    via = f"{facade.rstrip('/')}/gateway/{{name}}/mcp" if gateway else None
                    content, notes = (mcp_json if format == "mcp-json" else vscode)(entries, via)
                count = len({each["name"] for each in entries}) - len(notes)
                for note in notes:
                    say(note, err=True)
            for hint in [] if count else await hints(api, params):
                say(hint, err=True)
        _write(content, output, indent=not json)
        if output is not None:
            say(f"{output}: {count} exported", err=True)

    run(work())


def _read(output: str | None) -> str:
    """What is in the file that is about to be replaced; nothing where it cannot be read."""
    try:
        return Path(output).read_text(errors="replace") if output is not None else ""
    except OSError:
        return ""


def restricted(content: Mapping[str, Any], ids: set[str]) -> dict[str, Any]:
    """An export with the connections of ``ids`` only, and the documents that they name."""
    connections = [each for each in content["connections"] if each["id"] in ids]
    digests = {each.get("digest") for each in connections}
    documents = {key: value for key, value in content["documents"].items() if key in digests}
    counted = {"connections": connections, "totalExported": len(connections)}
    return {**content, **counted, "documents": documents}


def registration_body(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry of the list as ``POST /servers`` takes it, without what is usual."""
    from mcp_discovery.record_fields import GIVEN

    body = {key: entry[key] for key in GIVEN if entry.get(key)}
    if entry["transport"] == "streamable-http" and entry.get("url"):
        del body["endpoint"]
        body["url"] = entry["url"]
    if body.get("weight") == 1:
        del body["weight"]
    if body.get("registryName") == f"local/{entry['name']}":
        del body["registryName"]
    if body.get("auth", {}).get("type", "none") == "none":
        body.pop("auth", None)
    # A server that answers says itself what it offers, which is what its era stands for; of the
    # others the names are all there is.
    if era := (entry.get("protocol") or {}).get("era"):
        body["protocol"] = {"era": era}
    else:
        offered = entry.get("capabilities") or {}
        names = {key: offered[key] for key in KINDS.values() if offered.get(key)}
        body |= {"capabilities": names} if names else {}
    return body


def _zone_of(domain: str | None) -> str:
    """The domain for ``--format dns``; raises :class:`InvalidInputError` where it is none."""
    from mcp_discovery.cli.dns_zone import is_domain

    given = (domain or "").removesuffix(".").lower()
    if not is_domain(given):
        raise InvalidInputError("--format dns needs --domain, such as agents.example.com")
    return given


def _write(content: Mapping[str, Any] | str, output: str | None, *, indent: bool) -> None:
    """``content`` to standard output, or to a file, which whoever reads it sees whole or not."""
    text = content.rstrip("\n") if isinstance(content, str) else json_text(content, indent=indent)
    if output is None or output == "-":
        say(text)
        return
    path = Path(os.path.realpath(output))
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if path.exists() and not path.is_file():  # as /dev/stdout, or a pipe
            path.write_text(text + "\n", encoding="utf-8")
            return
        try:
            beside.write_text(text + "\n", encoding="utf-8")
            if path.exists():
                shutil.copymode(path, beside)
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise InvalidInputError(f"cannot write {output}: {error.strerror}") from error
