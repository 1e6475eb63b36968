"""A small client of JSON:API 1.1 (https://jsonapi.org/format/1.1/), as Drupal serves it.

It asks one site alone: links that lead to another origin are not followed, so that the key is sent
to nobody else.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

import orjson
from yarl import URL

from mcp_discovery.errors import DiscoveryError
from mcp_discovery.facade.http.outbound import Dialer
from mcp_discovery.probe.wire import socket_errors

MEDIA: Final = "application/vnd.api+json"
#: How the key is sent: the module Key auth, an OAuth token, or ``user:password``.
KeyKind: TypeAlias = Literal["api-key", "bearer", "basic"]
#: Seconds that one request may take, and the largest answer, in bytes.
_TIMEOUT, _MOST_BYTES = 20.0, 8 * 2**20
#: How many resources are read at most, and in one page: Drupal gives no more (its ``size_max``).
_MOST, _PAGE = 10_000, 50
#: How many pages there may be for each that is needed: what may not be seen is left out of them.
_SPARSE: Final = 5


class DrupalError(DiscoveryError):
    """A site did not do what it was asked. ``status`` is its answer's, where it answered."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource object, and the URL that it is changed at."""

    id: str
    attributes: Mapping[str, Any]
    url: URL


@dataclass(eq=False)
class DrupalSite:
    """The site at ``endpoint``, asked with ``key``."""

    dialer: Dialer
    endpoint: URL
    key: str = field(repr=False)
    key_kind: KeyKind = "api-key"
    _collection: URL | None = None

    async def resources(self, type: str, fields: tuple[str, ...]) -> AsyncIterator[Resource]:
        """All resources of ``type``, page by page, with these of their fields."""
        url: URL | None = (await self._collection_of(type)).update_query(
            {f"fields[{type}]": ",".join(fields), "page[limit]": str(_PAGE)}
        )
        seen, pages = 0, set[URL]()
        while url is not None:
            if url in pages or len(pages) * _PAGE > _MOST * _SPARSE:
                raise DrupalError("the site's pages have no end: one leads back to another")
            pages.add(url)
            document = await self._asked("GET", url)
            data = document.get("data")
            if not isinstance(data, list):
                raise DrupalError(f"the site answered with no list of {type}")
            for each in data:
                yield self._resource(each)
            seen += len(data)
            if seen > _MOST:
                raise DrupalError(f"the site has more than {_MOST:,} of {type}; that is too many")
            links = document.get("links")
            found = _href(links.get("next")) if isinstance(links, dict) else None
            url = None if found is None else self._own(found, url)

    async def resource(self, type: str, known: Resource, fields: tuple[str, ...]) -> Resource:
        """One resource as it is now."""
        query = {f"fields[{type}]": ",".join(fields)}
        document = await self._asked("GET", known.url.update_query(query))
        return self._resource(document.get("data"))

    async def create(self, type: str, id: str, attributes: Mapping[str, Any]) -> None:
        """Makes a resource with an id of ours (JSON:API, "Client-Generated IDs"): made twice, the
        second one is refused (409)."""
        data = {"type": type, "id": id, "attributes": attributes}
        await self._asked("POST", await self._collection_of(type), {"data": data})

    async def update(self, type: str, known: Resource, attributes: Mapping[str, Any]) -> None:
        """Changes ``attributes`` of a resource, and nothing else of it."""
        data = {"type": type, "id": known.id, "attributes": attributes}
        await self._asked("PATCH", known.url, {"data": data})

    async def _collection_of(self, type: str) -> URL:
        """Where the site's entry point says that resources of ``type`` are."""
        if self._collection is None:
            entry = self.endpoint / "jsonapi"
            links = (await self._asked("GET", entry)).get("links")
            found = _href(links.get(type)) if isinstance(links, dict) else None
            if found is None:
                raise DrupalError(
                    f"the site has no resource type {type}; make that content type, or name "
                    "another one with resourceType"
                )
            self._collection = self._own(found, entry)
        return self._collection

    def _own(self, text: str, base: URL) -> URL:
        """A link of the site's; raises :class:`DrupalError` for one that leads elsewhere."""
        try:
            found = base.join(URL(text))
            elsewhere = found.origin() != self.endpoint.origin()
        except ValueError:
            raise DrupalError("the site's answer has a link that is no URL") from None
        if elsewhere:
            raise DrupalError(
                f"the site links to {found.origin()}, which is another one than "
                f"{self.endpoint.origin()}; name that one, or mend the site's own address "
                "(trusted_host_patterns, reverse_proxy)"
            )
        return found

    def _resource(self, given: Any) -> Resource:
        if not isinstance(given, dict) or not isinstance(given.get("id"), str):
            raise DrupalError("the site answered with what is no resource object")
        attributes = given.get("attributes")
        links = given.get("links")
        found = _href(links.get("self")) if isinstance(links, dict) else None
        assert self._collection is not None
        # Of a versioned resource the link names a revision; what is changed is the latest one.
        url = (
            self._collection / given["id"] if found is None else self._own(found, self._collection)
        )
        kept = attributes if isinstance(attributes, dict) else {}
        return Resource(given["id"], kept, url.with_query(None))

    async def _asked(
        self, method: str, url: URL, body: Mapping[str, Any] | None = None
    ) -> Mapping[str, Any]:
        """The document that is answered; raises :class:`DrupalError`."""
        headers = {"Accept": MEDIA, **self._credential()}
        if body is not None:
            headers["Content-Type"] = MEDIA
        try:
            with socket_errors():
                async with (
                    asyncio.timeout(_TIMEOUT),
                    self.dialer.session.request(
                        method,
                        url,
                        data=None if body is None else orjson.dumps(body),
                        headers=headers,
                        allow_redirects=False,
                        **self.dialer.tls.options(),
                    ) as response,
                ):
                    status, media = response.status, response.content_type
                    data = bytearray()
                    async for chunk in response.content.iter_any():
                        data += chunk
                        if len(data) > _MOST_BYTES:
                            raise DrupalError(
                                f"the site answered with more than {_MOST_BYTES:,} bytes"
                            )
        except TimeoutError:
            raise DrupalError(f"the site did not answer within {_TIMEOUT:g} s") from None
        except DrupalError:
            raise
        except DiscoveryError as error:
            raise DrupalError(f"the site cannot be asked: {error}") from error
        document = _document(bytes(data)) if media == MEDIA else None
        if status >= 300:
            # A site that repeats the key is not quoted with it.
            why = _why(status, document)
            raise DrupalError(why.replace(self.key, "…") if self.key else why, status)
        if document is None:
            problem = f"with {media} instead of {MEDIA}" if media != MEDIA else "with no JSON"
            raise DrupalError(f"the site answered {problem}; is its module JSON:API on?", status)
        return document

    def _credential(self) -> dict[str, str]:
        match self.key_kind:
            case "api-key":
                return {"api-key": self.key}
            case "bearer":
                return {"Authorization": f"Bearer {self.key}"}
            case "basic":
                encoded = base64.b64encode(self.key.encode()).decode()
                return {"Authorization": f"Basic {encoded}"}


