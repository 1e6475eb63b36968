"""The record: the description of itself that an instance registers."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from enum import Enum
from itertools import islice
from typing import Annotated, Any, Literal, Self, TypeVar
from urllib.parse import urlsplit

import orjson
import semantic_version
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    PlainSerializer,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel

from mcp_discovery import secrets
from mcp_discovery.errors import InvalidRecordError, RecordTooLargeError, SecretInRecordError
from mcp_discovery.faults import fault_text
from mcp_discovery.health import rfc3339, utcnow
from mcp_discovery.json_values import count_values
from mcp_discovery.urls import wire_url

#: The largest size of a record as JSON, in bytes: half of Consul's limit for one value.
MAX_RECORD_BYTES = 256 * 2**10
#: How many JSON values a record that is read may hold.
MAX_RECORD_VALUES = 40_000

#: What a record may describe: an MCP server, or an agent that speaks A2A (a2a-protocol.org). A
#: record without a kind, of an earlier release, is a server's.
KINDS = SERVER, AGENT = ("server", "agent")
#: The transport of agents, which no server has: releases that know no agents skip their records.
A2A: Literal["a2a"] = "a2a"

#: Fields that are not searched for tokens as prose: they cannot hold one, or have stricter rules.
_NO_PROSE = frozenset(
    ("id", "name", "kind", "registryName", "tags", "endpoint", "metadata", "capabilities")
) | {"healthUrl", "registeredAt", "startedAt"}

_REFER = "write a reference such as ${NAME} and keep the value out of the record"

#: The longest name or tag that is registered: SRV names put ``_`` before it (RFC 2782), and a label
#: has 63 letters (RFC 1035, 2.3.4). A stored one of 63, of an earlier release, is read.
MAX_NAME = 62

#: What stands between words, and is written as a hyphen in a label.
_BETWEEN_WORDS = re.compile(r"[\s_./:@-]+")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_BLANK = re.compile(r"[\x00-\x20\x7f-\x9f]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
#: A host and a port in which nothing can be wrong but the port.
_PLAIN_AUTHORITY = re.compile(r"[A-Za-z0-9._:-]+")
_REGISTRY_NAME = re.compile(r"[a-zA-Z0-9.-]+/[a-zA-Z0-9._-]+")
#: So many faults of one record are told.
_MOST_FAULTS = 20
_LONGEST_REGISTRY_NAME = 200
#: The longest example query, in characters.
LONGEST_QUERY = 200
#: Longer texts are no labels by mistake.
_LONGEST_SUGGESTED = 1000
#: The longest command line, in characters: what Windows takes.
_LONGEST_COMMAND_LINE = 32 * 2**10
#: Texts of more bytes than this are searched for secrets once, not each time that a record is
#: checked on its way from a body into the list: so many are remembered, by a digest.
_SEARCHED_ONCE, _MOST_REMEMBERED = 2048, 4096


def is_label(text: str) -> bool:
    """Whether ``text`` is a DNS label in lower case (RFC 1123): 1 to 63 of ``a-z 0-9 -``."""
    return _LABEL.fullmatch(text) is not None


def to_label(text: str) -> str:
    """A DNS label for ``text`` of at most :data:`MAX_NAME` letters; ``""`` where it says nothing.

    Case and the signs between words (blanks and ``-_./:@``) make no difference: ``a-b`` for ``A b``
    and for ``a_b``. Where more than that is lost, as of ``C++``, ``Wörter`` or a name that is cut,
    the label ends with 8 hex digits of a digest of the whole, so that two texts that differ in more
    have different labels. The same text has the same label for ever.
    """
    whole = _words(text)
    if not whole or not loses(text):
        return whole
    letters = unicodedata.normalize("NFKD", whole)
    plain = re.sub(r"[^a-z0-9]+", "-", "".join(c for c in letters if not unicodedata.combining(c)))
    digest = hashlib.sha256(whole.encode(errors="surrogatepass")).hexdigest()[:8]
    kept = plain[: MAX_NAME - len(digest) - 1].strip("-")
    return f"{kept or 'server'}-{digest}"


def loses(text: str) -> bool:
    """Whether :func:`to_label` cannot say all that tells ``text`` from other texts."""
    whole = _words(text)
    return not is_label(whole) or len(whole) > MAX_NAME


def _words(text: str) -> str:
    words = _BETWEEN_WORDS.split(unicodedata.normalize("NFC", text).lower())
    return "-".join(each for each in words if each)


def _label(text: str) -> str:
    if is_label(text):
        return text
    nearest = to_label(text) if len(text) <= _LONGEST_SUGGESTED else ""
    rule = "is not a DNS label (1 to 63 lower-case letters, digits and inner hyphens)"
    raise ValueError(f"{text[:100]!r} {rule}" + (f"; use {nearest!r}" if nearest else ""))


def _semver(text: str) -> str:
    if not semantic_version.validate(text):
        rule = "is not a semantic version; write it as MAJOR.MINOR.PATCH, such as 1.4.0"
        raise ValueError(f"{text[:100]!r} {rule}")
    return text


def to_semver(text: str) -> str:
    """The semantic version most similar to ``text`` (``v2.3`` → ``2.3.0``); ``0.0.0`` for none.

    MCP servers may use any text as their version; those in records must be comparable.
    """
    try:
        return str(semantic_version.Version.coerce(text.strip().removeprefix("v")[:200]))
    except ValueError:
        return "0.0.0"


def _one_line(text: str) -> str:
    if _CONTROL.search(text) or not text.strip():
        raise ValueError(f"{text[:100]!r} is not one line of text; write what somebody may ask for")
    return text.strip()


def _http_url(text: str) -> str:
    if (problem := url_problem(text, ("http", "https"))) is not None:
        raise ValueError(problem)
    return text


def url_problem(text: str, schemes: tuple[str, ...]) -> str | None:
    """What is wrong with ``text`` as an absolute URL of one of ``schemes``; ``None`` if nothing."""
    wanted = f"write an absolute URL such as {schemes[0]}://10.0.0.5:8000/mcp"
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
        if parts.netloc and _PLAIN_AUTHORITY.fullmatch(parts.netloc) is None:
            wire_url(text)
    except ValueError as error:
        return f"{text[:200]!r} is not a URL ({error}); {wanted}"
    if parts.scheme not in schemes:
        return f"{text[:200]!r} has no scheme of {', '.join(schemes)}; {wanted}"
    # Some characters are normalized to a blank and another one (RFC 5895, section 2); no host name
    # can contain them.
    if not host or _BLANK.search(text) or _BLANK.search(unicodedata.normalize("NFKC", host)):
        return f"{text[:200]!r} is not a URL with a host; {wanted}"
    return None


_LABEL_SCHEMA = {"type": "string", "pattern": f"^{_LABEL.pattern}$", "description": "A DNS label."}
Label = Annotated[str, AfterValidator(_label), WithJsonSchema(_LABEL_SCHEMA)]
SemVer = Annotated[
    str,
    AfterValidator(_semver),
    WithJsonSchema({"type": "string", "description": "A semantic version."}),
]
HttpUrl = Annotated[str, Field(max_length=2048), AfterValidator(_http_url)]
Name = Annotated[str, Field(min_length=1, max_length=256)]
#: What somebody may ask for, in one line.
Sentence = Annotated[str, AfterValidator(_one_line), Field(max_length=LONGEST_QUERY)]
#: Only the first error is reported, so validation stops there: there may be a hundred thousand.
Names = Annotated[tuple[Name, ...], FailFast()]


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{moment.isoformat()} is out of range in UTC") from error


Moment = Annotated[
    AwareDatetime, AfterValidator(_in_utc), PlainSerializer(rfc3339, when_used="json")
]


class FieldOrigin(Enum):
    """Where the value of a field of the record comes from."""

    #: Whoever registers the instance: a sidecar's options, or a client that posts. The default.
    REGISTRANT = "registrant"
    #: The registrant or, where it says nothing, the MCP server's introduction of itself.
    SERVER = "server"
    #: The sidecar or facade that keeps the instance registered; connections do not have the field.
    OBSERVED = "observed"


def at_most(most: int) -> BeforeValidator:
    """Refuses a longer list, or larger object, before each of its items is looked at."""

    def check(value: Any) -> Any:
        if isinstance(value, list | tuple | dict) and len(value) > most:
            raise ValueError(f"has {len(value):,} items; it may have {most} at most")
        return value

    return BeforeValidator(check)


T = TypeVar("T")
FromServer = Annotated[T, FieldOrigin.SERVER]
Observed = Annotated[T, FieldOrigin.OBSERVED]


class _Model(BaseModel):
    """Camel case in JSON, snake case in Python; unknown fields, of a newer schema, are kept."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="allow", frozen=True
    )


