"""Whether ``null`` may be valid: where it is not, it can say that a member is left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mcp_discovery.client.formats.modern import LONGEST, kinds, modern

_MOST = 64


def takes_null(raw: object, resolve: Callable[[str], object]) -> bool:
    """Whether ``null`` may be valid for ``raw``; in doubt it may.

    ``resolve`` gives what a reference points to, or ``None``. Looks at no more than a few parts.
    """
    return _takes_null(raw, resolve, [_MOST])


def _takes_null(raw: object, resolve: Callable[[str], object], left: list[int]) -> bool:
    left[0] -= 1
    if not isinstance(raw, Mapping) or left[0] < 0:
        return raw is not False
    node, _ = modern(raw)
    named = kinds(node)
    if named is not None and "null" not in named:
        return False
    if node.get("const") is not None:
        return False
    if "enum" in node and not any(each is None for each in node["enum"][:LONGEST]):
        return False
    if "$ref" in node and not _takes_null(resolve(node["$ref"]), resolve, left):
        return False
    if not all(_takes_null(each, resolve, left) for each in node.get("allOf", ())[:_MOST]):
        return False
    return all(
        any(_takes_null(each, resolve, left) for each in node[name][:_MOST])
        for name in ("anyOf", "oneOf")
        if name in node
    )