def _document(data: bytes) -> Mapping[str, Any] | None:
    try:
        found = orjson.loads(data)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _href(link: Any) -> str | None:
    """A link, which is a string or an object with ``href``."""
    found = link.get("href") if isinstance(link, dict) else link
    return found if isinstance(found, str) else None


def _why(status: int, document: Mapping[str, Any] | None) -> str:
    """Why a request was refused, in the words of the first error object, and what to do."""
    errors = (document or {}).get("errors")
    first = errors[0] if isinstance(errors, list) and errors else None
    told = first if isinstance(first, dict) else {}
    words = told.get("detail") or told.get("title")
    source = told.get("source")
    pointer = source.get("pointer") if isinstance(source, dict) else None
    said = f": {words[:300]}" if isinstance(words, str) and words else ""
    if isinstance(pointer, str):
        said += f" ({pointer[:100]})"
    hint = {
        401: "; send another apiKey, or another keyKind",
        403: "; the key's user needs the permission",
        404: "; is drupalEndpoint the site's base URL, with its module JSON:API on?",
        405: '; let JSON:API accept "all operations" at /admin/config/services/jsonapi',
    }.get(status, "")
    if 300 <= status < 400:
        hint = ", and no redirect is followed; name the URL that it leads to"
    return f"the site answered {status}{said}{hint}"
