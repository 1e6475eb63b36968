"""A facade with real servers behind it, and the fakes of the models."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from tests.facade.harness import served
from tests.servers.process import example


@pytest.fixture(scope="package")
async def facade() -> AsyncIterator[str]:
    """The URL of a facade that knows both example servers."""
    async with AsyncExitStack() as stack:
        ask = await stack.enter_async_context(served())
        for name, tag in (("product_catalog", "products"), ("analytics", "figures")):
            server = await stack.enter_async_context(example(name))
            body = {"id": f"{tag}-1", "name": tag, "tags": [tag], "url": server.url}
            body["description"] = f"All about {tag}."
            reply = await ask("POST", "/servers", body)
            assert reply.status in (200, 201), reply.body
            await ask.until_status(f"{tag}-1", "healthy")
        yield ask.url
