"""The one tree of errors that this project raises.

::

    DiscoveryError
    ├── InvalidInputError (also ValueError)  what was given cannot be used as it is
    │   ├── InvalidRecordError               a record's field breaks its rule
    │   │   ├── SecretInRecordError          … because it holds what looks like a secret
    │   │   └── RecordTooLargeError          … because its JSON is over the limit
    │   ├── InvalidDocumentError             a capability document is malformed or over the limit
    │   ├── InvalidFilterValueError          a text is no value of a filter
    │   ├── UnknownQueryError                no named query has that name
    │   ├── UnreadableCallError              a model's tool call has arguments that are no object
    │   └── InvalidStoreURLError             unknown scheme or malformed store URL
    ├── MissingExtraError (also ImportError) an extra of this distribution is not installed
    ├── DuplicateInstanceError               the id is held by another, living registrant
    ├── RegistrationLostError                the store no longer knows the instance
    ├── DocumentNotFoundError                no document with that digest
    ├── QueryChangedError                    a named query is not what it was taken for
    ├── TokenError                           a token could not be had where it is asked for
    ├── OutdatedRevisionError                a revision or cursor of another epoch, or too old
    ├── UnknownToolError                     no server that was found offers the tool
    │   └── AmbiguousToolError               … or several servers do, and it is not said which
    ├── CallError                            a tool was not called, or did not answer
    │   ├── NoReplicaError                   no instance can be called now
    │   ├── ServerRefusedError               the server wants other credentials, or none of this
    │   ├── ToolChangedError                 nobody offers the tool any more as it was listed
    │   ├── BadServerError                   the server's answer breaks MCP
    │   ├── AnswerTooLargeError              the server's answer is over the limit
    │   └── CallLostError                    sent, not answered, and not safe to send again
    │       └── CallTimeoutError             … within its deadline
    ├── AskError                             a question to a model has no answer
    │   ├── AskLimitError                    … within its turns, its tokens or its time
    │   ├── ModelError                       … since the model's API did not give one
    │   └── ModelRefusedError                … since the model, or a filter, refuses
    └── StoreError
        ├── StoreUnavailableError            the store cannot be reached or cannot answer now
        ├── StoreUnsupportedError            the store cannot do that at all
        └── StoreDeniedError                 the store refuses these credentials
            ├── UnauthenticatedError         a facade wants a token, or another one (401)
            └── ForbiddenError               a facade knows the caller, who lacks a right (403)

Packages below add errors of their own to this tree, each where it is raised; a test lists them all.
Every message is one sentence that says what is wrong and what to do; the facts are attributes; the
original exception is chained.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING

__all__ = [
    "AmbiguousToolError",
    "AnswerTooLargeError",
    "BadServerError",
    "CallError",
    "CallLostError",
    "CallTimeoutError",
    "DiscoveryError",
    "DocumentNotFoundError",
    "DuplicateInstanceError",
    "ForbiddenError",
    "InvalidDocumentError",
    "InvalidInputError",
    "InvalidRecordError",
    "InvalidStoreURLError",
    "MissingExtraError",
    "NoReplicaError",
    "OutdatedRevisionError",
    "QueryChangedError",
    "RecordTooLargeError",
    "RegistrationLostError",
    "SecretInRecordError",
    "ServerRefusedError",
    "StoreDeniedError",
    "StoreError",
    "StoreUnavailableError",
    "StoreUnsupportedError",
    "TokenError",
    "ToolChangedError",
    "UnauthenticatedError",
    "UnknownQueryError",
    "UnknownToolError",
]


class Remedy(StrEnum):
    """What would help, where how to do it depends on who reads the error."""

    CREDENTIALS = "other credentials"
    SIGN_IN = "a token that the facade takes"
    ALLOW_COMMAND = "allowing a command to be started"
    OTHER_SERVERS = "looking for other servers"
    LARGER_ANSWERS = "a higher limit"


#: How it is done in Python. The shell and the facade's MCP clients have tables of their own.
IN_PYTHON: Mapping[Remedy, str] = {
    Remedy.CREDENTIALS: "see the auth option",
    Remedy.SIGN_IN: "give one by token= or token_file=, of a sidecar by --store-token-file",
    Remedy.ALLOW_COMMAND: "allow it by its server's name, with allow_stdio",
    Remedy.OTHER_SERVERS: "connect to other tags, or start one",
    Remedy.LARGER_ANSWERS: "ask for less, or raise max_answer_bytes",
}


class DiscoveryError(Exception):
    """Base of every error that mcp-discovery raises on purpose.

    ``remedy`` is what would help, where that is not in the message already.
    """

    remedy: Remedy | None = None

    def sentence(self, remedies: Mapping[Remedy, str]) -> str:
        """The message, with what would help in the words of ``remedies``."""
        message = super().__str__()
        how = remedies.get(self.remedy) if self.remedy is not None else None
        return f"{message}; {how}" if how else message

    def __str__(self) -> str:
        return self.sentence(IN_PYTHON)


class InvalidInputError(DiscoveryError, ValueError):
    """Something that was given cannot be used as it is; the message says how to correct it.

    ``others`` are further faults of the same input, where they are known too.
    """

    others: tuple[InvalidInputError, ...] = ()


def raise_all(faults: Iterable[InvalidInputError]) -> None:
    """Raises the first of ``faults``, of which the rest are its ``others``; nothing for none."""
    if found := tuple(faults):
        found[0].others = found[1:]
        raise found[0]


class InvalidRecordError(InvalidInputError):
    """A field of a record is invalid.

    ``field`` is the field's path with its names in JSON (``tags.0``), or ``""`` for the whole
    record.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}" if field else problem)
        self.field = field
        self.problem = problem


