"""Whether telemetry is asked for, by OpenTelemetry's own environment, and its life in a process."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from mcp_discovery.errors import InvalidInputError
from mcp_discovery.extras import require_extra
from mcp_discovery.telemetry import spans

if TYPE_CHECKING:
    from mcp_discovery.telemetry.sdk import Telemetry

#: Gives all figures in Prometheus's text format, as ``/metrics`` does; called in the event loop.
Figures = Callable[[], str | bytes]

_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
SIGNALS: Final = ("TRACES", "METRICS", "LOGS")
#: The telemetry of this process while it runs.
_running: Telemetry | None = None


def signals(environ: Mapping[str, str]) -> frozenset[str]:
    """Which of :data:`SIGNALS` are asked for.

    Each by an endpoint, of its own or for all, or by the name of its exporter; ``none`` there, or
    ``OTEL_SDK_DISABLED``, keeps it off.
    https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
    """
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return frozenset()
    found = set()
    for each in SIGNALS:
        exporter = environ.get(f"OTEL_{each}_EXPORTER", "").strip().lower()
        endpoint = environ.get(f"OTEL_EXPORTER_OTLP_{each}_ENDPOINT") or environ.get(_ENDPOINT)
        if exporter != "none" and (exporter or endpoint):
            found.add(each)
    return frozenset(found)


def prepare(endpoint: str | None = None) -> frozenset[str]:
    """Which signals are asked for, by the environment or by ``endpoint``, which is
    ``--otlp-endpoint`` and counts as the environment's.

    Raises :class:`~mcp_discovery.errors.MissingExtraError` and
    :class:`~mcp_discovery.errors.InvalidInputError`.
    """
    if endpoint is not None:
        os.environ[_ENDPOINT] = endpoint
    wanted = signals(os.environ)
    if not wanted:
        return wanted
    for name in (_ENDPOINT, *(f"OTEL_EXPORTER_OTLP_{each}_ENDPOINT" for each in SIGNALS)):
        parts = urlsplit(url := os.environ.get(name, ""))
        if url and (parts.scheme not in ("http", "https") or not parts.hostname):
            where = "--otlp-endpoint" if url == endpoint else name
            raise InvalidInputError(
                f"{where} is {url[:100]!r}, which is no URL of a collector; write for example "
                "http://127.0.0.1:4318"
            )
    require_extra("otel", "telemetry, which --otlp-endpoint or a variable OTEL_… asks for,")
    return wanted


@asynccontextmanager
async def telemetry(service: str) -> AsyncIterator[None]:
    """Sends telemetry while the block runs, if it is asked for; what is left goes at its end.

    ``service`` is the name of this process where the environment has none. Raises as
    :func:`prepare` does.
    """
    global _running
    wanted = prepare()
    if not wanted or _running is not None:
        yield
        return
    from mcp_discovery.telemetry.sdk import Telemetry

    _running = Telemetry(service, wanted)
    try:
        yield
    finally:
        ended, _running = _running, None
        await ended.close()


@asynccontextmanager
async def exported(figures: Figures, scheme: str = "http") -> AsyncIterator[None]:
    """Sends ``figures`` as metrics while the block runs, where metrics are asked for; ``scheme`` is
    that of the requests among them."""
    if _running is None or not _running.has_metrics:
        yield
        return
    async with _running.exporting(figures, scheme):
        yield


def join_application() -> None:
    """Has spans made by the tracer that the application itself has set up, if it has: the library
    for agents sets up none."""
    api = sys.modules.get("opentelemetry.trace")
    if api is None or spans.are_on():
        return
    if not isinstance(api.get_tracer_provider(), api.ProxyTracerProvider):
        from mcp_discovery.telemetry.sdk import ApiTracer

        spans.use(ApiTracer())
