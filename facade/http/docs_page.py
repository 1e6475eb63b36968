"""``GET /docs``: the API for people, in one page that needs nothing from elsewhere."""

from __future__ import annotations

import base64
import functools
import hashlib
from importlib import resources

from aiohttp import web

from mcp_discovery.facade.http.etag import has_already, headers_of, not_modified, tag_of
from mcp_discovery.facade.http.operation import Operation


@functools.cache
def page() -> tuple[bytes, str, str]:
    """The page with its style and script in it, the policy that lets nothing else run in it, and
    its tag; what it shows it reads from ``openapi.json``."""
    folder = resources.files("mcp_discovery.facade.http") / "static"
    style, script = ((folder / name).read_text("utf-8") for name in ("docs.css", "docs.js"))
    text = (folder / "docs.html").read_text("utf-8")
    body = text.replace("/*style*/", style).replace("/*script*/", script).encode()
    policy = "; ".join(
        (
            "default-src 'none'",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            f"style-src {_hash(style)}",
            f"script-src {_hash(script)}",
        )
    )
    return body, policy, tag_of(body)


def _hash(text: str) -> str:
    """As a Content-Security-Policy names what may stand in the page (CSP 3, 2.3.1)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


async def docs(request: web.Request) -> web.Response:
    """The API for people: every operation, what goes in and out, and a way to try it."""
    body, policy, tag = page()
    if has_already(request, tag):
        return not_modified(tag, {})
    given = {"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"}
    headers = headers_of(tag, given)
    return web.Response(body=body, content_type="text/html", charset="utf-8", headers=headers)


OPERATIONS = (
    Operation("GET", "/docs", docs, "ecosystem", answers={200: {}, 304: None}, media="text/html"),
)
