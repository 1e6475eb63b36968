"""The figures of a simulation as tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.simulation.costs import Costs

_UNITS = ("B", "KB", "MB", "GB", "TB")


def show(found: Mapping[str, Any], costs: Costs, console: Console) -> None:
    """Prints everything."""
    on = found["a store's server"]
    about = ", ".join(f"{name} {value}" for name, value in costs.machine.items())
    console.print(f"Parameters measured on: {about}", highlight=False)
    console.print(
        f"Each of a store's {on['members']} servers: {on['cores']} such cores, "
        f"{size(on['network'])}/s, {size(on['memory'])}; full at {on['busy']:.0%}",
        highlight=False,
    )
    for title, columns, rows in every(found):
        table = Table(title=title, title_justify="left")
        for number, name in enumerate(columns):
            table.add_column(name, justify="left" if number == 0 else "right")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    console.print(f"{found['seconds']:.0f} s", highlight=False)


def every(found: Mapping[str, Any]) -> Iterable[tuple[str, Sequence[str], list[list[str]]]]:
    """Each table: its title, its columns, its rows."""
    yield (
        "One store",
        (
            "store",
            "sidecars",
            "facades",
            "requests/s",
            "bytes/s",
            "p50",
            "p99",
            "all start in",
            "first to end",
            "used",
        ),
        [
            [
                each["store"],
                f"{each['sidecars']:,}",
                f"{each['facades']:,}",
                f"{each['requests/s']:,.0f}",
                size(each["bytes/s"]),
                *delays(each),
                "–" if each["stalled"] else seconds(each["start"]),
                each["first"],
                share(each["used"]),
            ]
            for each in found["fleets"]
        ],
    )
    yield (
        "The most sidecars",
        ("store", "facades", "day", "sidecars", "then ends"),
        [
            [
                each["store"],
                f"{each['facades']:,}",
                each["day"],
                f"{each['sidecars']:,}",
                each["first"],
            ]
            for each in found["most sidecars"]
        ],
    )
    yield (
        "Remedies; requests and bytes are those of each store",
        (
            *("store", "sidecars", "facades", "what", "stores", "watch each", "requests/s"),
            *("bytes/s", "p50", "p99", "first to end", "used", "bears it"),
        ),
        [
            [
                each["store"],
                f"{each['sidecars']:,}",
                f"{each['facades']:,}",
                each["remedy"],
                f"{each['stores']:,}",
                f"{each['watching each']:,.0f}",
                f"{each['requests/s of each']:,.0f}",
                size(each["bytes/s of each"]),
                *delays(each),
                each["first"],
                share(each["used"]),
                "yes" if each["fits"] else "no",
            ]
            for each in found["remedies"]
        ],
    )
    yield (
        "Real catalogs",
        ("catalogs", "instances", "whole list", "one change", "memory of each"),
        [
            [
                f"{each['catalogs']:,}" if each["catalogs"] else "told from the slope",
                f"{each['instances']:,}",
                seconds(each["snapshot"]),
                seconds(each["change"]),
                size(each["memory"]),
            ]
            for each in found["catalogs"]
        ],
    )
    yield (
        "The model beside real stores",
        ("", "modelled", "measured", "unit", "modelled / measured"),
        [
            [
                each["name"],
                f"{each['modelled']:.3g}",
                f"{each['measured']:.3g}",
                each["unit"],
                f"{each['ratio']:.2f}",
            ]
            for each in found["checks"]
        ],
    )


def delays(each: Mapping[str, Any]) -> tuple[str, str]:
    """Both delays; where nobody is told any more, that."""
    if each["stalled"]:
        return "–", "too late"
    return seconds(each["p50"]), seconds(each["p99"])


def seconds(value: float) -> str:
    """A time with its unit."""
    if value < 0.001:
        return f"{value * 1e6:.0f} µs"
    if value < 1:
        return f"{value * 1000:.3g} ms"
    return f"{value:.3g} s" if value < 100 else f"{value:,.0f} s"


def size(value: float) -> str:
    """Bytes with their unit."""
    for unit in _UNITS:
        if value < 1000 or unit == _UNITS[-1]:
            break
        value /= 1000
    return f"{value:.3g} {unit}"


def share(used: float) -> str:
    """How much of a resource is used."""
    return f"{used:.0%}" if used < 10 else f"{used:,.0f} times"
