"""What browsers keep for the facade is sealed: encrypted and authenticated, by keys of its own.

With a file of keys, which is followed, a session counts at every facade that has it; otherwise the
key is one of this process, and of the workers that it forks.
"""

from __future__ import annotations

import hashlib
import secrets
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson
from pydantic import Field

from mcp_discovery.credential_files import FollowedFiles
from mcp_discovery.extras import require_extra
from mcp_discovery.facade.access.section import Section

#: The key of this process, where no file has any.
_OF_PROCESS: Final = secrets.token_bytes(32)
#: Of AES-GCM (NIST SP 800-38D, 8.2.2): random, so that 2**32 are safe with one key.
_NONCE_BYTES: Final = 12
#: A line that ``openssl rand -base64 32`` makes has 44.
_LEAST_CHARACTERS, _MOST_KEYS = 32, 8


class SessionsSection(Section):
    """Sessions of browsers: how long they last, in seconds, and what seals their cookies.

    ``key_file`` has a key in each line, of at least 32 characters: the first seals, all open. It is
    followed. Without it sessions count at this facade alone, until it is started anew.
    """

    key_file: str | None = None
    lifetime: float = Field(8 * 3600.0, ge=60, le=30 * 86400)


class SealingKeys:
    """Seals with the first of ``given``, and opens what any of them has sealed."""

    def __init__(self, given: Sequence[bytes]) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._keys = [AESGCM(hashlib.sha256(each).digest()) for each in given]

    def seal(self, purpose: str, content: Mapping[str, Any]) -> str:
        """``content`` as text for a cookie; it opens for the same ``purpose`` alone."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        data = zlib.compress(orjson.dumps(content), 9)
        sealed = nonce + self._keys[0].encrypt(nonce, data, purpose.encode())
        return urlsafe_b64encode(sealed).rstrip(b"=").decode()

    def open(self, purpose: str, text: str) -> dict[str, Any] | None:
        """What was sealed for ``purpose``; ``None`` for what none of the keys has sealed."""
        from cryptography.exceptions import InvalidTag

        try:
            sealed = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except ValueError:
            return None
        # Base64 has several spellings of the same bytes: who is signed out is told by the text.
        if urlsafe_b64encode(sealed).rstrip(b"=").decode() != text:
            return None
        for key in self._keys:
            try:
                data = key.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], purpose.encode())
            except (InvalidTag, ValueError):
                continue
            content: dict[str, Any] = orjson.loads(zlib.decompress(data))
            return content
        return None


class SealingFiles:
    """The keys of each section, which outlast its changes."""

    def __init__(self) -> None:
        self._own: SealingKeys | None = None
        self._file: tuple[str, FollowedFiles[SealingKeys]] | None = None

    def of(self, section: SessionsSection) -> Callable[[], SealingKeys]:
        """The keys of ``section`` as they are whenever it is called.

        Raises :class:`MissingExtraError`, or :class:`InvalidInputError` for a file that cannot be
        used.
        """
        require_extra("auth", "a session of a browser")
        path = section.key_file
        if path is None:
            own = self._own = self._own or SealingKeys([_OF_PROCESS])
            return lambda: own
        if self._file is None or self._file[0] != path:
            self._file = path, FollowedFiles("sessions of browsers", [path], _from_file)
        return self._file[1].current


def _from_file(contents: Sequence[bytes]) -> SealingKeys:
    lines = [each.strip() for each in contents[0].splitlines()]
    keys = [each for each in lines if each and not each.startswith(b"#")]
    if not 0 < len(keys) <= _MOST_KEYS or any(len(each) < _LEAST_CHARACTERS for each in keys):
        raise ValueError(
            f"it needs one to {_MOST_KEYS} keys, each a line of at least {_LEAST_CHARACTERS} "
            "characters; make one with openssl rand -base64 32"
        )
    return SealingKeys(keys)