class Endpoint(_Model):
    """How an instance is reached: a ``url``, or for ``stdio`` the ``command`` that starts it.

    The ``url`` of ``a2a`` is the one below which an agent's card is, ``/.well-known/…``; where the
    agent itself is reached, and how, stands in the card.
    """

    transport: Literal["streamable-http", "sse", "websocket", "stdio", "a2a"] = "streamable-http"
    url: Annotated[str, Field(max_length=2048)] | None = None
    command: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    args: Annotated[
        tuple[Annotated[str, Field(max_length=4096)], ...], FailFast(), at_most(256)
    ] = Field(default=(), max_length=256)

    @model_validator(mode="after")
    def _one_way_to_reach_it(self) -> Self:
        if self.transport == "stdio":
            if self.command is None or self.url is not None:
                raise ValueError("a stdio endpoint has a command and no url")
            if (size := sum(map(len, self.args))) > _LONGEST_COMMAND_LINE:
                most = f"{_LONGEST_COMMAND_LINE:,} at most; let it read a file"
                raise ValueError(
                    f"the args have {size:,} characters together; they may have {most}"
                )
            return self
        if self.url is None or self.command is not None or self.args:
            raise ValueError(f"a {self.transport} endpoint has a url and no command or args")
        schemes = ("ws", "wss") if self.transport == "websocket" else ("http", "https")
        if (problem := url_problem(self.url, schemes)) is not None:
            raise ValueError(problem)
        return self


