"""The capability document: everything an MCP server offers, addressed by its content."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal, TypeAlias

import orjson

from mcp_discovery.errors import InvalidDocumentError
from mcp_discovery.json_values import BYTES_PER_VALUE, count_values

#: The largest document that any store takes, as canonical JSON.
MAX_DOCUMENT_BYTES = 16 * 2**20
#: How many JSON values a document may hold: what they take in memory is not told by its bytes.
MAX_DOCUMENT_VALUES = 250_000

#: The kinds of what is offered.
Kind: TypeAlias = Literal["tool", "resource", "prompt", "skill"]
#: Kind → the member of a record's index that names what is of the kind.
KINDS: Final[Mapping[Kind, str]] = {
    "tool": "tools",
    "resource": "resources",
    "prompt": "prompts",
    "skill": "skills",
}
#: The members of a document, and how many of them are in the canonical JSON even when empty: those
#: that came later are not, so that the digests of documents without them stayed as they were.
_LISTS, _ALWAYS = ("tools", "resources", "resourceTemplates", "prompts", "skills"), 4
#: The member that has an agent's card.
_CARD = "agentCard"
_DIGEST_HEX = frozenset("0123456789abcdef")


def is_digest(text: str) -> bool:
    """Whether ``text`` has the form of a digest: 64 lower-case hexadecimal digits."""
    return len(text) == 64 and _DIGEST_HEX.issuperset(text)


def compact(data: bytes) -> bytes:
    """A copy of ``data`` that takes no more memory than its length; for JSON that is kept.

    orjson allocates for the longest encoding of a text, up to eight times its length, and the
    bytes that it returns keep that allocation (observed in 3.13).
    """
    return bytes(memoryview(data))


@dataclass(frozen=True)
class CapabilityDocument:
    """Tools, resources, resource templates, prompts and skills, with MCP's own field names.

    A skill is as ``skills/list`` of MCP's extension gives it (its ``uri``, its ``frontmatter``, its
    files with their digests), or as the card of an A2A agent does (``id``, ``name``). ``card`` is
    that card without its skills: they stand here once.

    Its canonical JSON has sorted keys, no white space and UTF-8 text; the digest is the SHA-256 of
    that, in lower-case hexadecimal. Instances of one version share one document.
    """

    tools: tuple[Mapping[str, Any], ...] = ()
    resources: tuple[Mapping[str, Any], ...] = ()
    resource_templates: tuple[Mapping[str, Any], ...] = ()
    prompts: tuple[Mapping[str, Any], ...] = ()
    skills: tuple[Mapping[str, Any], ...] = ()
    card: Mapping[str, Any] | None = None

    @cached_property
    def canonical(self) -> bytes:
        """The canonical JSON.

        Raises :class:`InvalidDocumentError` when it is over :data:`MAX_DOCUMENT_BYTES` or
        :data:`MAX_DOCUMENT_VALUES`, or holds what JSON cannot (an integer over 64 bits, a lone
        surrogate).
        """
        content: dict[str, Any] = {
            name: items
            for number, (name, items) in enumerate(self.lists().items())
            if items or number < _ALWAYS
        }
        if self.card is not None:
            content[_CARD] = self.card
        try:
            data = orjson.dumps(content, option=orjson.OPT_SORT_KEYS, default=dict)
        except TypeError as error:
            raise InvalidDocumentError(f"the capability document is not JSON: {error}") from error
        _check_size(len(data))
        _check_values(data)
        return compact(data)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, 64 hexadecimal digits."""
        return hashlib.sha256(self.canonical).hexdigest()

    @cached_property
    def memory(self) -> int:
        """About how many bytes the document takes in memory."""
        values = count_values(self.canonical, MAX_DOCUMENT_VALUES)
        return 2 * len(self.canonical) + BYTES_PER_VALUE * values

    def compressed(self) -> bytes:
        """The canonical JSON, gzip-compressed; equal documents give equal bytes."""
        return gzip.compress(self.canonical, compresslevel=6, mtime=0)

    @classmethod
    def from_json(cls, data: bytes | str, *, digest: str | None = None) -> CapabilityDocument:
        """The document in ``data``; it must have ``digest`` if one is given.

        Raises :class:`InvalidDocumentError` when it is not a JSON object of lists of objects, is
        over the limit, or has another digest.
        """
        _check_size(len(data))
        _check_values(data)
        try:
            content = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise InvalidDocumentError(f"the capability document is not JSON: {error}") from error
        if not isinstance(content, dict):
            raise InvalidDocumentError("the capability document is not a JSON object")
        card = content.get(_CARD)
        if not isinstance(card, dict | None):
            raise InvalidDocumentError(f"the capability document's {_CARD} is not an object")
        tools, resources, templates, prompts, skills = (
            _objects(name, content.get(name, [])) for name in _LISTS
        )
        document = cls(tools, resources, templates, prompts, skills, card)
        if digest is not None and document.digest != digest:
            raise InvalidDocumentError(
                f"the capability document's digest is {document.digest}, not {digest}; send the "
                "canonical JSON's SHA-256"
            )
        return document

    @classmethod
    def from_compressed(cls, data: bytes, *, digest: str | None = None) -> CapabilityDocument:
        """Like :meth:`from_json`, from gzip; decompression stops at the size limit."""
        unpack = zlib.decompressobj(wbits=31)
        try:
            plain = unpack.decompress(data, MAX_DOCUMENT_BYTES + 1)
        except zlib.error as error:
            raise InvalidDocumentError(f"the capability document is not gzip: {error}") from error
        _check_size(len(plain))
        if not unpack.eof:
            raise InvalidDocumentError("the capability document's gzip data ends too early")
        return cls.from_json(plain, digest=digest)

    def agent_card(self) -> dict[str, Any] | None:
        """The whole card of an A2A agent; ``None`` for an MCP server."""
        return None if self.card is None else {**self.card, "skills": list(self.skills)}

    def lists(self) -> Mapping[str, tuple[Mapping[str, Any], ...]]:
        """All of it, by the member of its JSON."""
        lists = (self.tools, self.resources, self.resource_templates, self.prompts, self.skills)
        return dict(zip(_LISTS, lists, strict=True))

    def by_kind(self) -> Mapping[Kind, tuple[Mapping[str, Any], ...]]:
        """All of it, by its kind (:data:`KINDS`); resource templates are resources."""
        resources = (*self.resources, *self.resource_templates)
        offered = (self.tools, resources, self.prompts, self.skills)
        return dict(zip(KINDS, offered, strict=True))

    def names(self) -> dict[str, list[str]]:
        """The names of what is offered, as a record's index has them: in order, once each."""
        return {KINDS[kind]: _names(items) for kind, items in self.by_kind().items()}


def text_of(item: Mapping[str, Any], member: str) -> str | None:
    """The text of ``member``, such as its name, of an item in a document; ``None`` without one.

    What a skill of MCP says of itself stands in its ``frontmatter``.
    """
    value = item.get(member)
    if value is None and isinstance(front := item.get("frontmatter"), Mapping):
        value = front.get(member)
    return value if isinstance(value, str) else None


def _check_size(size: int) -> None:
    if size > MAX_DOCUMENT_BYTES:
        limit = f"the limit of {MAX_DOCUMENT_BYTES:,} bytes; offer fewer tools or shorter schemas"
        raise InvalidDocumentError(f"the capability document is over {limit}")


def _check_values(data: bytes | str) -> None:
    if count_values(data, MAX_DOCUMENT_VALUES) > MAX_DOCUMENT_VALUES:
        limit = f"the limit of {MAX_DOCUMENT_VALUES:,} JSON values; offer fewer tools"
        raise InvalidDocumentError(f"the capability document is over {limit} or simpler schemas")


def _objects(name: str, items: Any) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise InvalidDocumentError(f"the capability document's {name} is not a list of objects")
    return tuple(items)


def _names(items: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for item in items if (name := text_of(item, "name"))))
