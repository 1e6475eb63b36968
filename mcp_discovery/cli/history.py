"""``mcp-discovery history``: what became of a server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import typer

from mcp_discovery.cli import completion, options
from mcp_discovery.cli.exit_codes import run
from mcp_discovery.cli.terminal import line, say, say_json
from mcp_discovery.errors import InvalidInputError, RegistrationLostError

if TYPE_CHECKING:
    from rich.text import Text

    from mcp_discovery.adapters.remote.api import FacadeApi

Told = Mapping[str, Any]
_COLUMNS = ("TIME", "ID", "STATUS", "CHANGED", "VERSION", "REASON", "KEPT BY")
#: Of how many documents it is told how they differ from the one before.
_MOST_DIFFS = 20


def history(
    server: str = typer.Argument(
        metavar="SERVER",
        help="A server's name, for all of its instances, or one instance's id.",
        autocompletion=completion.names_and_ids,
    ),
    at: str | None = typer.Option(
        None,
        metavar="TIME",
        help="How it was at this moment, in a line: 'yesterday 16:00', 2026-11-30T16:00, '2h ago'.",
    ),
    since: str | None = typer.Option(None, "--from", metavar="TIME", help="From this time on."),
    until: str | None = typer.Option(None, "--to", metavar="TIME", help="Before this time."),
    documents: bool = typer.Option(
        False,
        "--documents",
        help="What it offered, version by version, and what was different each time.",
    ),
    instance: bool = typer.Option(
        False, "--instance", help="SERVER is an instance's id, though a server has that name."
    ),
    limit: int = typer.Option(50, min=1, max=1000, help="How many changes, the newest first."),
    facade: str = options.FACADE,
    json: bool = options.JSON,
    facade_token: str | None = options.FACADE_TOKEN,
    facade_token_file: str | None = options.FACADE_TOKEN_FILE,
) -> None:
    """Tell what became of a server: when it was up and down, and why, and what changed.

    Try: mcp-discovery history product-catalog --at "yesterday 16:00"
    """
    from mcp_discovery.cli.moments import moment

    if at is not None and (since or until or documents):
        raise InvalidInputError("--at asks for one moment; leave --from, --to and --documents out")
    if documents and (since or until):
        raise InvalidInputError("--documents tells of all that are kept; leave --from and --to out")
    given = {"--at": at, "--from": since, "--to": until}
    params = [
        (option.removeprefix("--"), moment(option, text).isoformat())
        for option, text in given.items()
        if text is not None
    ]
    if instance:
        params.append(("of", "instance"))

    async def work() -> None:
        from mcp_discovery.cli.facade_connection import facade_api

        async with facade_api(facade, facade_token, facade_token_file) as api:
            if documents:
                await _documents(api, server, params, json=json)
                return
            bound = [] if at is not None else [("limit", str(limit))]
            found = await _get(api, server, "history", [*params, *bound])
            if json:
                say_json(found)
            elif at is not None:
                say(line(_moment(found)))
            else:
                _print(found)

    run(work())


async def _get(api: FacadeApi, server: str, what: str, params: Sequence[tuple[str, str]]) -> Any:
    from mcp_discovery.cli.facade_connection import get

    try:
        return await get(api, f"/servers/{quote(server, safe='')}/{what}", params)
    except RegistrationLostError as error:
        raise InvalidInputError(
            f"no server and no instance {server[:100]!r} is known, now or in what is kept of the "
            "past; mcp-discovery servers --status all lists them"
        ) from error


def _moment(found: Told) -> str:
    """How it was, in a sentence."""
    from mcp_discovery.cli.moments import shown

    name, at = found["name"], _time(found["at"])
    when, there = shown(at), found["instances"]
    status, gaps = found["status"], found["unwatched"]
    if status is None:
        begins = shown(_time(gaps[0]["to"]))
        return f"nothing is known of {name} at {when}: what is kept begins at {begins}"
    was = "was not listed" if not there else f"was {status}"
    if gaps:
        gap = gaps[0]
        ended = f"to {shown(_time(gap['to']))}" if "to" in gap else "until now"
        began = shown(_time(gap["from"]))
        return f"nobody watched {name} at {when} (from {began} {ended}); before that it {was}"
    if not there:
        return f"{name} {was} at {when}"
    first = there[0]
    why = f"{first['reason']}, since {shown(_time(first['since']), beside=at)}"
    told = f"{name} {was} at {when}: {why}"
    if found["of"] == "instance":
        return told
    counts = Counter(each["status"] for each in there)
    if len(there) == 1:
        return f"{told}; 1 instance"
    states = ", ".join(f"{number} {each}" for each, number in counts.items())
    return f"{told}; {len(there)} instances: {states}"


def _print(found: Told) -> None:
    """The changes with the gaps between them, and the availability."""
    from mcp_discovery.cli.moments import shown
    from mcp_discovery.cli.tables import print_table

    rows = [(_time(each["at"]), _row(each)) for each in found["changes"]]
    oldest = rows[-1][0] if rows and "nextCursor" in found else None
    for gap in found["unwatched"]:
        began = _time(gap["from"])
        ended = shown(_time(gap["to"])) if "to" in gap else "now"
        if oldest is None or began > oldest:
            told = f"nobody watched until {ended}"
            rows.append((began, [shown(began), "", "unwatched", "", "", told, ""]))
    if not rows:
        say("Nothing happened in that time.")
        return
    rows.sort(key=lambda pair: pair[0], reverse=True)
    print_table(_COLUMNS, (row for _, row in rows))
    for span, each in found["availability"].items():
        say(f"{'last day' if span == 'day' else 'last 30 days'}: {_share(each)}")
    if found["kept"] == "memory":
        say("It is kept in memory alone; give the facade --audit-store to keep it.", err=True)


def _row(change: Told) -> list[str | Text]:
    from mcp_discovery.cli.moments import shown
    from mcp_discovery.cli.tables import coloured

    by = change["registrant"]
    keeper = by.get("owner") or f"{by['by']} {by['host']}"
    return [
        shown(_time(change["at"])),
        change["id"],
        coloured(change["status"]),
        ", ".join(change["changed"]),
        change["version"],
        change["reason"],
        keeper,
    ]


def _share(found: Told) -> str:
    shares = found["shares"]
    if not shares:
        return "nobody watched"
    told = ", ".join(f"{status} {share:.2%}" for status, share in shares.items())
    return f"{told} of {_length(found['watched'])} watched" + (
        f", {_length(found['unwatched'])} unwatched" if found["unwatched"] >= 1 else ""
    )


def _length(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


async def _documents(
    api: FacadeApi, server: str, params: Sequence[tuple[str, str]], *, json: bool
) -> None:
    from mcp_discovery.cli.moments import shown
    from mcp_discovery.cli.tables import print_table

    listed = (await _get(api, server, "documents", params))["documents"]
    diffs: dict[str, Told] = {}
    for newer, older in islice(pairwise(listed), _MOST_DIFFS):
        if newer["kept"] and older["kept"]:
            wanted = [*params, ("with", older["digest"])]
            path = f"documents/{newer['digest']}/diff"
            diffs[newer["digest"]] = await _get(api, server, path, wanted)
    if json:
        say_json({"documents": listed, "diffs": list(diffs.values())})
        return
    if not listed:
        say("Nothing is known of what it offered.")
        return
    rows = (
        [
            each["digest"][:12],
            ", ".join(each["versions"]),
            shown(_time(each["firstSeen"])),
            shown(_time(each["lastSeen"])) if "lastSeen" in each else "now",
            ", ".join(each["instances"]),
        ]
        for each in listed
    )
    print_table(("DOCUMENT", "VERSION", "FIRST SEEN", "LAST SEEN", "INSTANCES"), rows)
    for digest, found in diffs.items():
        say(f"\n{digest[:12]}, compared with {found['from'][:12]} before it:")
        for each in _differences(found):
            say(f"  {line(each)}")


def _differences(found: Told) -> Iterable[str]:
    """How two documents differ, a line each."""
    for part, each in found["parts"].items():
        yield from (f"+ {part}: {name}" for name in each["added"])
        yield from (f"- {part}: {name}" for name in each["removed"])
        for item in each["changed"]:
            for member, segments in item["texts"].items():
                yield f"~ {part}: {item['name']}: {member}: {_words(segments)}"
            for parameter in item["parameters"]:
                yield f"~ {part}: {item['name']}: {_parameter(parameter)}"
            if item["other"]:
                yield f"~ {part}: {item['name']}: {', '.join(item['other'])}"
    if found["card"]:
        yield f"~ card: {', '.join(found['card'])}"


def _words(segments: Iterable[Sequence[str]]) -> str:
    """A text with what is gone in brackets, and what is new in braces, as wdiff has them."""
    marks = {"=": "{}", "-": "[-{}-]", "+": "{{+{}+}}"}
    return "".join(marks[kind].format(text) for kind, text in segments)


def _parameter(found: Told) -> str:
    was, now = (
        None if each is None else _described(each) for each in (found["before"], found["after"])
    )
    name = found["name"]
    if was is None or now is None:
        return f"parameter {name} {found['change']}: {was or now}"
    return f"parameter {name}: {was} -> {now}"


def _described(parameter: Told) -> str:
    told = [parameter["type"] or "anything", *(["required"] if parameter["required"] else [])]
    told += filter(None, (parameter["description"], parameter["more"]))
    return ", ".join(told)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
