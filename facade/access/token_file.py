"""Writes tokens into the file of ``--auth``, and takes them out, and leaves the rest as it stands.

The file is people's: its comments, its order and its quotes stay. So lines are put in and taken out
of the text, and what comes out is read and compared before it takes the file's place.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from mcp_discovery.errors import InvalidInputError
from mcp_discovery.facade.access.auth_file import AuthFile, read
from mcp_discovery.facade.access.tokens import TokenEntry
from mcp_discovery.health import rfc3339


def add(path: str, id: str, entry: TokenEntry) -> None:
    """Puts a token into the file at ``path``; raises :class:`InvalidInputError`."""

    def added(text: str, file: AuthFile) -> tuple[str, AuthFile]:
        if id in file.tokens:
            raise InvalidInputError(
                f"{path}: there is a token {id} already; revoke it, or choose another id"
            )
        for role in entry.roles:
            try:
                file.require_role(f"tokens.{id}", role)
            except ValueError as error:
                raise InvalidInputError(f"{path}: {error}") from error
        changed = file.model_copy(update={"tokens": file.tokens | {id: entry}})
        return _with(text, id, entry), changed

    _edit(path, added)


def remove(path: str, wanted: Callable[[str, TokenEntry], bool]) -> list[str]:
    """Takes the tokens out that are ``wanted``; returns their ids. Raises
    :class:`InvalidInputError`."""
    removed: list[str] = []

    def without(text: str, file: AuthFile) -> tuple[str, AuthFile]:
        removed.extend(id for id, entry in file.tokens.items() if wanted(id, entry))
        left = {id: entry for id, entry in file.tokens.items() if id not in removed}
        for id in removed:
            text = _without(text, id)
        return text, file.model_copy(update={"tokens": left})

    _edit(path, without)
    return removed


def lines_of(id: str, entry: TokenEntry, indent: str = "  ") -> list[str]:
    """The lines of a token in the file."""
    values: dict[str, Any] = {"hash": entry.hash}
    if entry.subject is not None:
        values["subject"] = json.dumps(entry.subject, ensure_ascii=False)
    values["roles"] = json.dumps(entry.roles, ensure_ascii=False)
    if entry.expires is not None:
        values["expires"] = rfc3339(entry.expires)
    if entry.note is not None:
        values["note"] = json.dumps(entry.note, ensure_ascii=False)
    inner = indent + "  "
    return [f"{indent}{id}:", *(f"{inner}{name}: {value}" for name, value in values.items())]


def _edit(path: str, change: Callable[[str, AuthFile], tuple[str, AuthFile]]) -> None:
    target = os.path.realpath(path)
    with _locked(path, target) as data:
        before = read(data, path)
        text, wanted = change(data.decode(), before)
        try:
            fits = read(text.encode(), path) == wanted
        except InvalidInputError:
            fits = False
        if not fits:
            raise InvalidInputError(
                f"{path} is not written in a way that this command can change; write tokens: with "
                "an entry below it, indented, or change it by hand"
            )
        if text.encode() != data:
            _replace(path, target, text)


@contextmanager
def _locked(path: str, target: str) -> Iterator[bytes]:
    """The content of the file, which no other such command changes meanwhile."""
    while True:
        try:
            with Path(target).open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                if os.stat(target).st_ino != os.fstat(file.fileno()).st_ino:
                    continue  # another one took its place
                yield file.read()
                return
        except OSError as error:
            raise InvalidInputError(f"cannot read {path}: {error.strerror}") from error


def _replace(path: str, target: str, text: str) -> None:
    """Writes another file and renames it: a facade never reads half of one."""
    new = None
    try:
        known = os.stat(target)
        handle, new = tempfile.mkstemp(dir=os.path.dirname(target), prefix=".auth-")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            os.fchmod(handle, known.st_mode & 0o777)
            with suppress(PermissionError):
                os.fchown(handle, known.st_uid, known.st_gid)
            file.write(text)
            file.flush()
            os.fsync(handle)
        os.replace(new, target)
    except OSError as error:
        if new is not None:
            with suppress(OSError):
                os.unlink(new)
        raise InvalidInputError(
            f"cannot write {path}: {error.strerror}; change the file where it comes from"
        ) from error


def _tokens(text: str) -> tuple[yaml.MappingNode | None, yaml.Node | None, yaml.Node | None]:
    """The whole, the key ``tokens`` and its value."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        return None, None, None
    for key, value in root.value:
        if key.value == "tokens":
            return root, key, value
    return root, None, None


def _with(text: str, id: str, entry: TokenEntry) -> str:
    root, key, value = _tokens(text)
    if key is None or value is None:
        if root is not None and root.flow_style:
            return text  # found out by who compares
        start = text if not text or text.endswith("\n") else text + "\n"
        return "\n".join([start + "tokens:", *lines_of(id, entry), ""])
    if isinstance(value, yaml.MappingNode) and value.value and not value.flow_style:
        lines = text.splitlines()
        indent = " " * value.start_mark.column
        at = _last_line(value) + 1
        return "\n".join([*lines[:at], *lines_of(id, entry, indent), *lines[at:], ""])
    rest = text[value.end_mark.index :] if not _is_empty(value) else ""
    if not _is_empty(value):
        begin = text[: key.end_mark.index] + ":"
        return "\n".join([begin, *lines_of(id, entry)]) + (rest if rest.strip(" ") else "\n")
    lines = text.splitlines()
    at = key.start_mark.line + 1
    return "\n".join([*lines[:at], *lines_of(id, entry), *lines[at:], ""])


def _without(text: str, id: str) -> str:
    _, _, value = _tokens(text)
    if not isinstance(value, yaml.MappingNode) or value.flow_style:
        return text
    lines = text.splitlines()
    for key, entry in value.value:
        if key.value == id:
            del lines[key.start_mark.line : _last_line(entry) + 1]
    return "\n".join([*lines, ""])


def _is_empty(value: yaml.Node) -> bool:
    """Whether nothing stands there at all."""
    return bool(value.start_mark.index == value.end_mark.index)


def _last_line(node: yaml.Node) -> int:
    """The line in which ``node`` ends; a block's own end is where the next thing begins."""
    inner: Iterable[yaml.Node] = ()
    if isinstance(node, yaml.MappingNode) and not node.flow_style:
        inner = [value for _, value in node.value]
    elif isinstance(node, yaml.SequenceNode) and not node.flow_style:
        inner = node.value
    if inner:
        return max(_last_line(each) for each in inner)
    end = node.end_mark
    return end.line - 1 if end.column == 0 and end.line > node.start_mark.line else end.line
