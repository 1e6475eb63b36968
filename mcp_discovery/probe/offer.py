"""What a server offers, made fit for its record: the same whoever registers it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import orjson

from mcp_discovery import secrets
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import RecordTooLargeError
from mcp_discovery.probe.agent_card import AgentCard, text
from mcp_discovery.probe.errors import BadAnswerError
from mcp_discovery.probe.introspection import Introspection
from mcp_discovery.record import MAX_RECORD_BYTES, Record, to_label, to_semver, url_problem

#: How many skills a record's index names: each facade that follows the list indexes all of them at
#: each change, and servers with thousands of skills are none that anybody chooses from.
_MOST_SKILLS = 2_000
#: How many example queries registries want (ARD, 4.2).
RECOMMENDED = range(2, 6)
#: The fields of a record that an agent's card gives besides those that any server does.
FROM_CARD = ("auth", "exampleQueries")
_LONGEST_NAME = 256
_LONGEST_TITLE = 200
_LONGEST_DESCRIPTION = 4096
_LONGEST_ICON = 2048
_LONGEST_INFO = 200
_LONGEST_INSTRUCTIONS = 8192
#: Of a longer text the beginning alone is searched for tokens, and used.
_LONGEST_TEXT = 2 * _LONGEST_INSTRUCTIONS
_LONGEST_VERSION = 32
_MOST_VERSIONS = 32


class ServerOffer:
    """What one server offers and says of itself.

    Attributes:
        document: everything it offers.
        info, instructions: its own words, with each token that its issuer marks masked: a slip of
            the server's author must not keep it off the list.
        has_tokens: whether there were any.
    """

    def __init__(self, found: Introspection) -> None:
        self.document = CapabilityDocument(
            found.tools,
            found.resources,
            found.resource_templates,
            found.prompts,
            found.skills,
            None if found.card is None else found.card.content,
        )
        said = {"": found.instructions, **found.server_info}
        said = {k: v[:_LONGEST_TEXT] if isinstance(v, str) else v for k, v in said.items()}
        self.info = {
            key: secrets.without_tokens(value) if isinstance(value, str) else value
            for key, value in said.items()
        }
        self.has_tokens = self.info != said
        self.instructions = self.info.pop("")
        self._found = found

    @property
    def version(self) -> str:
        """The semantic version nearest to the server's own, ``0.0.0`` where it gives none."""
        return to_semver(text(self.info.get("version")))

    @property
    def said(self) -> dict[str, Any]:
        """The record's fields that the server itself gives, where they are usable."""
        info = self.info
        title, description = text(info.get("title")), text(info.get("description"))
        first_line = (self.instructions or "").strip().partition("\n")[0].strip()
        website = text(info.get("websiteUrl"))
        fields: dict[str, Any] = {
            "name": to_label(text(info.get("name"))),
            "title": title[:_LONGEST_TITLE],
            "description": (description or first_line)[:_LONGEST_DESCRIPTION],
            "version": self.version,
            "websiteUrl": website if _is_public_url(website) else "",
            "icons": _icons(info.get("icons")),
        }
        if (card := self._found.card) is not None:
            # The tags of its skills are not the record's: rights hang on those.
            examples = list(map(secrets.without_tokens, card.examples))
            fields |= {"auth": card.auth, "exampleQueries": examples}
        return {key: value for key, value in fields.items() if value}

    def filled(self, fields: Mapping[str, Any], before: CapabilityDocument) -> dict[str, Any]:
        """``fields`` of an agent, with what its card says where they say nothing, or still what its
        card said in the document ``before``."""
        silent: dict[str, Any] = {"version": "0.0.0", "auth": {"type": "none", "scopes": []}}
        last: dict[str, Any] = {}
        if (card := before.agent_card()) is not None:
            with suppress(BadAnswerError):  # somebody posted that document
                last = ServerOffer(AgentCard.of(card, "").introspection).said
        found = dict(fields)
        for name in (*last, *(said := self.said)):
            value = fields.get(name)
            if name != "name" and (not value or value in (silent.get(name), last.get(name))):
                found[name] = said.get(name, silent.get(name))
        return {name: value for name, value in found.items() if value is not None}

    def record(self, fields: Mapping[str, Any]) -> tuple[Record, tuple[str, ...]]:
        """The record of ``fields`` (JSON's field names) with the server's protocol and the index
        of what it offers.

        What does not fit a record is left out of it; with the record come the sentences that say
        so. Raises :class:`~mcp_discovery.errors.InvalidRecordError` where ``fields`` are at fault
        and :class:`~mcp_discovery.errors.InvalidDocumentError` where the document is.
        """
        notes: list[str] = []
        if self.has_tokens:
            notes.append(
                "what the MCP server says of itself holds what looks like an access token; "
                "it is left out of the record"
            )
        number = 0 if self._found.card else len(fields.get("exampleQueries") or ())
        if number and number not in RECOMMENDED:
            notes.append(
                f"{number} example quer{'y' if number == 1 else 'ies'}; other registries want "
                f"{RECOMMENDED[0]} to {RECOMMENDED[-1]}"
            )
        index = {
            kind: _fitting(kind, names, notes) for kind, names in self.document.names().items()
        }
        whole = dict(fields) | {"protocol": self._protocol()}
        return _within_limit(whole, index, self.document.digest, notes), tuple(notes)

    def _protocol(self) -> dict[str, Any]:
        versions = [each for each in self._found.versions if len(each) <= _LONGEST_VERSION]
        return {
            "versions": versions[:_MOST_VERSIONS],
            "era": self._found.era,
            "bindings": None if self._found.card is None else self._found.card.bindings,
            "serverInfo": {
                key: value[:_LONGEST_INFO]
                for key in ("name", "title", "version")
                if (value := text(self.info.get(key)))
            },
            "instructions": (self.instructions or "")[:_LONGEST_INSTRUCTIONS] or None,
        }


