"""A server, and a tool, in words for people."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from textwrap import indent
from typing import Any

from mcp_discovery.cli.arguments import kind_of, properties, required, resolved, shown
from mcp_discovery.cli.tables import CELLS, LOADS, print_entries
from mcp_discovery.cli.terminal import json_text, line, say
from mcp_discovery.document import text_of
from mcp_discovery.record_fields import GIVEN, SHARED

Entry = Mapping[str, Any]
#: The fields that are shown under their own names, those that all instances share first; the
#: others are shown in another form, for each instance, or not at all.
_PLAIN = tuple(
    name
    for name in sorted(GIVEN, key=lambda name: name not in SHARED)
    if name not in {"id", "endpoint", "metadata", "healthUrl", "icons", "weight", "auth"}
)
_HINTS = {
    "readOnlyHint": "read-only",
    "destructiveHint": "destructive",
    "idempotentHint": "idempotent",
    "openWorldHint": "reaches the outside world",
}


def server(instances: Sequence[Entry], documents: Mapping[str, Entry], *, schema: bool) -> None:
    """Prints what ``instances`` of one server have in common, each of them, and what they offer."""
    first = instances[0]
    protocol = first.get("protocol") or {}
    info = protocol.get("serverInfo") or {}
    auth = first.get("auth") or {}
    _facts(
        {
            **{_label(name): _values(name, instances) for name in _PLAIN},
            "Transport": ", ".join(sorted({each["transport"] for each in instances})),
            "Credentials": auth.get("type"),
            "Protocol": " ".join(
                [
                    str(protocol.get("era") or ""),
                    *protocol.get("versions", ()),
                    *protocol.get("bindings", ()),
                ]
            ),
            "Calls itself": f"{info.get('name') or ''} {info.get('version') or ''}",
            "Instructions": protocol.get("instructions"),
            "Metadata": ", ".join(f"{k}={v}" for k, v in (first.get("metadata") or {}).items()),
        }
    )
    say()
    loads = [each for each in LOADS if any(CELLS[each](instance) for instance in instances)]
    columns = ("ID", "STATUS", "VERSION", "URL", *loads, "SINCE", "KEPT BY", "REASON")
    print_entries(instances, columns, ID="INSTANCE")
    _offers(instances, documents, schema=schema)


def _offers(instances: Sequence[Entry], documents: Mapping[str, Entry], *, schema: bool) -> None:
    digests = Counter((each.get("capabilities") or {}).get("digest") for each in instances)
    for digest, count in digests.most_common():
        say()
        if len(digests) > 1:
            ids = [e["id"] for e in instances if (e.get("capabilities") or {})["digest"] == digest]
            say(f"Offered by {count} of {len(instances)} instances ({', '.join(ids)}):")
        document = documents.get(digest or "")
        if document is None:
            say("What it offers is not known." if not digest else "Its document cannot be read.")
            continue
        for each in document.get("tools") or ():
            _tool(each, schema=schema)
        for title, key, name in (
            ("Resources", "resources", "uri"),
            ("Resource templates", "resourceTemplates", "uriTemplate"),
            ("Prompts", "prompts", "name"),
            ("Skills", "skills", "name"),
        ):
            if items := document.get(key):
                say(f"{title}:")
                for each in items:
                    about = text_of(each, "description") or each.get("title") or ""
                    say(f"  {line(text_of(each, name))}  {line(about)}".rstrip())


def tool(about: Entry, *, schema: bool) -> None:
    """Prints one tool: its definition, who offers it, and in what they differ."""
    variants = about["variants"]
    if variants:
        _tool(variants[0]["tool"], schema=schema)
    columns = ("NAME", "ID", "STATUS", "VERSION")
    print_entries(about["offeredBy"], columns, NAME="SERVER", ID="INSTANCE")
    if about["consistent"] and not about["unknown"]:
        return
    say()
    if not about["consistent"]:
        say(f"It is not the same everywhere: {len(variants)} variants, the first is shown above.")
    for number, each in enumerate(variants[1:], start=2):
        ids = ", ".join(each["instances"][:10])
        say(f"Variant {number} differs in {', '.join(each['differs'])}: {ids}")
        if schema:
            say(json_text(each["tool"], indent=True))
    if about["inconsistentServers"]:
        say(f"Replicas differ among themselves: {', '.join(about['inconsistentServers'])}")
    if about["unknown"]:
        say(f"How these spell it is not known: {', '.join(about['unknown'])}")


def _tool(tool: Entry, *, schema: bool) -> None:
    hints = tool.get("annotations") or {}
    traits = [words for hint, words in _HINTS.items() if hints.get(hint) is True]
    suffix = f"  ({', '.join(traits)})" if traits else ""
    say(f"{line(tool.get('name'))}{suffix}")
    for text in str(tool.get("description") or tool.get("title") or "").strip().splitlines():
        say(f"  {text}".rstrip())
    given = tool.get("inputSchema") or {}
    if schema:
        say(indent(json_text(given, indent=True), " " * 4))
        if output := tool.get("outputSchema"):
            say("  gives")
            say(indent(json_text(output, indent=True), " " * 4))
    else:
        needed = set(required(given))
        for name, each in properties(given, given).items():
            plain = resolved(each, given)
            kind = kind_of(each, given) + (", required" if name in needed else "")
            if plain.get("default") is not None:
                kind += f", {shown(plain['default'])} by default"
            about = line(plain.get("description") or plain.get("title") or "")
            say(f"    {line(name)} ({line(kind)})  {about}".rstrip())
    say()


def _label(name: str) -> str:
    if name == "websiteUrl":
        return "Website"
    return re.sub("[A-Z]", lambda found: f" {found[0].lower()}", name).capitalize()


def _values(name: str, instances: Sequence[Entry]) -> str:
    """The values of a field in all instances, or in the first where they are mostly equal."""
    values = [each[name] for each in instances if each.get(name)]
    if name in SHARED and name not in ("version", "tags"):
        values = values[:1]
    texts = {str(text) for each in values for text in (each if type(each) is list else (each,))}
    return ", ".join(sorted(texts))


def _facts(facts: Mapping[str, object]) -> None:
    for name, value in facts.items():
        if value and (text := line(value)):
            say(f"{name + ':':<15}{text}")
