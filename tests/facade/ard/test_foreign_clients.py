"""Clients of ARD that others wrote, against the manifest and the registry of this facade.

``neuronto`` searches registries, the registry of ``agentic-ard-kit`` asks others as its upstreams,
and ``ard-publish`` checks manifests. None of them was made for a facade.
"""

from __future__ import annotations

import asyncio

import neuronto  # type: ignore[import-untyped]
import pytest
from ard_kit.registry import federated_search  # type: ignore[import-untyped]
from ard_publish import validate  # type: ignore[import-untyped]

from tests.facade.harness import Client, leased
from tests.facade.registry.test_api import fill

CARD = "application/mcp-server-card+json"


@pytest.fixture
async def some(ask: Client) -> Client:
    """A facade with two servers, of which one says what it answers."""
    await fill(
        ask,
        leased(
            "w-1",
            name="weather",
            registryName="com.example/weather",
            description="Forecasts for cities.",
            exampleQueries=["will it rain tomorrow", "how warm is it in Berlin"],
        ),
        leased("f-1", name="files"),
    )
    return ask


async def test_a_client_searches_by_type(some: Client) -> None:
    found = await asyncio.to_thread(
        neuronto.find_resource, "weather", kind=CARD, limit=3, base=f"{some.url}/api/ard"
    )
    (weather,) = found["results"]
    assert weather["identifier"] == "urn:air:example.com:mcp:weather"
    assert weather["url"].startswith(some.url)
    assert 0 < weather["score"] <= 100
    with pytest.raises(neuronto.NeurontoError) as caught:
        await asyncio.to_thread(neuronto.find_resource, "", base=f"{some.url}/api/ard")
    assert caught.value.status == 400
    assert caught.value.body["errorCode"] == "INVALID_ARGUMENT"


async def test_another_registry_has_this_one_upstream(some: Client) -> None:
    upstreams = [f"{some.url}/api/ard/"]
    rows, peers = await asyncio.to_thread(federated_search, upstreams, "weather", [CARD], 10)
    assert [row["identifier"] for row in rows] == ["urn:air:example.com:mcp:weather"]
    (peer,) = peers
    assert (peer["returned"], peer["rejected"]) == (1, 0), "it looks into what it is given"


async def test_the_manifest_can_be_published(some: Client) -> None:
    manifest = (await some("GET", "/.well-known/ard.json")).json
    assert len(manifest["entries"]) == 4
    assert validate(manifest) == []
