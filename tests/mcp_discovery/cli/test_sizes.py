"""Sizes in memory as options take them."""

from __future__ import annotations

import pytest
import typer

from mcp_discovery.cli.options import size


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("512m", 512 * 2**20),
        ("2g", 2 * 2**30),
        ("1.5G", 3 * 2**29),
        ("512MiB", 512 * 2**20),
        ("64 kb", 65536),
        ("1048576", 2**20),
        ("7b", 7),
    ],
)
def test_sizes(text: str, found: int) -> None:
    assert size(text) == found


@pytest.mark.parametrize("text", ["", "m", "-1", "1t", "much", "1e9", "٣m"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is no size; write 512m or 2g"):
        size(text)
