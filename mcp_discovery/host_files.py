"""Servers as MCP hosts have them in their configuration files, read.

Most hosts read an object ``mcpServers`` of named entries; VS Code reads ``servers``, where secrets
are asked for as ``inputs``, and takes comments and trailing commas
(https://code.visualstudio.com/docs/copilot/reference/mcp-configuration). Some have it inside their
other settings. What an entry may hold differs little: :class:`HostEntry` is what is common.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcp_discovery.errors import InvalidInputError
from mcp_discovery.record import is_label, to_label

log = logging.getLogger(__name__)

#: The keys that lead to the entries: of most hosts, VS Code, its settings, its dev containers, Zed.
_PLACES = (
    ("mcpServers",),
    ("servers",),
    ("mcp", "servers"),
    ("customizations", "vscode", "mcp", "servers"),
    ("context_servers",),
)
#: What hosts call a transport → a record's.
_TRANSPORTS = {
    **dict.fromkeys(("stdio", "local"), "stdio"),
    **dict.fromkeys(
        ("http", "streamable-http", "streamableHttp", "streamable_http"), "streamable-http"
    ),
    "sse": "sse",
    **dict.fromkeys(("ws", "websocket"), "websocket"),
}
#: Where hosts have a remote server's URL, the one that says most first.
_URLS = ("url", "serverUrl", "httpUrl")
#: The object of an entry that is not for hosts: options of ``mcp-discovery sidecar``.
OPTIONS = "mcp-discovery"
_KNOWN = {"type", "transport", "command", "args", "env", "envFile", "cwd", "headers", *_URLS} | {
    "disabled",
    "enabled",
    "tags",
    OPTIONS,
}
#: A record's limit.
_LONGEST_TITLE = 200

#: A text, or a comment; then a text, or a comma before a bracket.
_COMMENT = re.compile(r'"(?:[^"\\\n]|\\.)*+"|//[^\n]*+|/\*.*?\*/', re.DOTALL)
_LAST_COMMA = re.compile(r'"(?:[^"\\\n]|\\.)*+"|,(?=\s*+[}\]])')
_LETTER = re.compile(r"[^\n]")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostEntry:
    """One server of a host's file: a ``command``, or a ``url``.

    ``key`` is what the file calls it; ``name`` is a DNS label, ``title`` the key where that is
    another. ``options`` are those that it gives the sidecar. As it is read nothing is filled in
    yet: texts may hold ``${NAME}``. ``secrets`` are what was filled in and must stay out of logs.
    """

    key: str
    name: str
    title: str | None
    transport: str
    command: str | None = None
    args: tuple[str, ...] = field(default=(), repr=False)
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    env_file: str | None = None
    cwd: str | None = None
    url: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    options: Mapping[str, Any] = field(default_factory=dict)
    secrets: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class HostServers:
    """The servers of a host's file, by name, and why the others are none, by key.

    Those that the file turns off are left out.
    """

    entries: Mapping[str, HostEntry]
    refused: Mapping[str, InvalidInputError]


def read(file: str) -> Any:
    """What the JSON or YAML in ``file``, ``-`` for standard input, says.

    Raises :class:`InvalidInputError`.
    """
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        problem = f"cannot read {file}: {error.strerror}; give a file of JSON or YAML"
        raise InvalidInputError(problem) from error
    return parse(data, file)


def parse(data: bytes, file: str) -> Any:
    """What the JSON, with comments and trailing commas as VS Code has it, or YAML in ``data`` says.

    An object of JSON in which a key stands twice has it in ``twice``. Raises
    :class:`InvalidInputError`, which names ``file``.
    """
    if not data.strip():
        raise InvalidInputError(f"{file}: is empty; write servers below mcpServers")
    if data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] not in (b"{", b"[", b"/", b"", b"\xff", b"\xfe"):
        from mcp_discovery.yaml_files import parse as parse_yaml

        content = parse_yaml(data, file)
        return None if content is None else content.value()
    try:
        text = data.decode(json.detect_encoding(data)).removeprefix("\ufeff")
        # What is left out becomes blanks, so that the place of an error is that in the file.
        for pattern in (_COMMENT, _LAST_COMMA):
            text = pattern.sub(lambda found: _blanked(found[0]), text)
        return json.loads(text, object_pairs_hook=_Object, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        said = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise InvalidInputError(f"{file}: is not JSON: {said}") from error


class _Object(dict[str, Any]):
    """An object of JSON; ``twice`` has the places of each key that stands in it more than once."""

    def __init__(self, pairs: Sequence[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.twice: dict[str, list[int]] = {}
        if len(self) < len(pairs):
            for place, (key, _) in enumerate(pairs, start=1):
                self.twice.setdefault(key, []).append(place)
            self.twice = {key: places for key, places in self.twice.items() if len(places) > 1}


def _blanked(text: str) -> str:
    return text if text[0] == '"' else _LETTER.sub(" ", text)


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no number")


def entries_in(content: Any) -> Mapping[str, Any] | None:
    """The object of named entries in a host's file; ``None`` where ``content`` is no such file."""
    for keys in _PLACES:
        found = content
        for key in keys:
            found = found.get(key) if isinstance(found, Mapping) else None
        if isinstance(found, Mapping):
            return found
    return None