class SecretInRecordError(InvalidRecordError):
    """A field holds what looks like a secret; records are readable by everyone."""


class RecordTooLargeError(InvalidRecordError):
    """A record's JSON is larger than ``limit`` bytes."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            "",
            f"the record is {size:,} bytes as JSON, over the limit of {limit:,}; "
            "shorten its description, metadata or lists",
        )
        self.size = size
        self.limit = limit


class InvalidDocumentError(InvalidInputError):
    """A capability document is malformed, over the limit, or not what its digest says."""


class InvalidStoreURLError(InvalidInputError):
    """A store URL has an unknown scheme or a malformed part."""

    def __init__(self, url: str, problem: str) -> None:
        super().__init__(f"store URL {url[:300]!r}: {problem[:1000]}")
        self.url = url
        self.problem = problem


class MissingExtraError(DiscoveryError, ImportError):
    """What is wanted needs an extra of this distribution (``client``) that is not installed."""

    def __init__(self, extra: str, problem: str) -> None:
        super().__init__(f"{problem}; run: pip install 'mcp-discovery[{extra}]'")
        self.extra = extra
        self.problem = problem


class DuplicateInstanceError(DiscoveryError):
    """The id is held by another registrant that is alive.

    ``id`` is the instance's id, ``holder`` says who holds it (role and host), ``url`` is the
    endpoint it registered. ``looks_alive`` is for how many seconds a dead holder may look alive in
    this store, where that can be longer than its TTL.
    """

    def __init__(
        self, id: str, *, holder: str, url: str | None = None, looks_alive: float = 0.0
    ) -> None:
        where = f" for {url}" if url else ""
        super().__init__(
            f"id {id!r} is already held by {holder}{where}, which is alive; "
            "give this instance another id, or stop the other one first"
        )
        self.id = id
        self.holder = holder
        self.url = url
        self.looks_alive = looks_alive


class RegistrationLostError(DiscoveryError):
    """The store no longer knows this registration; register anew."""

    def __init__(self, id: str, why: str) -> None:
        super().__init__(f"the registration of {id!r} is lost: {why}")
        self.id = id
        self.why = why


class DocumentNotFoundError(DiscoveryError):
    """The store has no capability document with ``digest``."""

    def __init__(self, digest: str) -> None:
        super().__init__(f"no capability document {digest!r} in the store")
        self.digest = digest


class QueryChangedError(DiscoveryError):
    """The named query ``name`` has another version than was expected: ``version``, or none."""

    def __init__(self, name: str, version: str | None) -> None:
        now = "there is none now" if version is None else f"its version is {version!r} now"
        super().__init__(
            f"the query {name!r} was changed meanwhile, {now}; read it again and decide anew"
        )
        self.name = name
        self.version = version


class UnknownQueryError(InvalidInputError):
    """No query is kept under ``name``; ``nearest`` are the names most like it."""

    def __init__(self, name: str, nearest: tuple[str, ...] = ()) -> None:
        hint = f"did you mean {' or '.join(map(repr, nearest))}? " if nearest else ""
        hint = "`q` is what is searched for in words; " if " " in name else hint  # no name has one
        super().__init__(f"there is no query {name[:100]!r}; {hint}GET /queries names them")
        self.name = name
        self.nearest = nearest


class OutdatedRevisionError(DiscoveryError):
    """A reader's revision cannot be resumed from; read a whole snapshot and go on from there."""


