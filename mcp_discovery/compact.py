"""Bytes that are kept for long take no more memory than they are long."""

from __future__ import annotations


def compact(data: bytes) -> bytes:
    """A copy of ``data``, for JSON that stays.

    orjson makes room for the longest spelling of a text, up to eight times its length, and what it
    returns keeps that room for as long as it lives (seen with 3.13).
    """
    return bytes(memoryview(data))