def _is_public_url(url: str) -> bool:
    return (
        0 < len(url) <= 2048
        and url_problem(url, ("http", "https")) is None
        and secrets.why_secret(url) is None
    )


def _icons(value: Any) -> list[dict[str, Any]]:
    """Icons that are linked to. Those inlined as ``data:`` would make every record heavy."""
    if not isinstance(value, list):
        return []
    icons = (each for each in value if isinstance(each, dict))
    linked = (each for each in icons if _is_public_url(text(each.get("src"))))
    return [each for each in linked if len(orjson.dumps(each)) <= _LONGEST_ICON][:16]


def _fitting(kind: str, names: Sequence[str], notes: list[str]) -> list[str]:
    fitting = [name for name in names if len(name) <= _LONGEST_NAME]
    if len(fitting) < len(names):
        notes.append(
            f"{len(names) - len(fitting)} of the {kind} have names over {_LONGEST_NAME} "
            "characters; they are in the document but not in the record's index"
        )
    if kind == "skills" and len(fitting) > _MOST_SKILLS:
        notes.append(
            f"the record's index names {_MOST_SKILLS:,} of {len(fitting):,} skills; the document "
            "has all of them"
        )
        del fitting[_MOST_SKILLS:]
    return fitting


def _within_limit(
    fields: dict[str, Any], index: dict[str, list[str]], digest: str, notes: list[str]
) -> Record:
    """The record with as much of ``index`` as its size allows."""
    whole = {kind: len(names) for kind, names in index.items()}
    while True:
        try:
            record = Record.parse(fields | {"capabilities": index | {"digest": digest}})
        except RecordTooLargeError as error:
            longest = max(index, key=lambda kind: len(orjson.dumps(index[kind])))
            if not index[longest]:
                raise
            _shorten(index[longest], error.size - MAX_RECORD_BYTES)
        else:
            break
    for kind, names in index.items():
        if len(names) < whole[kind]:
            notes.append(
                f"the record would be too large: its index names {len(names)} of "
                f"{whole[kind]} {kind}; the document has all of them"
            )
    return record


def _shorten(names: list[str], excess: int) -> None:
    """Takes names off the end until ``excess`` bytes are saved, at least one, at most half."""
    keep = len(names) // 2
    while excess > 0 and len(names) > keep:
        excess -= len(orjson.dumps(names.pop())) + 1