def servers_in(entries: Mapping[str, Any]) -> HostServers:
    """Reads each of ``entries``; of those whose names are the same none is taken."""
    found: dict[str, list[HostEntry]] = {}
    refused: dict[str, InvalidInputError] = {}
    twice: Mapping[str, list[int]] = getattr(entries, "twice", {})
    for key, value in entries.items():
        try:
            if key in twice:
                places = " and ".join(map(str, twice[key]))
                raise InvalidInputError(
                    f"stands in the file as the entries {places}; give each a name of its own"
                )
            if (entry := _entry(key, value)) is not None:
                found.setdefault(entry.name, []).append(entry)
        except InvalidInputError as error:
            refused[key] = InvalidInputError(f"{key!r}: {error}")
    for name, same in found.items():
        if len(same) > 1:
            keys = " and ".join(repr(each.key) for each in same)
            problem = f"{keys} are both {name!r} as names of servers; give one of them another"
            refused |= {each.key: InvalidInputError(f"{each.key!r}: {problem}") for each in same}
    return HostServers({name: one for name, (one, *more) in found.items() if not more}, refused)


def records(entries: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The entries of a host's file as servers to register, references as they stand there.

    What only a host may know (``env``, ``headers``) is left out. Raises
    :class:`InvalidInputError` where one is none.
    """
    from mcp_discovery.errors import raise_all

    found = servers_in(entries)
    raise_all(found.refused.values())
    return [_record(each) for each in found.entries.values()]


def _record(entry: HostEntry) -> dict[str, Any]:
    endpoint: dict[str, Any] = {"transport": entry.transport}
    if entry.command is not None:
        endpoint |= {"command": entry.command, "args": list(entry.args)}
    else:
        endpoint["url"] = entry.url
    record: dict[str, Any] = {"name": entry.name, "endpoint": endpoint}
    if entry.title is not None:
        record["title"] = entry.title
    if any(key.lower() == "authorization" for key in entry.headers):
        record["auth"] = {"type": "bearer"}
    return record | {key: each for key, each in entry.options.items() if key == "tags"}


def _entry(key: str, given: Any) -> HostEntry | None:
    """One entry; ``None`` where the file turns it off."""
    if not isinstance(given, Mapping):
        raise InvalidInputError("is no object; write one with a command or a url")
    if given.get("disabled") is True or given.get("enabled") is False:
        log.debug("%s is turned off in its file", key)
        return None
    if given.get("source") == "extension":  # Zed's, whose extension knows the command
        log.debug("%s is what an extension of its host starts", key)
        return None
    if unknown := sorted(map(str, given.keys() - _KNOWN)):
        log.debug("%s: %s are for its host alone", key, ", ".join(unknown))
    if isinstance(command := given.get("command"), Mapping):  # as earlier releases of Zed have it
        given = {**given, **command, "command": command.get("path")}
    options = _options(given)
    name = options.get("name", key)
    label = name if is_label(name) else to_label(name)
    if not label:
        raise InvalidInputError("makes no name of a server; give it one with letters or digits")
    command = _text(given, "command")
    url = next((url for each in _URLS if (url := _text(given, each)) is not None), None)
    if (command is None) == (url is None):
        problem = "has a command and a url" if url else "has neither a command nor a url"
        raise InvalidInputError(f"{problem}; write one of them")
    return HostEntry(
        key=key,
        name=label,
        title=key[:_LONGEST_TITLE] if label != key else None,
        transport=_transport(given, url),
        command=command,
        args=_texts(given, "args"),
        env=_mapping(given, "env"),
        env_file=_text(given, "envFile"),
        cwd=_text(given, "cwd"),
        url=url,
        headers=_mapping(given, "headers"),
        options=options,
    )


def _options(given: Mapping[str, Any]) -> dict[str, Any]:
    options = given.get(OPTIONS, {})
    if not isinstance(options, Mapping):
        raise InvalidInputError(f'"{OPTIONS}" is no object; write options of the sidecar into it')
    tags = given.get("tags")
    if isinstance(tags, str):
        tags = [tags]
    if tags is not None:
        if not isinstance(tags, list) or not all(isinstance(each, str) for each in tags):
            raise InvalidInputError("tags is no list of texts")
        options = {"tags": tags, **options}
    if not isinstance(options.get("name", ""), str):
        raise InvalidInputError(f'the name in "{OPTIONS}" is no text')
    return dict(options)


def _transport(given: Mapping[str, Any], url: str | None) -> str:
    # A server of the days before streamable HTTP is known by its path where no type is given.
    usual = "stdio" if url is None else "sse" if url.rstrip("/").endswith("/sse") else "http"
    kind = given.get("type") or given.get("transport") or usual
    transport = _TRANSPORTS.get(kind) if isinstance(kind, str) else None
    if transport is None:
        raise InvalidInputError(f"type {kind!r} is none; write stdio, http or sse")
    if (transport == "stdio") != (url is None):
        has = "a command" if url is None else "a url"
        raise InvalidInputError(f"has the type {kind!r} and {has}, which do not go together")
    return transport


def _text(given: Mapping[str, Any], key: str) -> str | None:
    value = given.get(key)
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip():
        raise InvalidInputError(f"{key} is no text")
    return value


def _texts(given: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = given.get(key)
    if value is not None and not isinstance(value, list):
        raise InvalidInputError(f"{key} is no list of texts")
    return tuple(_scalar(key, value or ()))


def _mapping(given: Mapping[str, Any], key: str) -> dict[str, str]:
    """Texts by name; what is ``null`` is not set."""
    value = given.get(key)
    if value is not None and not isinstance(value, Mapping):
        raise InvalidInputError(f"{key} is no object of texts")
    there = {name: each for name, each in (value or {}).items() if each is not None}
    return dict(zip(there, _scalar(key, there.values()), strict=True))


def _scalar(key: str, values: Iterable[Any]) -> Iterable[str]:
    for each in values:
        if isinstance(each, bool):
            yield str(each).lower()
        elif isinstance(each, str | int | float):
            yield str(each)
        else:
            raise InvalidInputError(f"{key} holds what is no text")