class StoreFault(StrEnum):
    """What keeps a store from serving, as operators tell it apart: the ``cause`` in metrics.

    :attr:`remedy` is what to do about it, wherever that is said. Of several endpoints with
    different faults, the first in this order names all of them.
    """

    NO_LEADER = "no-leader"
    DENIED = "denied"
    FORBIDDEN = "forbidden"
    OUT_OF_SPACE = "out-of-space"
    OVERLOADED = "overloaded"
    LEARNER = "learner"
    COMPACTED = "compacted"
    TLS = "tls"
    SILENT = "no-answer"
    UNREACHABLE = "unreachable"
    OTHER = "other"

    @property
    def remedy(self) -> str:
        """One sentence without a full stop."""
        return _REMEDIES[self]


_REMEDIES: Mapping[StoreFault, str] = {
    StoreFault.NO_LEADER: (
        "bring back the members that are down or cut off: more than half have to run and reach "
        "each other; restart no facade meanwhile, it would lose its list"
    ),
    StoreFault.DENIED: (
        "give the user's present password, or a token that is valid; files of credentials are read "
        "again by themselves"
    ),
    StoreFault.FORBIDDEN: (
        "grant what is named to the user's role or the token's policy, as docs/etcd.md and "
        "docs/consul.md say, or for a facade in the file of its --auth"
    ),
    StoreFault.OUT_OF_SPACE: "compact and defragment the store, then disarm its alarm",
    StoreFault.OVERLOADED: (
        "see the store's load and disks, and raise the limit that is named; it has a leader"
    ),
    StoreFault.LEARNER: "name members that vote as well, or promote this one",
    StoreFault.COMPACTED: "have the store keep more of its history: compact less often",
    StoreFault.TLS: (
        "see the URL's scheme, --store-ca, --store-cert and --store-key, and renew what has expired"
    ),
    StoreFault.SILENT: (
        "see whether the store's process hangs, its load and its log, and that no firewall is "
        "between"
    ),
    StoreFault.UNREACHABLE: (
        "see that it runs, that the address is right, and that no firewall is between"
    ),
    StoreFault.OTHER: "see its log, and whether what listens there is such a store",
}


class StoreError(DiscoveryError):
    """The store did not execute a request; ``store`` is its URL without secrets.

    ``fault`` is what keeps it from that. ``renewed`` says that a heartbeat renewed the registration
    all the same, and did nothing else.
    """

    fault = StoreFault.OTHER
    renewed = False

    def __init__(self, store: str, problem: str, *, fault: StoreFault | None = None) -> None:
        super().__init__(f"{store}: {problem}")
        self.store = store
        self.problem = problem
        if fault is not None:
            self.fault = fault


class StoreUnavailableError(StoreError):
    """The store cannot be reached, or cannot answer now. It never means "not registered".

    ``retry_after`` is how many seconds the store asks to be left alone for, 0 if it does not say.
    """

    def __init__(
        self,
        store: str,
        problem: str,
        *,
        fault: StoreFault | None = None,
        retry_after: float = 0.0,
    ) -> None:
        super().__init__(store, problem, fault=fault)
        self.retry_after = retry_after


class StoreDeniedError(StoreError):
    """The store refuses these credentials, or they lack a permission."""

    fault = StoreFault.DENIED


class StoreUnsupportedError(StoreError):
    """A store of this kind cannot do what is wanted, whatever its state."""


class UnauthenticatedError(StoreDeniedError):
    """A facade wants a token, or the one that was sent does not count (any more): HTTP 401."""

    remedy = Remedy.SIGN_IN


