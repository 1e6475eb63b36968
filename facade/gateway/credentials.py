"""The file of ``--gateway-credentials``: what the facade itself shows to the servers it calls.

It is YAML, read strictly, and followed; the files that it names are, too. Each entry is for names
and for origins: who registers a server of such a name elsewhere gets nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import Field, model_validator

from mcp_discovery.credential_files import FollowedFiles, Secret
from mcp_discovery.facade.access.rights import matches
from mcp_discovery.facade.access.section import Section, Words, read_section
from mcp_discovery.origins import Origins

_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
#: Headers that are the gateway's, and no credentials.
_NOT_CREDENTIALS: Final = re.compile(
    r"host|connection|te|trailer|upgrade|transfer-encoding|content-.*|accept.*|via|expect|"
    r"mcp-.*|x-forwarded-.*|x-request-id|x-discovery-probe|proxy-.*|keep-alive",
    re.IGNORECASE,
)


class SecretReference(Section):
    """A secret in a file, which is followed, or in an environment variable.

    A file's name counts from the folder of the file that it stands in.
    """

    file: str | None = Field(None, min_length=1)
    env: str | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _check_one(self) -> SecretReference:
        if (self.file is None) == (self.env is None):
            raise ValueError("has to have one of file and env")
        return self


class ServerCredentials(Section):
    """What servers are shown that match one of ``names`` and are at one of ``origins`` (globs).

    ``token`` is a bearer token, ``headers`` are sent besides or instead.
    """

    names: Words = Field(min_length=1)
    origins: Words = Field(min_length=1)
    token: str | SecretReference | None = None
    headers: dict[str, str | SecretReference] = Field({})

    @model_validator(mode="after")
    def _check(self) -> ServerCredentials:
        if self.token is None and not self.headers:
            raise ValueError("has neither a token nor headers")
        Origins(self.origins)
        for name in self.headers:
            if not _HEADER.fullmatch(name) or _NOT_CREDENTIALS.fullmatch(name):
                raise ValueError(f"headers: {name[:100]!r} is no header for credentials")
        if self.token is not None and "authorization" in map(str.lower, self.headers):
            raise ValueError("has a token, and Authorization among its headers; give one of them")
        return self


class CredentialsFile(Section):
    """What the file says; of several entries that fit a server the first one counts."""

    servers: list[ServerCredentials] = Field([])


@dataclass(frozen=True, slots=True)
class _Entry:
    names: tuple[str, ...]
    origins: Origins
    secrets: Mapping[str, Secret]
    prefixes: Mapping[str, str]


class KnownCredentials:
    """The credentials that one state of the file has."""

    def __init__(self, file: CredentialsFile, folder: Path) -> None:
        """Raises :class:`~mcp_discovery.errors.InvalidInputError`."""
        self._entries = [_entry(each, folder) for each in file.servers]

    def headers(self, name: str, url: str) -> dict[str, str]:
        """The headers for requests to ``url`` of the server ``name``; empty where it has none."""
        entry = self._entry(name, url)
        if entry is None:
            return {}
        return {
            header: entry.prefixes.get(header, "") + (secret.current() or "")
            for header, secret in entry.secrets.items()
        }

    def renew(self, name: str, url: str) -> bool:
        """Reads their files again, now that they were refused; whether that changed one."""
        entry = self._entry(name, url)
        if entry is None:
            return False
        before = [each.current() for each in entry.secrets.values()]
        return before != [each.renewed() for each in entry.secrets.values()]

    def _entry(self, name: str, url: str) -> _Entry | None:
        return next(
            (
                each
                for each in self._entries
                if matches(each.names, (name,)) and each.origins.include(url)
            ),
            None,
        )


def _entry(given: ServerCredentials, folder: Path) -> _Entry:
    what = f"credentials for {', '.join(given.names)}"
    headers = given.headers.items()
    secrets = {name: _secret(f"{what}: {name}", each, folder) for name, each in headers}
    prefixes = {}
    if given.token is not None:
        secrets["Authorization"] = _secret(what, given.token, folder)
        prefixes["Authorization"] = "Bearer "
    return _Entry(tuple(given.names), Origins(given.origins), secrets, prefixes)


def _secret(what: str, given: str | SecretReference, folder: Path) -> Secret:
    if isinstance(given, str):
        return Secret(what, given)
    if given.env is not None:
        value = os.environ.get(given.env)
        if value is None:
            raise ValueError(f"the environment variable {given.env} is not set")
        return Secret(what, value)
    return Secret(what, None, str(folder / (given.file or "")))


NO_CREDENTIALS: Final = KnownCredentials(CredentialsFile(), Path())


def follow(path: str) -> FollowedFiles[KnownCredentials]:
    """The credentials in the file at ``path``, followed; raises
    :class:`~mcp_discovery.errors.InvalidInputError`."""

    def known(contents: Sequence[bytes]) -> KnownCredentials:
        file = read_section(contents[0], path, CredentialsFile)
        return KnownCredentials(file, Path(path).parent)

    return FollowedFiles("gateway's credentials", [path], known)


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema"
    } | CredentialsFile.model_json_schema()
