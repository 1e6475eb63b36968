"""The session ids that the gateway gives to legacy clients: whose they are, and which instance's.

A client's id is ``<instance>.<the instance's own id>``, so that any facade can route it; where
there is a file of ``--auth`` it is ``<instance>.<tag>.<the instance's own id>``. The tag is of the
caller, anonymous ones being one, so that an id that somebody else has got hold of is of no use to
them, with or without its tag. It depends on that file, which all facades of one address have in
common, and not on a state that each would have of its own. An instance's id is a DNS label, so the
first dot ends it.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from collections import deque

from mcp_discovery.credential_files import FollowedFiles
from mcp_discovery.facade.access.auth_file import Policy
from mcp_discovery.facade.access.caller import Caller
from mcp_discovery.record import is_label

#: The bytes of a tag.
_TAG_BYTES = 12
#: How many states of the file the sessions count of that began under them.
_MOST_KEYS = 32


class SessionIds:
    """Wraps and unwraps session ids; ``policy`` is the file of ``--auth``, where there is one."""

    def __init__(self, policy: FollowedFiles[Policy] | None) -> None:
        self._policy = policy
        self._keys: deque[bytes] = deque(maxlen=_MOST_KEYS)

    def wrap(self, caller: Caller, instance: str, session: str) -> str:
        """The id for ``caller`` of the session ``session`` of ``instance``."""
        if self._policy is None:
            return f"{instance}.{session}"
        return f"{instance}.{_tag(self._current()[0], caller, instance, session)}.{session}"

    def unwrap(self, caller: Caller, text: str) -> tuple[str, str] | None:
        """The instance's id and its own session id; ``None`` where ``text`` is none of ``caller``'s
        ids."""
        instance, _, session = text.partition(".")
        if not session or not is_label(instance):
            return None
        if self._policy is None:
            return instance, session
        tag, _, session = session.partition(".")
        given = tag.encode(errors="replace")
        valid = [
            hmac.compare_digest(given, _tag(key, caller, instance, session).encode())
            for key in self._current()
        ]
        return (instance, session) if session and any(valid) else None

    def _current(self) -> deque[bytes]:
        """The keys, the present one first."""
        assert self._policy is not None, "without a file there are no tags"
        key = self._policy.current().digest
        if not self._keys or self._keys[0] != key:
            self._keys.appendleft(key)
        return self._keys


def _tag(key: bytes, caller: Caller, instance: str, session: str) -> str:
    said = "\0".join((caller.by, caller.subject, instance, session))
    digest = hmac.digest(key, said.encode(errors="surrogateescape"), "sha256")
    return urlsafe_b64encode(digest[:_TAG_BYTES]).decode()
