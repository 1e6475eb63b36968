"""Detects what looks like a secret, to keep it out of records.

A record is readable by everyone who can read the store. A secret that an MCP server needs to start
is written as a reference, ``${NAME}``, and filled in by the program that starts the server.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

#: Values with a prefix that their issuers document for tokens and keys.
_ISSUED = re.compile(
    r"""(?x)
    \b(?:
        mcpd_[a-z0-9-]+_[A-Za-z0-9]{20,}                               # a facade's own
      | gh[pousr]_[A-Za-z0-9]{20,} | github_pat_[A-Za-z0-9_]{20,}      # GitHub
      | glpat-[A-Za-z0-9_-]{16,}                                       # GitLab
      | sk-[A-Za-z0-9_-]{16,} | sk_(?:live|test)_[A-Za-z0-9]{10,}      # model APIs, Stripe
      | xox[abeoprs]-[A-Za-z0-9-]{10,}                                 # Slack
      | (?:AKIA|ASIA)[A-Z0-9]{16}                                      # AWS
      | AIza[A-Za-z0-9_-]{30,}                                         # Google
      | hf_[A-Za-z0-9]{20,} | npm_[A-Za-z0-9]{30,} | pypi-[A-Za-z0-9_-]{30,}
      | hv[sb]\.[A-Za-z0-9_-]{20,}                                     # Vault
    )
    # JWT. The lookahead requires the dots first, so that each run of letters is scanned once.
    | (?<![A-Za-z0-9_-])(?=[A-Za-z0-9_-]++\.[A-Za-z0-9_-]{8,}+\.)
      [A-Za-z0-9_-]*?\beyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]++\.[A-Za-z0-9_-]*+
    | -----BEGIN[ ][A-Z ]*PRIVATE[ ]KEY-----
    """
)
_HEADER = re.compile(r"\b(?:Bearer|Basic)\s+[A-Za-z0-9+/=_.~-]{8,}")
_NAMES = re.compile(
    r"(?i)(?:^|[-_.])(?:pass(?:word|wd|phrase)?|secret|token|credentials?|auth(?:orization)?"
    r"|api[-_.]?key|access[-_.]?key|private[-_.]?key|apikey|pat)$"
)
_REFERENCE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")
_DIGEST = re.compile(r"\bsha(?:256|384|512)[:-][0-9a-zA-Z+/=]+")
_RANDOM = re.compile(r"[A-Za-z0-9+/=_-]{32,}")
_ASSIGNMENT = re.compile(r"^-{0,2}([A-Za-z][A-Za-z0-9_.-]*)[=:](.*)$", re.DOTALL)
_FLAG = re.compile(r"^--?([A-Za-z][A-Za-z0-9_.-]*)$")

T = TypeVar("T")

#: The number of texts for which the result is cached: most records share most of their texts.
_CACHED = 4096
#: The length in characters up to which a text is cached.
_MAX_CACHED_LENGTH = 1024


def _cached(function: Callable[[str], T]) -> Callable[[str], T]:
    cached = lru_cache(_CACHED)(function)
    return lambda text: cached(text) if len(text) <= _MAX_CACHED_LENGTH else function(text)


@_cached
def why_secret(text: str) -> str | None:
    """Why ``text`` by itself looks like a secret; ``None`` when it does not."""
    text = _DIGEST.sub("", _REFERENCE.sub("", text))
    if _ISSUED.search(text) or _HEADER.search(text):
        return "looks like an access token or key"
    if (userinfo := _password_in_url(text)) is not None:
        return userinfo
    if "://" not in text and any(_looks_random(word) for word in _RANDOM.findall(text)):
        return "looks like a random key"
    assignment = _ASSIGNMENT.match(text)
    if assignment and is_secrets_name(assignment[1]) and assignment[2].strip():
        return f"gives {assignment[1]} in clear"
    return None


def secrets_in_arguments(arguments: Sequence[str]) -> Iterator[tuple[int, str]]:
    """The positions in a command's ``arguments`` that look like secrets, each with the reason.

    ``--token VALUE`` and ``TOKEN=VALUE`` are among them unless the value is a ``${NAME}``
    reference, also inside an argument that is a command line itself, such as that of ``sh -c``.
    """
    flag: str | None = None
    for position, argument in enumerate(arguments):
        why = why_secret(argument)
        if why is None and flag and not argument.startswith("-") and _clear(argument):
            why = f"gives {flag} in clear"
        if why is None and len(words := _words(argument)) > 1:
            why = next((inner for _, inner in secrets_in_arguments(words)), None)
        if why:
            yield position, why
        match = _FLAG.match(argument)
        flag = argument if match and is_secrets_name(match[1]) else None


def secrets_in_mapping(values: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The keys whose values look like secrets, each with the reason."""
    for key, value in values.items():
        why = why_secret(value)
        if why is None and is_secrets_name(key) and _clear(value):
            why = f"gives {key} in clear"
        if why:
            yield key, why