class Capabilities(_Model):
    """The compact index of what a server offers: names only, and the document's digest.

    ``resources`` names resources and resource templates alike. It has a member for each of
    :data:`~mcp_discovery.document.KINDS`; a record of an earlier release names no skills.
    """

    tools: Names = ()
    resources: Names = ()
    prompts: Names = ()
    skills: Names = ()
    digest: str | None = None

    def lists(self) -> tuple[tuple[str, ...], ...]:
        """The names, in the order of :data:`~mcp_discovery.document.KINDS`."""
        return self.tools, self.resources, self.prompts, self.skills


class Protocol(_Model):
    """What MCP the server speaks, or what A2A the agent does.

    ``era`` is ``modern`` from protocol version 2026-07-28 on, ``legacy`` before, and ``None`` for
    an agent. ``bindings`` are those of an agent's interfaces, as its card names them.
    """

    versions: Annotated[tuple[Annotated[str, Field(max_length=32)], ...], FailFast()] = ()
    era: Literal["modern", "legacy"] | None = None
    server_info: Mapping[str, Any] | None = None
    instructions: Annotated[str, Field(max_length=8192)] | None = None
    bindings: tuple[Annotated[str, Field(max_length=256)], ...] | None = None


class Auth(_Model):
    """What a client must present; never the credentials themselves.

    ``mtls`` is a client certificate, ``other`` what an agent's card says and these words cannot.
    """

    type: Literal["none", "bearer", "oauth2", "mtls", "other"] = "none"
    token_endpoint: HttpUrl | None = None
    scopes: Annotated[tuple[str, ...], FailFast()] = ()

    @model_validator(mode="after")
    def _oauth_says_where(self) -> Self:
        if self.type == "oauth2" and self.token_endpoint is None:
            raise ValueError("oauth2 needs a tokenEndpoint")
        return self


