"""``mcp-discovery token``: the tokens that a facade's own file knows, made and revoked."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import typer

from mcp_discovery.cli import command, options
from mcp_discovery.cli.exit_codes import DONE, INVALID_INPUT
from mcp_discovery.cli.failures import with_debug
from mcp_discovery.cli.terminal import line, say, say_json
from mcp_discovery.errors import InvalidInputError

_AUTH = typer.Option(
    ...,
    "--auth",
    metavar="FILE",
    envvar="MCP_DISCOVERY_AUTH",
    help="The file of facade --auth. Its comments and its order stay.",
)

token = typer.Typer(
    cls=command.Group,
    help="Make and revoke the tokens of a facade's own, kept as hashes in the file of "
    "facade --auth.",
)


@token.command("create", cls=command.Command)
@with_debug
def create(
    id: str = typer.Argument(
        metavar="ID", help="What it is called: small letters, digits and hyphens."
    ),
    role: list[str] = typer.Option(
        ..., "--role", metavar="ROLE", help="A role of the file. May be repeated."
    ),
    auth: str = _AUTH,
    subject: str | None = typer.Option(
        None,
        metavar="NAME",
        help="Whose it is; several tokens of one subject are one caller. Default: ID.",
    ),
    expires: str | None = typer.Option(
        None, metavar="TIME", help="When it ends: 12h, 90d, or 2027-03-31. Default: never."
    ),
    note: str | None = typer.Option(None, metavar="TEXT", help="A few words for the next reader."),
    json: bool = options.JSON,
) -> None:
    """Make a token and print it: this once, since the file has nothing but its hash.

    A facade that follows the file takes it within a second; no restart.

    Try: mcp-discovery token create alice-laptop --role manager --auth auth.yaml
    """
    from pydantic import ValidationError

    from mcp_discovery.facade.access import token_file
    from mcp_discovery.facade.access.tokens import TokenEntry, hash_of, is_id, new_token

    if not is_id(id):
        raise InvalidInputError(
            f"{id!r} is no id of a token; write small letters, digits and hyphens, at most 63"
        )
    made = new_token(id)
    until = None if expires is None else _time(expires)
    try:
        entry = TokenEntry(
            hash=hash_of(made), subject=subject, roles=role, expires=until, note=note
        )
    except ValidationError as error:
        raise InvalidInputError(f"--subject: {error.errors()[0]['msg']}") from error
    token_file.add(auth, id, entry)
    if json:
        say_json({"id": id, "token": made, "subject": subject or id, "roles": role})
        return
    say(
        f"Shown this once; {auth} has its hash, and facades that follow it take it within a "
        "second. Give it as Authorization: Bearer …",
        err=True,
    )
    say(made)


@token.command("list", cls=command.Command)
@with_debug
def list_(auth: str = _AUTH, json: bool = options.JSON) -> None:
    """List the tokens in a file: whose they are and until when, never the tokens themselves."""
    from mcp_discovery.cli.tables import print_table
    from mcp_discovery.facade.access.auth_file import read
    from mcp_discovery.health import rfc3339
    from mcp_discovery.yaml_files import read_bytes

    rows = []
    for id, each in read(read_bytes(auth), auth).tokens.items():
        until = "" if each.expires is None else rfc3339(each.expires)
        over = each.expires is not None and each.expires.timestamp() <= time.time()
        rows.append((id, each.subject or id, each.roles, until, over, each.note or ""))
    if json:
        for id, subject, roles, until, over, note in rows:
            shown = {"id": id, "subject": subject, "roles": roles, "expires": until or None}
            say_json(shown | {"expired": over, "note": note or None})
        return
    if not rows:
        say(f"{auth} has no tokens; make one with mcp-discovery token create", err=True)
        return
    print_table(
        ["ID", "SUBJECT", "ROLES", "EXPIRES", "NOTE"],
        [
            [id, subject, ", ".join(roles), f"{until} (over)" if over else until, note]
            for id, subject, roles, until, over, note in rows
        ],
    )


@token.command("revoke", cls=command.Command)
@with_debug
def revoke(
    ids: list[str] | None = typer.Argument(None, metavar="[ID]...", help="The tokens' ids."),
    auth: str = _AUTH,
    subject: str | None = typer.Option(None, metavar="NAME", help="All tokens of this subject."),
) -> None:
    """Take tokens out of a file: they count no more within a second, and their streams end."""
    from mcp_discovery.facade.access import token_file

    wanted = set(ids or ())
    if not wanted and subject is None:
        raise InvalidInputError("name the tokens by their ids, or whose they are with --subject")
    removed = token_file.remove(
        auth, lambda id, entry: id in wanted or (entry.subject or id) == subject
    )
    for each in removed:
        say(line(f"revoked {each}"))
    missing = sorted(wanted - set(removed))
    for each in missing:
        say(line(f"{auth} has no token {each}; see mcp-discovery token list"), err=True)
    if not removed and not missing:
        say(line(f"{auth} has no token of {subject}"), err=True)
    raise typer.Exit(DONE if removed and not missing else INVALID_INPUT)


def _time(text: str) -> datetime:
    """A time from now on, or a date; raises :class:`InvalidInputError`."""
    try:
        moment = datetime.fromisoformat(text)
        found = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    except ValueError:
        try:
            found = datetime.fromtimestamp(time.time() + options.seconds(text), UTC)
        except (typer.BadParameter, OverflowError, ValueError, OSError):
            raise InvalidInputError(
                f"--expires {text[:40]!r} is no time; write 12h, 90d or 2027-03-31"
            ) from None
    if found.timestamp() <= time.time():
        raise InvalidInputError(f"--expires {text[:40]} is over already")
    return found.replace(microsecond=0)
