"""The one tree of errors that this project raises.

::

    DiscoveryError
    ├── InvalidInput (also ValueError)   what was given cannot be used as it is
    │   ├── InvalidRecord                a record's field breaks its rule
    │   │   ├── SecretInRecord           … because it holds what looks like a secret
    │   │   └── RecordTooLarge           … because its JSON is over the limit
    │   ├── InvalidDocument              a capability document is malformed or over the limit
    │   └── InvalidStoreURL              unknown scheme or malformed store URL
    ├── DuplicateInstance                the id is held by another, living registrant
    ├── RegistrationLost                 the store no longer knows the instance: register anew
    ├── DocumentNotFound                 no document with that digest
    ├── StartOver                        a revision or cursor of another epoch, or too old
    └── StoreError
        ├── StoreUnavailable             the store cannot be reached or cannot answer now
        └── StoreDenied                  the store refuses these credentials

Every message is one sentence that says what is wrong and what to do; the facts are attributes; the
original exception is chained.
"""

from __future__ import annotations


class DiscoveryError(Exception):
    """Base of every error that mcp-discovery raises on purpose."""


class InvalidInput(DiscoveryError, ValueError):
    """What was given cannot be used as it is; the message says how to mend it."""


class InvalidRecord(InvalidInput):
    """A record's field breaks its rule.

    ``field`` is the field's path as it is spelled in JSON (``tags.0``), or ``""`` for the whole
    record.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}" if field else problem)
        self.field = field
        self.problem = problem


class SecretInRecord(InvalidRecord):
    """A field holds what looks like a secret; records are readable by everyone."""


class RecordTooLarge(InvalidRecord):
    """A record's JSON is larger than ``limit`` bytes."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            "",
            f"the record is {size:,} bytes as JSON, over the limit of {limit:,}; "
            "shorten its description, metadata or lists",
        )
        self.size = size
        self.limit = limit


class InvalidDocument(InvalidInput):
    """A capability document is malformed, over the limit, or not what its digest says."""


class InvalidStoreURL(InvalidInput):
    """A store URL has an unknown scheme or a malformed part."""

    def __init__(self, url: str, problem: str) -> None:
        super().__init__(f"store URL {url!r}: {problem}")
        self.url = url
        self.problem = problem


class DuplicateInstance(DiscoveryError):
    """The id is held by another registrant that is alive.

    ``id`` is the instance's id, ``holder`` says who holds it (role and host), ``url`` is the
    endpoint it registered.
    """

    def __init__(self, id: str, *, holder: str, url: str | None = None) -> None:
        where = f" for {url}" if url else ""
        super().__init__(
            f"id {id!r} is already held by {holder}{where}, which is alive; "
            "give this instance another id, or stop the other one first"
        )
        self.id = id
        self.holder = holder
        self.url = url


class RegistrationLost(DiscoveryError):
    """The store no longer knows this registration; register anew."""

    def __init__(self, id: str, why: str) -> None:
        super().__init__(f"the registration of {id!r} is lost: {why}")
        self.id = id
        self.why = why


class DocumentNotFound(DiscoveryError):
    """The store has no capability document with ``digest``."""

    def __init__(self, digest: str) -> None:
        super().__init__(f"no capability document {digest!r} in the store")
        self.digest = digest


class StartOver(DiscoveryError):
    """A reader's revision cannot be resumed from; read a whole snapshot and go on from there."""


class StoreError(DiscoveryError):
    """The store did not do what it was asked; ``store`` is its URL without secrets."""

    def __init__(self, store: str, problem: str) -> None:
        super().__init__(f"{store}: {problem}")
        self.store = store
        self.problem = problem


class StoreUnavailable(StoreError):
    """The store cannot be reached, or cannot answer now. Never the same as "not registered"."""


class StoreDenied(StoreError):
    """The store refuses these credentials, or they lack a permission."""
