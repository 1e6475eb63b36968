"""Does each name in the list stand for one server, to callers and in DNS?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

from mcp_discovery.cli.doctor.case import Case, DoctorFinding, ok, unchecked, wrong
from mcp_discovery.cli.facade_connection import get
from mcp_discovery.errors import DiscoveryError
from mcp_discovery.record import MAX_NAME

Entry = Mapping[str, Any]
_FIELDS = "name,tags,version,capabilities"


async def check_server_names(case: Case) -> AsyncIterator[DoctorFinding]:
    """Names that two servers have, names that are tags as well or too long for DNS, replicas of one
    version that differ."""
    try:
        async with case.api() as api:
            listed = await get(
                api, "/servers", [("status", "all"), ("explain", "true"), ("fields", _FIELDS)]
            )
            store = str((await get(api, "/status")).get("store", ""))
    except DiscoveryError:
        yield unchecked("whether each name is one server's: the facade cannot be asked")
        return
    entries: Sequence[Entry] = listed["servers"]
    shared: Sequence[Entry] = listed.get("namesakes") or ()
    found = [*_shared(shared), *_differing(entries, {str(each["name"]) for each in shared})]
    if _has_dns(case, store):
        found += _too_long(entries)
        if "service-per-server" not in store:  # there each server has names of its own
            found += _ambiguous(entries)
    for finding in found:
        yield finding
    if not found:
        yield ok(f"each of {len({each['name'] for each in entries})} names is one server's")


def _has_dns(case: Case, store: str) -> bool:
    """Whether names are served in DNS, as far as the command line and the facade's store tell."""
    stores = (store, case.store or "")
    served = any(each.startswith("consul") or "skydns=" in each for each in stores)
    return case.dns is not None or served


def _shared(shared: Iterable[Entry]) -> Iterable[DoctorFinding]:
    for each in shared:
        others = [id for server in each["servers"][1:] for id in server]
        yield wrong(
            f"{len(each['servers'])} servers share the name {each['name']}: {each['why']}",
            f"give {_some(others)} another --name; until then calls by that name never reach "
            f"{'it' if len(others) == 1 else 'them'}",
        )


def _differing(entries: Iterable[Entry], shared: set[str]) -> Iterable[DoctorFinding]:
    """Replicas of one version that offer different things; a server that reads its tools from
    elsewhere may be so for a while."""
    offered: defaultdict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for each in entries:
        if digest := (each.get("capabilities") or {}).get("digest"):
            offered[each["name"], each["version"]].setdefault(digest, each["id"])
    for (name, version), ids in offered.items():
        if len(ids) > 1 and name not in shared:
            one, other = list(ids.values())[:2]
            yield unchecked(
                f"whether {one} and {other} are replicas of one server: both are {name} {version}, "
                "and they do not offer the same",
                "see `mcp-discovery describe` of each; give another version another number",
            )


def _ambiguous(entries: Iterable[Entry]) -> Iterable[DoctorFinding]:
    named, tagged = defaultdict(list), defaultdict(list)
    for each in entries:
        named[each["name"]].append(each["id"])
        for tag in each["tags"]:
            if tag != each["name"]:
                tagged[tag].append(each["id"])
    for label in sorted(named.keys() & tagged.keys()):
        yield wrong(
            f"{label} is the name of {_some(named[label])} and a tag of {_some(tagged[label])}, so "
            "DNS serves it for neither",
            f"resolve {label}.server.… for the server and {label}.tag.… for the tag, or rename one",
        )


def _too_long(entries: Iterable[Entry]) -> Iterable[DoctorFinding]:
    labels = {(label, each["id"]) for each in entries for label in (each["name"], *each["tags"])}
    for label, id in sorted(labels):
        if len(label) > MAX_NAME:
            yield wrong(
                f"{label}, of {id}, has {len(label)} letters: it has no SRV name in DNS",
                f"register it under a name or tag of at most {MAX_NAME}",
            )


def _some(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - 3} more" if len(ids) > 3 else ""
    return ", ".join(ids[:3]) + more
