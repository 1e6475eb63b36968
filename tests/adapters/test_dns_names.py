"""The names of an instance in DNS, and who finds out that one is ambiguous."""

from __future__ import annotations

import logging
import time

import pytest

from mcp_discovery.adapters.dns_names import AmbiguousLabels, dns_names, server_in
from mcp_discovery.record import Record
from tests.records import record


def test_names_and_tags_live_apart() -> None:
    given = record(name="stock", tags=["eu", "stock"])
    rest = ["stock.server", "_stock.server", "eu", "eu.tag", "stock.tag"]
    assert dns_names(given) == ["stock", *rest]
    assert dns_names(given, {"stock", "other"}) == rest
    for ambiguous in (set[str](), {"stock"}):
        assert server_in(dns_names(given, ambiguous)[0]) == "stock"


async def test_it_is_looked_again_soon_and_then_seldom(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    found = frozenset[str]()

    async def find(_: Record) -> frozenset[str]:
        return found

    labels = AmbiguousLabels(find)
    assert labels.due
    assert not await labels.look(record())
    assert not labels.due
    clock += 5
    assert labels.due
    found = frozenset({"products"})
    with caplog.at_level(logging.WARNING):
        assert await labels.look(record())
        assert not await labels.look(record())
    (line,) = caplog.messages  # said once
    assert "products.server" in line
    assert "products.tag" in line
    clock += 44
    assert not labels.due
    clock += 32
    assert labels.due
