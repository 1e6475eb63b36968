"""``mcp-discovery sync drupal``: has a facade synchronize its list with a Drupal site."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import typer

from mcp_discovery.cli import command, options
from mcp_discovery.cli.exit_codes import CHANGES, DONE, FAILED, run
from mcp_discovery.cli.failures import with_debug
from mcp_discovery.cli.terminal import line, say, say_json
from mcp_discovery.errors import InvalidInputError

_VARIABLE = "DRUPAL_API_KEY"
#: What names a variable of the environment: ``${NAME}``.
_REFERENCE = re.compile(r"\$\{(\w+)\}")
#: Seconds: a facade takes 300 at most.
_TIMEOUT = 310.0

sync = typer.Typer(cls=command.Group, help="Keep the list and a content management system alike.")


@sync.command("drupal", cls=command.Command)
@with_debug
def drupal(
    endpoint: str = typer.Argument(
        metavar="URL", help="The base URL of the site, such as https://cms.example.com."
    ),
    mode: str = typer.Option(
        "bidirectional", metavar="push|pull|bidirectional", help="Where changes are carried to."
    ),
    api_key: str | None = typer.Option(
        None,
        metavar="KEY",
        envvar=_VARIABLE,
        help="The site's key. Better given by the environment; ${NAME} is filled in from it.",
    ),
    api_key_file: str | None = typer.Option(
        None, metavar="FILE", help="A file that holds the key instead."
    ),
    key_kind: str = typer.Option(
        "api-key",
        metavar="api-key|bearer|basic",
        help="How it is sent: as the module Key auth takes it, as a token, or as USER:PASSWORD.",
    ),
    resource_type: str = typer.Option(
        "node--mcp_server", metavar="TYPE", help="The type of resource that servers are there."
    ),
    field: list[str] | None = typer.Option(
        None,
        metavar="OURS=THEIRS",
        help="A field's machine name, such as tags=field_tags, or tags= for none; may be repeated.",
    ),
    dry_run: bool = typer.Option(
        False,
        "--dry-run",
        help="Only tell what would be changed; exit code 9 if anything would.",
    ),
    unpublish_many: bool = typer.Option(
        False,
        "--unpublish-many",
        help="Unpublish what is gone here, even if that is most of what is there.",
    ),
    facade: str = options.FACADE,
    json: bool = options.JSON,
    facade_token: str | None = options.FACADE_TOKEN,
    facade_token_file: str | None = options.FACADE_TOKEN_FILE,
) -> None:
    """Synchronize the list with a Drupal site, once; done again it changes nothing.

    The facade asks the site, and keeps no key. What changed on both sides is told, and neither is
    touched: the exit code is 1 then, as it is where something failed.

    See first: mcp-discovery sync drupal https://cms.example.com --dry-run
    """
    body = {
        "drupalEndpoint": endpoint,
        "apiKey": _key(api_key, api_key_file),
        "syncMode": mode,
        "keyKind": key_kind,
        "resourceType": resource_type,
        "fields": dict(map(_pair, field or ())),
        "dryRun": dry_run,
        "unpublishMany": unpublish_many,
    }

    async def work() -> int:
        from mcp_discovery.cli.facade_connection import facade_api

        async with facade_api(facade, facade_token, facade_token_file, timeout=_TIMEOUT) as api:
            report = (await api.call("POST", "/drupal/sync", body)).json()
        rows = list(_rows(report))
        if json:
            say_json(report)
        else:
            for id, what, bad in rows:
                say(line(f"{id}: {what}"), err=bad)
            say(line(f"{report['unchanged']} unchanged."), err=True)
        if any(bad for _, _, bad in rows):
            return FAILED
        return CHANGES if dry_run and rows else DONE

    run(work())


def _key(given: str | None, file: str | None) -> str:
    """The key, read from a file or filled in from the environment."""
    from mcp_discovery.credential_files import Secret

    if file is not None:
        return Secret("key of Drupal (--api-key-file)", None, file).current() or ""
    if given is None:
        raise InvalidInputError(f"a key is missing: set {_VARIABLE}, or give --api-key-file")
    if (found := _REFERENCE.fullmatch(given)) is None:
        return given
    value = os.environ.get(found[1])
    if not value or value == given:
        raise InvalidInputError(f"--api-key names the variable {found[1]}, which is not set")
    return value


def _pair(text: str) -> tuple[str, str | None]:
    ours, equals, theirs = text.partition("=")
    if not equals or not ours:
        raise InvalidInputError(f"--field {text[:100]!r} is not OURS=THEIRS, as tags=field_tags is")
    return ours, theirs or None


def _rows(report: Mapping[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """What became of each: its id, what, and whether somebody has to do something about it."""
    for where, side in (("pushed", "in Drupal"), ("pulled", "here")):
        for effect, ids in report[where].items():
            for id in ids:
                yield id, f"{effect} {side}", False
    for name in ("conflicts", "refused", "failed"):
        for each in report[name]:
            fields = f" ({', '.join(each['fields'])})" if each.get("fields") else ""
            kind = "conflict" if name == "conflicts" else name
            yield each.get("id") or "?", f"{kind}: {each['reason']}{fields}", True
    for each in report["skipped"]:
        yield each.get("id") or "?", f"skipped: {each['reason']}", True
