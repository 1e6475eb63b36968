"""The one tree of errors that this project raises.

::

    DiscoveryError
    ├── InvalidInput (also ValueError)   what was given cannot be used as it is
    │   ├── InvalidRecord                a record's field breaks its rule
    │   │   ├── SecretInRecord           … because it holds what looks like a secret
    │   │   └── RecordTooLarge           … because its JSON is over the limit
    │   ├── InvalidDocument              a capability document is malformed or over the limit
    │   ├── UnreadableCall               a model's tool call has arguments that are no JSON object
    │   └── InvalidStoreURL              unknown scheme or malformed store URL
    ├── DuplicateInstance                the id is held by another, living registrant
    ├── RegistrationLost                 the store no longer knows the instance: register anew
    ├── DocumentNotFound                 no document with that digest
    ├── StartOver                        a revision or cursor of another epoch, or too old
    ├── UnknownTool                      no server that was found offers the tool
    │   └── AmbiguousTool                … or several servers do, and it is not said which
    ├── CallFailed                       a tool was not called, or did not answer
    │   ├── NoReplica                    no instance can be called now
    │   ├── ServerRefused                the server wants other credentials, or none of this
    │   ├── ToolChanged                  nobody offers the tool any more as it was listed
    │   ├── BadServer                    the server's answer breaks MCP
    │   └── CallLost                     sent, not answered, and not safe to send again
    │       └── CallTimeout              … within its deadline
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
        super().__init__(f"store URL {url[:300]!r}: {problem[:1000]}")
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


class UnknownTool(DiscoveryError):
    """No server that was found offers the tool; ``nearest`` are the names most like it."""

    def __init__(self, tool: str, problem: str, nearest: tuple[str, ...] = ()) -> None:
        hint = f"; did you mean {' or '.join(map(repr, nearest))}?" if nearest else ""
        super().__init__(f"tool {tool!r}: {problem}{hint}")
        self.tool = tool
        self.problem = problem
        self.nearest = nearest


class AmbiguousTool(UnknownTool):
    """Several servers offer a tool of this name; ``choices`` are the names that tell them apart."""

    def __init__(self, tool: str, choices: tuple[str, ...]) -> None:
        super().__init__(tool, f"several servers offer it; say which: {', '.join(choices)}")
        self.choices = choices


class CallFailed(DiscoveryError):
    """A tool was not called, or did not answer.

    ``tool`` is its own name, ``server`` the server's, ``instance`` the id of the instance that was
    asked last; ``None`` where it never came to that.
    """

    def __init__(
        self, tool: str, server: str, problem: str, *, instance: str | None = None
    ) -> None:
        at = f" at {instance}" if instance else ""
        super().__init__(f"{tool} of {server}{at}: {problem}")
        self.tool = tool
        self.server = server
        self.instance = instance
        self.problem = problem


class NoReplica(CallFailed):
    """No instance of the server can be called now. Nothing was sent."""


class ServerRefused(CallFailed):
    """The server wants other credentials (``status`` 401 or 403), or a user's consent."""

    def __init__(self, tool: str, server: str, problem: str, *, instance: str, status: int) -> None:
        super().__init__(tool, server, problem, instance=instance)
        self.status = status


class ToolChanged(CallFailed):
    """Nobody offers the tool any more as it was listed: read the tools again. Nothing was sent."""


class BadServer(CallFailed):
    """The server's answer breaks MCP. The tool may have done its work."""


class CallLost(CallFailed):
    """The call was sent and not answered, and it is not safe to send it again.

    The tool may have done its work. Tools that say that they are read-only or idempotent are sent
    again to another instance instead.
    """


class CallTimeout(CallLost):
    """No answer came within the deadline."""
