"""Names that a model API accepts, found again exactly: one name for each tool, always the same."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container, Sequence

from mcp_discovery.client.tool import Tool

_DIGITS = 8


def mangled(tools: Sequence[Tool], allowed: re.Pattern[str], limit: int) -> dict[str, Tool]:
    """A name of ``allowed`` form and at most ``limit`` characters for each tool, in their order.

    A name that is accepted as it is stays. In others, what is not accepted becomes ``_`` (and a dot
    ``__``); a short hash of the tool's own name and server is put at the end of those that are too
    long, or that would meet another. The answer does not depend on the order of ``tools``. Of tools
    that agree in name, server and digest only the first is named.
    """
    chosen: dict[str, Tool] = {}
    wishes: dict[str, list[Tool]] = {}
    distinct = {_identity(tool): tool for tool in reversed(tools)}
    for _, tool in sorted(distinct.items()):
        fits = _fits(tool.name, allowed, limit)
        if fits and tool.name not in chosen:
            chosen[tool.name] = tool
        else:
            wish = _wish(tool.name.replace(".", "__") if not fits else tool.name, allowed)
            wishes.setdefault(wish, []).append(tool)
    for wish, rivals in sorted(wishes.items()):
        alone = len(rivals) == 1 and wish not in chosen and len(wish) <= limit
        for tool in rivals:
            seed = "\0".join(_identity(tool))
            chosen[wish if alone else _hashed(wish, seed, chosen, limit)] = tool
    names = {_identity(tool): name for name, tool in chosen.items()}
    return {names[each]: distinct[each] for each in dict.fromkeys(map(_identity, tools))}


def renamed(names: Sequence[str], allowed: re.Pattern[str], limit: int) -> dict[str, str]:
    """The same for the members of one object: the server's name → the model's, if they differ."""
    taken = {name for name in names if _fits(name, allowed, limit)}
    changed: dict[str, str] = {}
    for name in sorted(set(names) - taken):
        wish = _wish(name, allowed)
        if wish in taken or len(wish) > limit:
            wish = _hashed(wish, name, taken, limit)
        taken.add(wish)
        changed[name] = wish
    return changed


def _identity(tool: Tool) -> tuple[str, str, str]:
    return (tool.name, tool.server, tool.digest)


def _fits(name: str, allowed: re.Pattern[str], limit: int) -> bool:
    return len(name) <= limit and allowed.fullmatch(name) is not None


def _wish(name: str, allowed: re.Pattern[str]) -> str:
    wish = "".join(each if allowed.fullmatch(f"a{each}") else "_" for each in name[:256]) or "_"
    return wish if allowed.fullmatch(wish) else f"_{wish}"


def _hashed(wish: str, seed: str, taken: Container[str], limit: int) -> str:
    digest = hashlib.blake2b(seed.encode(errors="surrogatepass"), digest_size=24).hexdigest()
    digits = _DIGITS
    while (name := f"{wish[: limit - digits - 1]}_{digest[:digits]}") in taken:
        digits += 1
    return name
