"""What the texts of a host's file refer to, filled in: ``${NAME}``, ``${env:NAME}`` and the like.

Claude Code has ``${NAME}`` and ``${NAME:-default}``; VS Code, Cursor and Windsurf have
``${env:NAME}`` and names such as ``${workspaceFolder}``
(https://code.visualstudio.com/docs/reference/variables-reference). A secret stands in a file as
such a reference only.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from mcp_discovery.errors import InvalidInputError, raise_all
from mcp_discovery.host_files import HostEntry
from mcp_discovery.secrets import (
    is_switch,
    secret_values,
    secrets_in_arguments,
    secrets_in_mapping,
    why_secret,
)

_REFERENCE = re.compile(r"\$\{([^{}]*)\}")
_VARIABLE = re.compile(r"(?:env:)?([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)
#: What only its host can fill in, such as ``input:api-key`` or ``command:extension.pick``.
_HOSTS_OWN = re.compile(r"([A-Za-z]+):(?!-)")
#: What stands before the credentials in a header, and is no secret.
_SCHEME = re.compile(r"\b(?:Bearer|Basic|Token|ApiKey)\s+(?=\$\{)", re.IGNORECASE)
_NO_NAME = re.compile(r"[^A-Z0-9]+")


@dataclass
class HostVariables:
    """What references stand for: ``environ``, and the folders that ``file`` tells."""

    file: Path
    environ: Mapping[str, str]
    _known: Mapping[str, str | None] = field(init=False)

    def __post_init__(self) -> None:
        workspace = self.workspace
        self._known = {
            "workspaceFolder": str(workspace) if workspace else None,
            "workspaceFolderBasename": workspace.name if workspace else None,
            "userHome": str(Path.home()),
            "pathSeparator": os.sep,
            "/": os.sep,
        }

    @property
    def workspace(self) -> Path | None:
        """The folder of the file's project: its own, or the one in which a ``.vscode`` is."""
        path = self.file.absolute()
        if path.name == ".mcp.json":
            folder = path.parent
        elif path.parent.name.startswith("."):
            folder = path.parent.parent
        else:
            return None
        return None if folder == Path.home() else folder

    def filled(self, entry: HostEntry) -> HostEntry:
        """``entry`` as it is run.

        Raises :class:`InvalidInputError`, which has all that is wrong with it: a variable that is
        not set, what only its host can ask for, a secret that stands there in clear.
        """
        faults = [*_clear_secrets(entry)]
        used: dict[str, str] = {}

        def fill(text: str) -> str:
            return _REFERENCE.sub(lambda found: self._value(found, used, faults), text)

        def fill_all(texts: Mapping[str, str]) -> dict[str, str]:
            return {name: fill(text) for name, text in texts.items()}

        def path(text: str | None) -> str | None:
            return None if text is None else str(self._folder / Path(fill(text)).expanduser())

        filled = replace(
            entry,
            command=entry.command and fill(entry.command),
            args=tuple(map(fill, entry.args)),
            env=fill_all(entry.env),
            env_file=path(entry.env_file),
            cwd=path(entry.cwd) or self._known["workspaceFolder"],
            url=entry.url and fill(entry.url),
            headers=fill_all(entry.headers),
        )
        if not faults and filled.url and (why := why_secret(filled.url)) is not None:
            faults.append(f"its url, filled in, {why}; give it in headers, as ${{NAME}}")
        if (
            filled.command
            and " " in filled.command.strip()
            and shutil.which(filled.command) is None
        ):
            faults.append("its command has blanks; write what follows the program into args")
        told = dict.fromkeys(faults)
        raise_all([InvalidInputError(f"{entry.key!r}: {each}") for each in told])
        return replace(filled, secrets=tuple({*secret_values(used), *secret_values(filled.env)}))

    @property
    def _folder(self) -> Path:
        return self.workspace or self.file.absolute().parent

    def _value(self, found: re.Match[str], used: dict[str, str], faults: list[str]) -> str:
        name = found[1]
        if name in self._known:
            if (known := self._known[name]) is None:
                faults.append(f"{found[0]} is not known for a file at {self.file}; write the path")
            return known or ""
        if variable := _VARIABLE.fullmatch(name):
            try:
                value = self.environ[variable[1]]
            except KeyError:
                value = None
            if value is None or (not value and variable[2] is not None):
                if variable[2] is None:
                    faults.append(
                        f"the variable {variable[1]} is not set; set it where this is read, or "
                        f"write ${{{variable[1]}:-default}}"
                    )
                return variable[2] or ""
            used[variable[1]] = value
            return value
        if own := _HOSTS_OWN.match(name):
            what = "its host asks the user for" if own[1] == "input" else "only its host knows"
            faults.append(
                f"{found[0]} is what {what}; write ${{env:NAME}} and set that variable where this "
                "is read"
            )
        return found[0]


def _clear_secrets(entry: HostEntry) -> Iterator[str]:
    """What stands in clear in ``entry``, which is not filled in, with what to write instead."""
    usual = f"{_NO_NAME.sub('_', entry.name.upper())}_TOKEN"
    for position, why in secrets_in_arguments(list(map(_as_in_records, entry.args))):
        instead = f"write ${{{usual}}} in its place and set that variable"
        if not is_switch(entry.args[position]):
            yield f"argument {position + 1} {why}; {instead}"
    for name, why in _in_mapping(entry.env):
        yield f'env {name} {why}; write "{name}": "${{{name}}}" and set that variable'
    for name, why in _in_mapping(entry.headers):
        value = f"{'Bearer ' * (name.lower() == 'authorization')}${{{usual}}}"
        yield f'header {name} {why}; write "{name}": "{value}" and set that variable'
    if entry.url is not None:
        yield from _secrets_in_url(entry.url)


def _in_mapping(texts: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    known = {name: _as_in_records(text) for name, text in texts.items()}
    for name, why in secrets_in_mapping(known):
        if not is_switch(texts[name]):
            yield name, why.replace(f"gives {name} in clear", "is given in clear")


def _as_in_records(text: str) -> str:
    """``text`` with references as records have them; a default stays, which is in clear."""

    def plain(found: re.Match[str]) -> str:
        variable = _VARIABLE.fullmatch(found[1])
        default = variable[2] or "" if variable else ""
        return f"${{NAME}}{'' if is_switch(default) else default}"

    return _SCHEME.sub("", _REFERENCE.sub(plain, text))


def _secrets_in_url(url: str) -> Iterator[str]:
    """Why ``url`` cannot be registered: whoever may list the server sees it."""
    instead = "which whoever lists the server sees; give it in headers, as ${NAME}"
    if (why := why_secret(url)) is not None:
        yield f"its url {why}, {instead}"
    for found in _REFERENCE.finditer(url):
        variable = _VARIABLE.fullmatch(found[1])
        named = variable is not None and any(secrets_in_mapping({variable[1]: "clear"}))
        if named or "?" in url[: found.start()] or "@" in url[found.end() :]:
            yield f"its url would have the value of {found[0]}, {instead}"