class ForbiddenError(StoreDeniedError):
    """A facade knows who asks, and refuses it: HTTP 403. Another token of the same caller does not
    help. ``needs`` is the right that is missing, where the facade names it.
    """

    fault = StoreFault.FORBIDDEN

    def __init__(self, store: str, problem: str, *, needs: str | None = None) -> None:
        super().__init__(store, problem)
        self.needs = needs


class TokenError(DiscoveryError):
    """A token could not be had from the function or the authorization server that is asked for it.

    ``denied`` says that it was refused: asking again does not help.
    """

    def __init__(self, problem: str, *, denied: bool = False) -> None:
        super().__init__(problem)
        self.problem = problem
        self.denied = denied


class UnknownToolError(DiscoveryError):
    """No server that was found offers the tool; ``nearest`` are the names most like it."""

    def __init__(
        self,
        tool: str,
        problem: str,
        nearest: tuple[str, ...] = (),
        *,
        remedy: Remedy | None = None,
    ) -> None:
        hint = f"; did you mean {' or '.join(map(repr, nearest))}?" if nearest else ""
        super().__init__(f"tool {tool!r}: {problem}{hint}")
        self.tool = tool
        self.problem = problem
        self.nearest = nearest
        self.remedy = remedy


class AmbiguousToolError(UnknownToolError):
    """Several servers offer a tool of this name; ``choices`` are the names that tell them apart."""

    def __init__(self, tool: str, choices: tuple[str, ...]) -> None:
        super().__init__(tool, f"several servers offer it; say which: {', '.join(choices)}")
        self.choices = choices


class CallError(DiscoveryError):
    """A tool was not called, or did not answer.

    ``tool`` is its own name, ``server`` the server's, ``instance`` the id of the instance that was
    asked last; ``None`` where it never came to that.
    """

    def __init__(
        self,
        tool: str,
        server: str,
        problem: str,
        *,
        instance: str | None = None,
        remedy: Remedy | None = None,
    ) -> None:
        at = f" at {instance}" if instance else ""
        super().__init__(f"{tool} of {server}{at}: {problem}")
        self.tool = tool
        self.server = server
        self.instance = instance
        self.problem = problem
        self.remedy = remedy


class NoReplicaError(CallError):
    """No instance of the server can be called now. Nothing was sent."""


class ServerRefusedError(CallError):
    """The server wants other credentials (``status`` 401 or 403), or a user's consent."""

    def __init__(self, tool: str, server: str, problem: str, *, instance: str, status: int) -> None:
        super().__init__(tool, server, problem, instance=instance, remedy=Remedy.CREDENTIALS)
        self.status = status


class ToolChangedError(CallError):
    """Nobody offers the tool any more as it was listed: read the tools again. Nothing was sent."""


class BadServerError(CallError):
    """The server's answer breaks MCP. The tool may have done its work."""


class AnswerTooLargeError(CallError):
    """The server's answer is over ``limit`` bytes. The tool has done its work."""

    def __init__(self, tool: str, server: str, problem: str, *, instance: str, limit: int) -> None:
        super().__init__(tool, server, problem, instance=instance, remedy=Remedy.LARGER_ANSWERS)
        self.limit = limit


class CallLostError(CallError):
    """The call was sent and not answered, and it is not safe to send it again.

    The tool may have done its work. Tools that say that they are read-only or idempotent are sent
    again to another instance instead.
    """


class CallTimeoutError(CallLostError):
    """No answer came within the deadline."""


#: Names of 0.1.0 in other words; all others had no ``Error`` at the end. They go with 0.3.0.
_FORMER_NAMES = {"StartOver": "OutdatedRevisionError", "CallFailed": "CallError"}


if not TYPE_CHECKING:  # a type checker shall miss the names that are gone

    def __getattr__(name: str) -> type[DiscoveryError]:
        """An error by the name that it had in 0.1.0, with a :class:`DeprecationWarning`."""
        now = _FORMER_NAMES.get(name, f"{name}Error")
        if (found := globals().get(now)) is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        warnings.warn(f"{name} is now {now}", DeprecationWarning, stacklevel=2)
        return found
