"""Detects what looks like a secret, to keep it out of records.

A record is readable by everyone who can read the store. A secret that an MCP server needs to start
is written as a reference, ``${NAME}``, and filled in by the program that starts the server.

Anybody may write what is searched here, up to the 256 KiB of a record. So each step takes a small
time in proportion to the text: a pattern begins with a letter, not with an assertion that would be
tried at every place, and what is too short, or lacks the sign, for a secret is not searched at all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import unquote_plus, urlsplit

#: Values with a prefix that their issuers document for tokens and keys. Each begins a word.
_ISSUED = re.compile(
    r"""(?x)
      m(?<!\wm)cpd_[a-z0-9-]+_[A-Za-z0-9]{20,}                          # a facade's own
    | g(?<!\wg)(?:h[pousr]_[A-Za-z0-9]{20,}                             # GitHub
        | ithub_pat_[A-Za-z0-9_]{20,}
        | lpat-[A-Za-z0-9_-]{16,})                                      # GitLab
    | s(?<!\ws)k(?:-[A-Za-z0-9_-]{16,}                                  # model APIs
        | _(?:live|test)_[A-Za-z0-9]{10,})                              # Stripe
    | x(?<!\wx)ox[abeoprs]-[A-Za-z0-9-]{10,}                            # Slack
    | A(?<!\wA)(?:(?:KI|SI)A[A-Z0-9]{16}                                # AWS
        | Iza[A-Za-z0-9_-]{30,})                                        # Google
    | h(?<!\wh)(?:f_[A-Za-z0-9]{20,}
        | v[sb]\.[A-Za-z0-9_-]{20,})                                    # Vault
    | n(?<!\wn)pm_[A-Za-z0-9]{30,}
    | p(?<!\wp)ypi-[A-Za-z0-9_-]{30,}
    """
)
#: A JWT. The lookahead requires the dots first, so that each run of letters is scanned once.
_JWT = re.compile(
    r"(?<![A-Za-z0-9_-])(?=[A-Za-z0-9_-]++\.[A-Za-z0-9_-]{8,}+\.)"
    r"[A-Za-z0-9_-]*?\beyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]++\.[A-Za-z0-9_-]*+"
)
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")
#: What finds a token in a text, with what the text holds then; a token is of one of them.
_TOKENS = ((_JWT, "eyJ"), (_ISSUED, ""), (_PRIVATE_KEY, "-----BEGIN "))
_HEADER = re.compile(r"B(?<!\wB)(?:earer|asic)\s++[A-Za-z0-9+/=_.~-]{8,}")
#: No token, and no header with one, has fewer characters.
_SHORTEST_TOKEN = 14
_NAMES = re.compile(
    r"(?i)(?:^|[-_.])(?:pass(?:word|wd|phrase)?|secret|token|credentials?|auth(?:orization)?"
    r"|api[-_.]?key|access[-_.]?key|private[-_.]?key|apikey|pat)$"
)
#: More than any of these names has characters: only so many at the end of a name tell.
_NAMES_END = 32
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_REFERENCE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")
_NOTHING_CLEAR = re.compile(r"(?:\s++|\$\{[A-Za-z_][A-Za-z0-9_]*+\})*+")
_DIGEST = re.compile(r"sha(?<!\wsha)(?:256|384|512)[:-][0-9a-zA-Z+/=]+")
_SHORTEST_KEY = 32
_RANDOM = re.compile(rf"[A-Za-z0-9+/=_-]{{{_SHORTEST_KEY},}}+")
_HEXADECIMAL = re.compile(r"[0-9a-fA-F]++")
_DIGITS = re.compile(r"[0-9]++")
#: Letters of both kinds, and digits in three places at least.
_MIXED = re.compile(r"(?=[^a-z]*+[a-z])(?=[^A-Z]*+[A-Z])(?:[^0-9]*+[0-9]++){3}")
_ASSIGNMENT = re.compile(r"^-{0,2}([A-Za-z][A-Za-z0-9_.-]*+)[=:](.*)$", re.DOTALL)
_FLAG = re.compile(r"^--?([A-Za-z][A-Za-z0-9_.-]*+)$")

#: What turns something on or off is no secret, whatever its name.
_SWITCH = re.compile(r"true|false|yes|no|on|off|none|[01]?", re.IGNORECASE)
#: A value of so few characters is in every other line of a log.
_SHORT = 3

#: A command line: its words, blanks between them, and what is left: a quote that stays open.
_LINE = re.compile(
    r"""((?:[^ \t\r\n'"\\]++|'[^']*+'|"(?:[^"\\]++|\\.)*+"|\\.)++)|[ \t\r\n]++|(.)""", re.DOTALL
)
_BLANKS = re.compile(r"[ \t\r\n]+")
_BLANK = re.compile(r"\s")
_QUOTE = re.compile(r"""['"\\]""")
#: What is quoted in a word: by one sign, in two kinds of quotes.
_QUOTED = re.compile(r"""\\(.)|'([^']*+)'|"((?:[^"\\]++|\\.)*+)\"""", re.DOTALL)
_BACKSLASH = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED = re.compile(r"""\\(["\\])""")

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
    if not _tells(text):
        return None
    if "${" in text:
        text = _REFERENCE.sub("", text)
    if "sha" in text:
        text = _DIGEST.sub("", text)
    if len(text) >= _SHORTEST_TOKEN and (
        any(hint in text and tokens.search(text) for tokens, hint in _TOKENS)
        or _HEADER.search(text)
    ):
        return "looks like an access token or key"
    if "://" in text:
        if (userinfo := _password_in_url(text)) is not None:
            return userinfo
    elif len(text) >= _SHORTEST_KEY and any(map(_looks_random, set(_RANDOM.findall(text)))):
        return "looks like a random key"
    assignment = _ASSIGNMENT.match(text)
    if assignment and _is_secrets_name(assignment[1]) and assignment[2].strip():
        return f"gives {assignment[1]} in clear"
    return None


def secrets_in_arguments(arguments: Sequence[str]) -> Iterator[tuple[int, str]]:
    """The positions in a command's ``arguments`` that look like secrets, each with the reason.

    ``--token VALUE`` and ``TOKEN=VALUE`` are among them unless the value is a ``${NAME}``
    reference, also inside an argument that is a command line itself, such as that of ``sh -c``.
    """
    #: Arguments, and words in them, that are found to be none by themselves: many may be equal.
    clean: set[str] = set()
    flag: str | None = None
    for position, argument in enumerate(arguments):
        known = argument in clean
        why = None if known else why_secret(argument)
        if why is None and flag and not argument.startswith("-") and _clear(argument):
            why = f"gives {flag} in clear"
        if why is None and not known:
            why = _why_secret_line(argument, clean)
            if why is None:
                clean.add(argument)
        if why:
            yield position, why
        flag = _secrets_flag(argument)


def _why_secret_line(line: str, clean: set[str]) -> str | None:
    """Why a word in ``line``, read as a command line of two words or more, is a secret.

    Words in ``clean`` are none by themselves, as those are that are added to it.
    """
    if _BLANK.search(line) is None:
        return None
    quoted = _QUOTE.search(line) is not None
    words = _words(line) if quoted else _BLANKS.split(line.strip(" \t\r\n"))
    if len(words) < 2:
        return None
    flag: str | None = None
    for word in words:
        known = word in clean
        if not known and _tells(word) and (why := why_secret(word)):
            return why
        if flag and not word.startswith("-") and _clear(word):
            return f"gives {flag} in clear"
        if quoted and not known:
            if why := _why_secret_line(word, clean):
                return why
            clean.add(word)
        flag = _secrets_flag(word) if word.startswith("-") else None
    return None


def _tells(text: str) -> bool:
    """Whether ``text`` by itself may be a secret: most words of a command line are too short."""
    return len(text) >= _SHORTEST_TOKEN or "=" in text or ":" in text


def _secrets_flag(argument: str) -> str | None:
    match = _FLAG.match(argument)
    return argument if match and _is_secrets_name(match[1]) else None


def secrets_in_mapping(values: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The keys whose values look like secrets, each with the reason."""
    for key, value in values.items():
        why = why_secret(value)
        if why is None and _is_secrets_name(key) and _clear(value):
            why = f"gives {key} in clear"
        if why:
            yield key, why


def is_switch(text: str) -> bool:
    """Whether ``text`` turns something on or off: no secret, whatever its name."""
    return _SWITCH.fullmatch(text) is not None


def secret_values(variables: Mapping[str, str]) -> Iterator[str]:
    """Those values of ``variables`` that are secrets, by their own looks or by their names, and
    must stay out of logs."""
    for name, _ in secrets_in_mapping(variables):
        if not is_switch(value := variables[name].strip()) and len(value) > _SHORT:
            yield value


def secrets_in_fields(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The paths of JSON ``fields`` whose values look like secrets, each with the reason.

    The values are prose or of unknown fields, so only tokens with an issuer's prefix and the values
    of fields that are named like a secret are reported.
    """
    for key, value in fields.items():
        named = _is_secrets_name(key)
        for item in value if isinstance(value, list | tuple) else (value,):
            if isinstance(item, str):
                if len(item) >= _SHORTEST_TOKEN and without_tokens(item) != item:
                    yield key, "holds what looks like an access token or key"
                elif named and _clear(item):
                    yield key, "is given in clear"
            elif isinstance(item, Mapping):
                for path, why in secrets_in_fields(item):
                    yield f"{key}.{path}", why
            elif named and isinstance(item, int) and not isinstance(item, bool):
                yield key, "is given in clear"


def without_secrets(value: Any) -> Any:
    """JSON with ``***`` for each text that looks like a secret, and for what is named like one."""
    match value:
        case Mapping():
            return {
                key: "***"
                if _is_secrets_name(str(key)) and isinstance(each, str | int) and _clear(str(each))
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

    for tokens, hint in _TOKENS:
        if hint in prose:
            prose = tokens.sub(masked, prose)
    return prose


@_cached
def _is_secrets_name(name: str) -> bool:
    """Whether a field, flag or variable of this name holds a secret; finds ``clientSecret`` too."""
    return _NAMES.search(_HUMP.sub("-", name[-_NAMES_END:])) is not None


def _words(line: str) -> list[str]:
    """The words of a command line as a shell reads them; where a quote stays open, what stands
    between blanks. It is what :func:`shlex.split` makes of it, which takes 20 times as long."""
    words: list[str] = []
    read: dict[str, str] = {}
    for word, unread in _LINE.findall(line):
        if unread:
            return line.split()
        if word:
            if (plain := read.get(word)) is None:
                plain = read[word] = _without_quotes(word)
            words.append(plain)
    return words


def _without_quotes(word: str) -> str:
    if _QUOTE.search(word) is None:
        return word
    inner = word[1:-1]  # most are quoted as a whole
    if word[0] == word[-1] == "'" and "'" not in inner and inner:
        return inner
    if word[0] == word[-1] == '"' and inner and '"' not in inner and "\\" not in inner:
        return inner
    if "'" not in word and '"' not in word:
        return _BACKSLASH.sub(r"\1", word)
    return _QUOTED.sub(_unquoted, word)


def _unquoted(quoted: re.Match[str]) -> str:
    if quoted[3] is not None:
        return _ESCAPED.sub(r"\1", quoted[3]) if "\\" in quoted[3] else quoted[3]
    return quoted[2] if quoted[2] is not None else quoted[1]


def _clear(value: str) -> bool:
    return _NOTHING_CLEAR.fullmatch(value) is None


def _password_in_url(text: str) -> str | None:
    if "@" not in text and ("?" not in text or "=" not in text):
        return None
    try:
        parts = urlsplit(text)
        if parts.username is not None or parts.password is not None:
            return "has a user or password before the host"
    except ValueError:
        return None
    named = {pair[0] for each in parts.query.split("&") if (pair := each.partition("="))[2]}
    for name in named:
        if _is_secrets_name(unquote_plus(name)):
            return f"gives {unquote_plus(name)} in clear"
    return None


def _looks_random(word: str) -> bool:
    """Whether a long word looks like a generated key: mixed, and not made of words."""
    if "/" in word and not word.endswith("="):  # a path
        return False
    if _HEXADECIMAL.fullmatch(word):
        return True
    if _MIXED.match(word) is None:
        return False
    edges = word[0].isdigit() + word[-1].isdigit()
    return 2 * len(_DIGITS.findall(word)) - edges >= 6  # from letters to digits, or back
