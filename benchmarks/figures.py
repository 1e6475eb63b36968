"""The file of figures: all rows that were measured, those of earlier runs too.

A run replaces the rows that it measured, so that one row can be measured anew. Each row says when
it was measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel, ValidationError

from benchmarks.harness import Outcome

#: What is said of a row that a signal ended.
ENDED = "it was ended before it was over"


class _File(BaseModel):
    quick: bool
    machine: dict[str, Any]
    rows: list[Outcome]


def read(file: Path, quick: bool) -> list[Outcome]:
    """The rows that ``file`` has, none where there is no such file yet.

    Raises :class:`ValueError` where it has something else, or figures of the other kind of run.
    """
    if not file.exists():
        return []
    try:
        found = _File.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise ValueError(f"{file} has something else than figures; name another file") from error
    if found.quick != quick:
        kind = "a quick run" if found.quick else "a full run"
        raise ValueError(f"{file} has the figures of {kind}; name another file for this one")
    return found.rows


def merged(before: Iterable[Outcome], now: Iterable[Outcome]) -> list[Outcome]:
    """All rows in order: those of ``now`` in the place of those ``before``, except what was ended
    before it was measured."""
    rows = {each.name: each for each in before}
    for each in now:
        if each.problem != ENDED or each.name not in rows:
            rows[each.name] = each
    return sorted(rows.values(), key=lambda each: (each.number, each.name))


def write(file: Path, outcomes: Iterable[Outcome], about: Mapping[str, Any], quick: bool) -> None:
    """Replaces ``file`` at once, so that it is never half written."""
    rows = [asdict(outcome) for outcome in outcomes]
    told = {"quick": quick, "machine": dict(about), "rows": rows}
    half = file.with_name(f".{file.name}.half")
    half.write_bytes(orjson.dumps(told, option=orjson.OPT_INDENT_2))
    half.replace(file)
