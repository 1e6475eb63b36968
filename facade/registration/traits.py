"""What a record holds of a connection beside its own fields: type, idleness, probe settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mcp_discovery.health import FAIL_AFTER
from mcp_discovery.record import Record

#: The field of a record that holds the traits; a record keeps unknown fields.
FIELD = "connection"

#: The bounds of a probe's interval and time-out, in seconds.
INTERVALS = 1.0, 86400.0
TIMEOUTS = 0.05, 60.0


@dataclass(frozen=True, slots=True)
class Traits:
    """``interval`` and ``timeout`` of probes in seconds, ``None`` for the facade's own settings, as
    is ``fail_after``: after how many bad answers in a row it is ``down``.

    ``idle`` holds until it is reset; ``probed`` says whether the connection is probed at all.
    ``literals`` are the metadata keys whose values were booleans or numbers.
    """

    type: Literal["server", "client"] = "server"
    idle: bool = False
    probed: bool = True
    interval: float | None = None
    timeout: float | None = None
    fail_after: int | None = None
    literals: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The field's value in the record, without defaults."""
        check = {
            "interval": self.interval,
            "timeout": self.timeout,
            "failAfter": self.fail_after,
        }
        check = {key: value for key, value in check.items() if value is not None}
        written = {
            "type": None if self.type == "server" else self.type,
            "idle": self.idle,
            "healthCheck": check if self.probed else {"enabled": False} | check,
            "literals": list(self.literals),
        }
        return {key: value for key, value in written.items() if value}


def traits_of(record: Record) -> Traits:
    """The traits in ``record``; an invalid value counts as absent, since anyone may write it."""
    written = (record.model_extra or {}).get(FIELD)
    if not isinstance(written, Mapping):
        return _USUAL
    check = written.get("healthCheck")
    if not isinstance(check, Mapping):
        check = {}
    literals = written.get("literals")
    if not isinstance(literals, list | tuple):
        literals = ()
    fail_after = check.get("failAfter")
    return Traits(
        type="client" if written.get("type") == "client" else "server",
        idle=written.get("idle") is True,
        probed=check.get("enabled") is not False,
        interval=_seconds(check.get("interval"), INTERVALS),
        timeout=_seconds(check.get("timeout"), TIMEOUTS),
        fail_after=fail_after if type(fail_after) is int and fail_after in FAIL_AFTER else None,
        literals=tuple(key for key in literals if isinstance(key, str)),
    )


_USUAL = Traits()


def _seconds(value: Any, bounds: tuple[float, float]) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    low, high = bounds
    return float(value) if low <= value <= high else None
