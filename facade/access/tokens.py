"""Tokens that the facade itself knows: ``mcpd_<id>_<secret>``, of which its file has a hash.

The id says where to look, so that no more than one hash is compared; it and the beginning are what
scanners for secrets find. The secret has 256 bits: a fast hash without salt is enough.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from mcp_discovery.facade.access.section import Section, Words

#: What each token begins with.
PREFIX = "mcpd_"
#: 43 of 62 characters are 256 bits.
_SECRET_LENGTH = 43
_CHARACTERS = string.ascii_letters + string.digits
_TOKEN = re.compile(rf"{PREFIX}([a-z0-9][a-z0-9-]{{0,62}})_[A-Za-z0-9]{{{_SECRET_LENGTH},128}}")

_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")

#: What a token is called, in the token itself and in the file.
TokenId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
#: A time; without an offset it is UTC.
Time = Annotated[datetime, AfterValidator(lambda v: v if v.tzinfo else v.replace(tzinfo=UTC))]


class TokenEntry(Section):
    """One token: the hash that ``mcp-discovery token create`` wrote, whose it is and what for.

    ``subject`` is its id unless it says otherwise; several tokens of one subject are one caller.
    """

    hash: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    subject: str | None = Field(None, min_length=1, max_length=256)
    roles: Words = Field([])
    expires: Time | None = None
    note: str | None = None


def is_id(text: str) -> bool:
    """Whether a token may be called ``text``."""
    return _ID.fullmatch(text) is not None


def has_own_token(text: str) -> bool:
    """Whether a facade's token stands in ``text``."""
    return _TOKEN.search(text) is not None


def new_token(id: str) -> str:
    """A token with the id ``id`` and a new secret."""
    secret = "".join(secrets.choice(_CHARACTERS) for _ in range(_SECRET_LENGTH))
    return f"{PREFIX}{id}_{secret}"


def hash_of(token: str) -> str:
    """What the file keeps of ``token``."""
    return f"sha256:{hashlib.sha256(token.encode()).hexdigest()}"


def find(token: str, known: dict[str, TokenEntry]) -> tuple[str, TokenEntry] | None:
    """The id and the entry of ``token`` among ``known``, whether it has expired or not."""
    match = _TOKEN.fullmatch(token)
    entry = known.get(match[1]) if match is not None else None
    if match is None or entry is None or not hmac.compare_digest(hash_of(token), entry.hash):
        return None
    return match[1], entry
