"""What to do where a list is empty or short: from what was asked, and what the facade has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mcp_discovery.document import KINDS, Kind
from mcp_discovery.query.filters import FILTERS

if TYPE_CHECKING:
    from mcp_discovery.adapters.remote.api import FacadeApi

#: Said of what is named where nothing is listed.
EMPTY = "the list is empty; `mcp-discovery servers` says how to begin"

Pairs = Sequence[tuple[str, str]]


async def hints(api: FacadeApi, asked: Pairs) -> list[str]:
    """One sentence each: how to begin, which value no server has, what has another status.

    ``asked`` are parameters of ``GET /servers``. Empty where there is nothing to say.
    """
    from mcp_discovery.cli.facade_connection import get

    asked = [pair for pair in asked if pair[0] not in ("sort", "limit", "fields")]
    found = await get(api, "/servers", [*asked, ("explain", "true"), ("limit", "20")])
    total, excluded = found.get("total", len(found["servers"])), found.get("excluded") or []
    if not total and not excluded:
        return [await _how_to_begin(api)]
    if not total and (unknown := found.get("unknownValues")):
        return [_unknown(each) for each in unknown]
    usual = ("status", "healthy") in asked
    if (others := found.get("otherStatuses")) and (usual or not total):
        return [_of_other_status(others, excluded, total)]
    if total:
        return []
    failed = [{*each["filters"]} for each in excluded]
    all_fail = set.intersection(*failed) if found["totalExcluded"] == len(failed) else set()
    for name in all_fail - {"status"}:
        return [f"No server passes the filter {name}."]
    return ["No server passes all of these filters; leave one out."]


async def tool_hints(api: FacadeApi, asked: Pairs, kind: Kind = "tool") -> list[str]:
    """The same where ``GET /tools``, or that of another ``kind``, found none with the parameters
    ``asked``."""
    from mcp_discovery.cli.facade_connection import get

    alike = [pair for pair in asked if pair[0] not in ("q", "limit", "schema", "status")]
    status = [pair for pair in asked if pair[0] == "status"]
    if said := await hints(api, [*alike, ("status", "all")]):
        return said  # the list is empty, or a value is not in it
    everyone = [*alike, *(pair for pair in asked if pair[0] == "q"), ("status", "all")]
    path = KINDS[kind]
    found = (await get(api, f"/{path}", [*everyone, ("limit", "3")])) if status else {}
    if names := [str(each["name"]) for each in found.get(path, ())]:
        total = found[f"total{path.title()}"]
        them = "it" if total == 1 else "them"
        more = ", …" if total > len(names) else ""
        what = f"no server that offers {', '.join(names)}{more} has this status"
        return [f"Now {what}; --status all shows {them}."]
    return [f"Use fewer or other words: mcp-discovery {path} lists all."]


async def _how_to_begin(api: FacadeApi) -> str:
    from mcp_discovery.cli.facade_connection import get

    store = str((await get(api, "/status")).get("store") or "embedded:")
    if store.startswith("embedded:"):
        store = api.url  # the facade's own list
    return (
        "The list is empty. Start a sidecar beside a server: mcp-discovery sidecar --store "
        f"{store} --url http://127.0.0.1:8000/mcp (for one that speaks stdio, -- COMMAND instead "
        f"of --url); or register a list of servers: mcp-discovery register FILE --facade {api.url}"
    )


def _unknown(unknown: Mapping[str, Any]) -> str:
    row = FILTERS.get(unknown["filter"])
    option = row.option if row is not None else None
    flag = option.flags[0] if option and option.flags else f"--{unknown['filter']}"
    noun, value = (row.noun if row is not None else "") or unknown["filter"], unknown["value"]
    if "," in value and option is not None and option.repeated:
        again = " ".join(f"{flag} {each.strip()}" for each in value.split(","))
        return f"No server has the {noun} {value!r}; give {flag} again for each: {again}"
    near = " or ".join(map(repr, unknown["nearest"]))
    return f"No server has the {noun} {value!r}" + (f"; did you mean {near}?" if near else ".")


def _of_other_status(others: Mapping[str, int], left_out: Sequence[Any], shown: int) -> str:
    number = sum(others.values())
    more = " more" if shown else ""
    alone = [each for each in left_out if each["filters"] == ["status"]]
    if number == 1 and alone:
        one = alone[0]
        why = f"{one['id']} is {one['status']}: {one['reason']}"
        return f"1{more} is not shown: {why}; --status all shows it."
    counts = ", ".join(f"{count} {status}" for status, count in others.items())
    them = "it" if number == 1 else "them"
    return f"{number}{more} not shown ({counts}); --status all shows {them}."