def _unique(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


def _json_text(item: Any) -> Any:
    """Metadata maps strings to strings; other JSON scalars are converted to their JSON text."""
    if isinstance(item, bool | float):
        return orjson.dumps(item).decode()
    return str(item) if isinstance(item, int) else item


class Particulars(_Model):
    """The fields that differ between instances of one server; the others are mostly equal."""

    id: Label = ""
    endpoint: Endpoint
    zone: Name | None = None
    metadata: Annotated[
        Mapping[Name, Annotated[str, BeforeValidator(_json_text), Field(max_length=4096)]],
        at_most(64),
    ] = Field(default_factory=dict, max_length=64)
    health_url: HttpUrl | None = None
    registered_at: Observed[Moment] = Field(default_factory=utcnow)
    started_at: Observed[Moment | None] = None

    def check(self) -> None:
        """Raises :class:`SecretInRecordError` where a field looks like a secret."""
        endpoint = self.endpoint
        place = [endpoint.command, endpoint.args, endpoint.url, self.health_url]
        _search_once([*place, self.metadata], self._search)

    def _search(self) -> None:
        endpoint = self.endpoint
        words = () if endpoint.command is None else (endpoint.command, *endpoint.args)
        for position, why in secrets.secrets_in_arguments(words):
            field = f"endpoint.args.{position - 1}" if position else "endpoint.command"
            raise SecretInRecordError(field, f"{why}; {_REFER}")
        for key, why in secrets.secrets_in_mapping(self.metadata):
            raise SecretInRecordError(f"metadata.{key}", f"{why}; {_REFER}")
        _check_urls({"endpoint.url": endpoint.url, "healthUrl": self.health_url})


class Record(Particulars):
    """The description of itself that an instance registers. Rarely changes; about 1 KB as JSON.

    A field that is added here is in every list, schema, file, export and comparison of records:
    these are made from :mod:`mcp_discovery.record_fields`.

    Read untrusted data with :meth:`from_json` or :meth:`parse`, which report the first error as one
    sentence.
    """

    name: Label
    kind: Literal["server", "agent"] = "server"
    registry_name: Annotated[str, Field(max_length=_LONGEST_REGISTRY_NAME)] = ""
    title: FromServer[Annotated[str, Field(max_length=200)] | None] = None
    description: FromServer[Annotated[str, Field(max_length=4096)]] = ""
    version: FromServer[SemVer] = "0.0.0"
    website_url: FromServer[HttpUrl | None] = None
    icons: FromServer[Annotated[tuple[Mapping[str, Any], ...], FailFast(), at_most(16)]] = Field(
        default=(), max_length=16
    )
    tags: Annotated[tuple[Label, ...], FailFast(), AfterValidator(_unique), at_most(64)] = Field(
        default=(), max_length=64
    )
    #: Questions that the server answers, as people ask them: 2 to 5 are recommended (ARD, 4.2).
    example_queries: Annotated[
        tuple[Sentence, ...], FailFast(), AfterValidator(_unique), at_most(10)
    ] = Field(default=(), max_length=10)
    capabilities: Observed[Capabilities] = Capabilities()
    protocol: Observed[Protocol] = Protocol()
    auth: Auth = Auth()
    weight: int = Field(default=1, ge=0, le=65535)
    owner: Name | None = None

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, data: Any) -> Any:
        """Derives ``id`` and ``registry_name`` from the other fields if they are missing."""
        if not isinstance(data, dict):
            return data
        name, endpoint = data.get("name"), data.get("endpoint")
        data = dict(data)
        if data.get("kind") == AGENT and isinstance(endpoint, dict):
            data["endpoint"] = endpoint = {"transport": A2A} | endpoint
        if not isinstance(name, str):
            return data
        if not data.get("id") and is_label(name):
            data["id"] = default_id(name, endpoint)
        if not data.get("registryName") and not data.get("registry_name"):
            data["registry_name"] = f"local/{name}"
        return data

    @model_validator(mode="after")
    def _kind_fits_the_rest(self) -> Self:
        if (self.kind == AGENT) != (self.endpoint.transport == A2A):
            raise ValueError(f"an agent, and no server, has the transport {A2A!r}")
        offered = self.capabilities
        if self.kind == AGENT and (offered.tools or offered.resources or offered.prompts):
            raise ValueError("an agent has skills, and no tools, resources or prompts of MCP")
        if self.kind != AGENT and self.auth.type == "other":
            raise ValueError("a server's auth is none, bearer or oauth2; an agent's may be other")
        return self

    @field_validator("registry_name")
    @classmethod
    def _valid_registry_name(cls, value: str) -> str:
        if _REGISTRY_NAME.fullmatch(value) is None:
            rule = "write <publisher>/<name>, such as com.example/product-catalog"
            raise ValueError(f"{value!r} is not a registry name; {rule}")
        return value

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Record:
        """A record from ``data`` (JSON's field names), checked whole.

        Raises :class:`InvalidRecordError`, naming the first field at fault,
        :class:`SecretInRecordError`, or :class:`RecordTooLargeError`.
        """
        try:
            record = cls.model_validate(data)
        except ValidationError as error:
            first, *others = islice(_faults(error), _MOST_FAULTS)
            # What is made from a bad name is no fault of its own.
            made = {"id", "registry_name"} - data.keys()
            first.others = tuple(each for each in others if each.field not in made)
            raise first from error
        record.check()
        return record

    @classmethod
    def from_json(cls, data: bytes | str) -> Record:
        """Like :meth:`parse`, from JSON text; its size is checked before anything else."""
        return cls.parse(json_object(data))

    def check_names(self) -> None:
        """Raises :class:`InvalidRecordError` where the name or a tag is over :data:`MAX_NAME`.

        For records that are made; those in a store may be of an earlier release.
        """
        for field, label in (
            ("name", self.name),
            *((f"tags.{n}", t) for n, t in enumerate(self.tags)),
        ):
            if len(label) > MAX_NAME:
                problem = (
                    f"has {len(label)} letters, and SRV names in DNS have room for {MAX_NAME} "
                    "behind their underscore; shorten it"
                )
                raise InvalidRecordError(field, problem)

    def to_dict(self) -> dict[str, Any]:
        """The record as a JSON object, without the fields that are ``None``."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def check(self) -> None:
        """Raises :class:`SecretInRecordError` where a field looks like a secret, and
        :class:`RecordTooLargeError` where the record is over :data:`MAX_RECORD_BYTES`."""
        try:
            fields = self.to_dict()
            data = orjson.dumps(fields)
        except (TypeError, ValueError, RecursionError) as error:
            problem = f"the record cannot be written as JSON ({error})"
            raise InvalidRecordError("", problem) from error
        if len(data) > MAX_RECORD_BYTES:
            raise RecordTooLargeError(len(data), MAX_RECORD_BYTES)
        _check_values(data)
        super().check()
        urls = {"websiteUrl": self.website_url, "auth.tokenEndpoint": self.auth.token_endpoint}
        _check_urls(urls)
        prose = {key: value for key, value in fields.items() if key not in _NO_PROSE}
        prose["endpoint"] = self.endpoint.model_extra or {}
        _search_once(prose, lambda: _search_prose(prose))

    def same_as(self, other: Record) -> bool:
        """Whether both are equal but for ``registered_at``."""
        return self.model_copy(update={"registered_at": other.registered_at}) == other


def json_object(data: bytes | str) -> dict[str, Any]:
    """The JSON object of a record, perhaps with fields beside it; its size is checked first.

    Raises :class:`InvalidRecordError` and :class:`RecordTooLargeError`.
    """
    if len(data) > 2 * MAX_RECORD_BYTES:
        raise RecordTooLargeError(len(data), MAX_RECORD_BYTES)
    _check_values(data)
    try:
        content = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InvalidRecordError("", f"the record is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise InvalidRecordError("", "the record is not a JSON object")
    return content


def _check_values(data: bytes | str) -> None:
    if len(data) > MAX_RECORD_VALUES and count_values(data, MAX_RECORD_VALUES) > MAX_RECORD_VALUES:
        problem = f"the record has more than {MAX_RECORD_VALUES:,} JSON values; leave some out"
        raise InvalidRecordError("", problem)


#: Digests of texts in which no secret was found. It is emptied when it is full.
_clean: set[bytes] = set()


def _search_once(content: Any, search: Callable[[], None]) -> None:
    """Calls ``search``, which raises where ``content`` (JSON) holds a secret; not where the same
    content was found to hold none before, and is so long that searching it again takes time."""
    data = orjson.dumps(content)
    if len(data) <= _SEARCHED_ONCE:
        return search()
    digest = hashlib.sha256(data).digest()
    if digest in _clean:
        return None
    search()
    if len(_clean) >= _MOST_REMEMBERED:
        _clean.clear()
    return _clean.add(digest)


def _search_prose(fields: Mapping[str, Any]) -> None:
    for field, why in secrets.secrets_in_fields(fields):
        raise SecretInRecordError(field, f"{why}; keep it out of the record")


def _check_urls(urls: Mapping[str, str | None]) -> None:
    for field, url in urls.items():
        if url and (reason := secrets.why_secret(url)):
            raise SecretInRecordError(field, f"{reason}; keep credentials out of the URL")


def default_registry_name(name: str) -> str:
    """``local/<name>``; ``""`` where ``name`` cannot be a part of a registry name."""
    found = f"local/{name}"
    fits = len(found) <= _LONGEST_REGISTRY_NAME and _REGISTRY_NAME.fullmatch(found)
    return found if fits else ""


def default_id(name: str, endpoint: object) -> str:
    """The default id of an instance: its name and 8 hex digits of a digest of host and port, and of
    a name that is cut.

    ``endpoint`` is an :class:`Endpoint` or its JSON object. For a stdio server the digest is that
    of its command line.
    """
    spec = endpoint.model_dump() if isinstance(endpoint, Endpoint) else endpoint
    place = ""
    if isinstance(spec, dict):
        url = spec.get("url")
        if isinstance(url, str):
            place = url
            if "://" in url:
                with suppress(ValueError):  # the endpoint's validation reports the error
                    place = urlsplit(url).netloc.rpartition("@")[2]
        else:
            with suppress(TypeError):  # nested too deep for JSON, which validation reports too
                place = orjson.dumps([spec.get("command"), spec.get("args")], default=list).decode()
    if len(name) > 54:  # the part that is cut tells two names apart
        place = f"{name} {place}"
    return f"{name[:54].rstrip('-')}-{hashlib.sha256(place.encode()).hexdigest()[:8]}"


def _faults(error: ValidationError) -> Iterator[InvalidRecordError]:
    for fault in error.errors(include_url=False, include_input=False):
        field = ".".join(str(part) for part in fault["loc"])
        yield InvalidRecordError(field[:200], fault_text(fault))


def parse_moment(text: str) -> datetime:
    """A time in UTC from RFC 3339 text.

    Raises :class:`ValueError` when it has no offset or is out of range in UTC.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no offset from UTC")
    return _in_utc(moment)