def secrets_in_fields(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The paths of JSON ``fields`` whose values look like secrets, each with the reason.

    The values are prose or of unknown fields, so only tokens with an issuer's prefix and the values
    of fields that are named like a secret are reported.
    """
    for key, value in fields.items():
        for item in value if isinstance(value, list | tuple) else (value,):
            if isinstance(item, Mapping):
                for path, why in secrets_in_fields(item):
                    yield f"{key}.{path}", why
            elif isinstance(item, str) and without_tokens(item) != item:
                yield key, "holds what looks like an access token or key"
            elif not isinstance(item, str | int) or isinstance(item, bool):
                continue
            elif is_secrets_name(key) and _clear(str(item)):
                yield key, "is given in clear"


def without_secrets(value: Any) -> Any:
    """JSON with ``***`` for each text that looks like a secret, and for what is named like one."""
    match value:
        case Mapping():
            return {
                key: "***"
                if is_secrets_name(str(key)) and isinstance(each, str | int) and _clear(str(each))
                else without_secrets(each)
                for key, each in value.items()
            }
        case list() | tuple():
            return [without_secrets(each) for each in value]
        case str():
            hidden = without_tokens(value)
            return hidden if why_secret(hidden) is None else "***"
    return value


def without_tokens(prose: str) -> str:
    """``prose`` with ``***`` in place of each token with an issuer's prefix."""

    def masked(found: re.Match[str]) -> str:
        # Tokens contain digits; words such as sk-learn-contrib-packages do not.
        token = found[0]
        return "***" if token.startswith("-") or any(map(str.isdigit, token)) else token

    return _ISSUED.sub(masked, prose)


@_cached
def is_secrets_name(name: str) -> bool:
    """Whether a field, flag or variable of this name holds a secret; finds ``clientSecret`` too."""
    return _NAMES.search(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name)) is not None


def _words(argument: str) -> list[str]:
    try:
        return shlex.split(argument)
    except ValueError:  # an open quote
        return argument.split()


def _clear(value: str) -> bool:
    return bool(_REFERENCE.sub("", value).strip())


def _password_in_url(text: str) -> str | None:
    if "://" not in text:
        return None
    try:
        parts = urlsplit(text)
        if parts.username is not None or parts.password is not None:
            return "has a user or password before the host"
    except ValueError:
        return None
    for name, value in parse_qsl(parts.query):
        if is_secrets_name(name) and value:
            return f"gives {name} in clear"
    return None


def _looks_random(word: str) -> bool:
    """Whether a long word looks like a generated key: mixed, and not made of words."""
    if "/" in word and not word.endswith("="):  # a path
        return False
    if re.fullmatch(r"[0-9a-fA-F]+", word):
        return True
    kinds = sum(bool(re.search(kind, word)) for kind in ("[a-z]", "[A-Z]", "[0-9]"))
    switches = sum(a.isdigit() != b.isdigit() for a, b in pairwise(word))
    return kinds == 3 and switches >= 6
