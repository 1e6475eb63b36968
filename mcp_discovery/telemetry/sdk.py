"""Telemetry by OpenTelemetry's SDK. Only :mod:`mcp_discovery.telemetry.setup` imports this."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import random
import socket
import sys
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, MutableMapping
from contextlib import asynccontextmanager, suppress
from contextvars import Token
from importlib.metadata import entry_points
from types import TracebackType
from typing import Any, Final, Self

from multidict import istr
from opentelemetry import context as contexts
from opentelemetry import propagate, trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

from mcp_discovery.errors import InvalidInputError
from mcp_discovery.telemetry import spans
from mcp_discovery.telemetry.spans import (
    CONTEXT,
    NO_SPAN,
    Attribute,
    Carrier,
    Ids,
    Kind,
    TraceSpan,
    use,
)
from mcp_discovery.version import installed_version

log = logging.getLogger(__name__)

_SCOPE: Final = "mcp-discovery"
_PARENT: Final = istr("traceparent")
_KINDS: Final[Mapping[Kind, SpanKind]] = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
}
_EMPTY: Final = Context()
#: Whose log is not sent: it would tell of its own sending.
_OWN_LOGS: Final = ("opentelemetry", "urllib3", "requests")
#: Seconds that what is left may take at the end.
_GRACE: Final = 5.0
#: Seconds between two lines of the log that say that nothing can be sent.
_SILENCE: Final = 300.0


class _Unsampled(TraceSpan, trace.NonRecordingSpan):
    """The span of a trace that is not recorded: it passes its context on, until it ends."""

    end_time: int | None = None

    def end(self, end_time: int | None = None) -> None:
        self.end_time = 0


class _Ids(RandomIdGenerator):
    """Draws ids; the next trace has the one that was drawn already, if any."""

    drawn: int | None = None

    def generate_trace_id(self) -> int:
        drawn, self.drawn = self.drawn, None
        return drawn if drawn is not None else super().generate_trace_id()


def _ambient() -> tuple[Context, trace.Span]:
    """The current context and its span. A task that was started in a span outlives it, often for
    long: what it does then is none of that span's."""
    current = contexts.get_current()
    span = trace.get_current_span(current)
    if span is trace.INVALID_SPAN:
        own = spans.answering()
        if own is not None and not own.over:
            if own.span is NO_SPAN:  # nobody wanted to know its context until now
                ids = random.getrandbits(128) or 1, random.getrandbits(64) or 1
                own.span = _Unsampled(trace.SpanContext(*ids, is_remote=False))
            if isinstance(own.span, _Unsampled):
                span, current = own.span, trace.set_span_in_context(own.span, current)
    if getattr(span, "end_time", None) is not None:
        return _EMPTY, trace.INVALID_SPAN
    return current, span


class _LiveSpan(TraceSpan):
    """A span of the tracer of the whole process."""

    __slots__ = ("_context", "_failed", "_span", "_token", "is_recorded")
    is_recorded: bool

    def __init__(self, span: trace.Span, context: Context) -> None:
        self.is_recorded = span.is_recording()
        self._span = span if self.is_recorded else _Unsampled(span.get_span_context())
        self._context = context
        self._token: Token[Context] | None = None
        self._failed = False

    def __enter__(self) -> Self:
        self._token = contexts.attach(trace.set_span_in_context(self._span, self._context))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _: TracebackType | None,
    ) -> None:
        if self._token is not None:
            contexts.detach(self._token)
        if kind is not None and self.is_recorded and not self._failed:
            if issubclass(kind, asyncio.CancelledError):
                self._span.set_attribute("error.type", "cancelled")
            elif issubclass(kind, Exception):
                self.fail(kind.__qualname__, str(error))
        self._span.end()

    def set(self, attributes: Mapping[str, Attribute]) -> None:
        self._span.set_attributes(attributes)

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def fail(self, kind: str, message: str = "") -> None:
        self._failed = True
        self._span.set_attribute("error.type", kind)
        self._span.set_status(Status(StatusCode.ERROR, message or None))

    def end(self) -> None:
        self._span.end()
        self.is_recorded = False


class ApiTracer:
    """Makes spans with the tracer that is set up for the whole process, whoever did."""

    def __init__(self, ids: _Ids | None = None) -> None:
        """``ids`` are where the tracer has its ids from, if it is this module's."""
        self._tracer = trace.get_tracer(_SCOPE, installed_version())
        self._ids = ids
        self._fields = frozenset(propagate.get_global_textmap().fields)
        usual = self._fields <= set(CONTEXT)
        self._bound = None if ids is None or not usual else _bound()
        self._left = 0 if self._bound is None else self._skipped()

    def drops(self, headers: Carrier) -> bool:
        """Counts to the next trace that is recorded, by the same law as the SDK's sampler, which
        then decides so by the id that is drawn for it here."""
        if self._bound is None or _PARENT in headers:
            return False
        self._left -= 1
        if self._left >= 0:
            return True
        self._left = self._skipped()
        assert self._ids is not None
        self._ids.drawn = random.getrandbits(64) << 64 | random.randrange(self._bound)
        return False

    def _skipped(self) -> int:
        """How many traces to drop before the next recorded one: geometrically distributed."""
        if not self._bound:
            return sys.maxsize
        share = self._bound / 2**64
        return int(math.log(1.0 - random.random()) / math.log1p(-share))

    def start(
        self, name: str, kind: Kind, parent: Carrier | None, *, fresh: bool, below: bool
    ) -> TraceSpan:
        current, ambient = _ambient()
        if below and not ambient.is_recording():
            return NO_SPAN
        given, links = current, None
        carried_fields = {} if parent is None else _fit(parent, self._fields)
        if carried_fields:
            remote = propagate.extract(carried_fields, _EMPTY)
            carried = trace.get_current_span(remote).get_span_context()
            known = ambient.get_span_context()
            if carried.is_valid and carried.trace_id != known.trace_id:
                given = remote
                links = [Link(known)] if known.is_valid else None
        if fresh and given is current:
            given = _EMPTY
        return _LiveSpan(self._tracer.start_span(name, given, _KINDS[kind], links=links), given)

    def inject(self, carrier: MutableMapping[str, Any]) -> None:
        propagate.inject(carrier, _ambient()[0])

    def ids(self) -> Ids | None:
        known = _ambient()[1].get_span_context()
        if not known.is_valid:
            return None
        return Ids(trace.format_trace_id(known.trace_id), trace.format_span_id(known.span_id))


def _fit(carrier: Carrier, names: Iterable[str]) -> dict[str, str]:
    """What ``carrier`` has under ``names``, as far as it is text that a header may hold: it is from
    outside, and propagators raise at anything else."""
    found = ((name, carrier.get(name)) for name in names)
    return {name: text for name, text in found if isinstance(text, str) and text.isascii()}


class Telemetry:
    """What sends the signals ``wanted`` of this process, from now until :meth:`close`.

    Raises :class:`InvalidInputError` for an exporter that is not installed.
    """

    def __init__(self, service: str, wanted: frozenset[str]) -> None:
        resource = _resource(service)
        self._closing: list[Any] = []
        self._metrics: Any = None
        self._resource = resource
        self._log: _LogSender | None = None
        exporters = {each: _exporters(each) for each in sorted(wanted)}
        if "TRACES" in wanted:
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor

            ids = _Ids()
            traces = TracerProvider(resource=resource, shutdown_on_exit=False, id_generator=ids)
            for each in exporters["TRACES"]:
                traces.add_span_processor(BatchSpanProcessor(each))
            trace.set_tracer_provider(traces)  # the MCP SDK's spans are among ours
            self._closing.append(traces)
            use(ApiTracer(ids))
        if "LOGS" in wanted:
            from opentelemetry.sdk._logs import LoggerProvider
            from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

            logs = LoggerProvider(resource=resource, shutdown_on_exit=False)
            for each in exporters["LOGS"]:
                logs.add_log_record_processor(BatchLogRecordProcessor(each))
            self._closing.append(logs)
            self._log = _LogSender(logs)
            logging.getLogger().addHandler(self._log)
        if "METRICS" in wanted:
            self._metrics = exporters["METRICS"]
        seldom = _Seldom()
        for handler in logging.getLogger().handlers:
            handler.addFilter(seldom)

    @property
    def has_metrics(self) -> bool:
        """Whether figures are sent."""
        return bool(self._metrics)

    @asynccontextmanager
    async def exporting(self, figures: Any, scheme: str) -> AsyncIterator[None]:
        """Sends ``figures`` while the block runs; see :func:`.setup.exported`."""
        from mcp_discovery.telemetry.figures import FigureSender

        sender = FigureSender(figures, scheme, self._metrics, self._resource)
        sending = asyncio.create_task(sender.run(), name="telemetry: metrics")
        try:
            yield
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            with suppress(TimeoutError):
                async with asyncio.timeout(_GRACE / 2):
                    await sender.send()

    async def close(self) -> None:
        """Sends what is left, for some seconds at most, and ends."""
        use(None)
        if self._log is not None:
            logging.getLogger().removeHandler(self._log)
        closing = (*self._closing, *(self._metrics or ()))
        with suppress(TimeoutError):
            async with asyncio.timeout(_GRACE), asyncio.TaskGroup() as group:
                for each in closing:
                    group.create_task(beside_process(each.shutdown))


def _bound() -> int | None:
    """Below which value of its lower 64 bits a trace id is one of a recorded trace, as the SDK's
    samplers by ratio have it; ``None``: the sampler is another one, or takes all."""
    name = os.environ.get("OTEL_TRACES_SAMPLER", "").strip().lower()
    if name not in ("traceidratio", "parentbased_traceidratio"):
        return None
    try:
        share = float(os.environ["OTEL_TRACES_SAMPLER_ARG"])
    except (KeyError, ValueError):
        return None
    return TraceIdRatioBased.get_bound_for_rate(share) if 0 <= share < 1 else None


def _resource(service: str) -> Any:
    """Who sends: what the environment says of it, and ``service`` where it says nothing."""
    from opentelemetry.sdk.resources import Resource

    named = "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    if not os.environ.get("OTEL_SERVICE_NAME") and not named:
        os.environ["OTEL_SERVICE_NAME"] = service
    own: dict[str, Any] = {
        "service.version": installed_version(),
        "service.instance.id": str(uuid.uuid4()),
        "host.name": socket.gethostname(),
        "process.pid": os.getpid(),
    }
    return Resource(own).merge(Resource.create())


def _exporters(signal: str) -> list[Any]:
    """The exporters that ``OTEL_…_EXPORTER`` names, ``otlp`` where it names none."""
    names = os.environ.get(f"OTEL_{signal}_EXPORTER") or "otlp"
    return [_exporter(signal, each.strip()) for each in names.split(",")]


def _exporter(signal: str, name: str) -> Any:
    if name == "otlp":
        protocol = (
            os.environ.get(f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL")
            or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
            or "http/protobuf"
        ).strip()
        name = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}.get(protocol, "")
        if not name:
            raise InvalidInputError(
                f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol!r}; write http/protobuf"
            )
    for each in entry_points(group=f"opentelemetry_{signal.lower()}_exporter", name=name):
        return each.load()()
    raise InvalidInputError(
        f"OTEL_{signal}_EXPORTER, or OTEL_EXPORTER_OTLP_PROTOCOL, asks for the exporter {name!r}, "
        "which is not installed here; write otlp and http/protobuf, console or none"
    )


def _sendable(text: str) -> str:
    """``text`` in UTF-8, which has no lone surrogates: such a record loses its whole batch."""
    return text.encode(errors="replace").decode()


async def beside_process(work: Callable[[], object]) -> None:
    """Has a thread do ``work`` that no process waits for at its end, as it does for those of
    :func:`asyncio.to_thread`: a collector that hangs keeps them for long."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def run() -> None:
        try:
            work()
        except Exception:  # the guard of the thread
            log.exception("telemetry cannot be sent")
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(done.set)

    threading.Thread(target=run, name="telemetry", daemon=True).start()
    await done.wait()


class _LogSender(logging.Handler):
    """Sends the records of the log, each with the ids of the span in which it was written."""

    def __init__(self, provider: Any) -> None:
        super().__init__()
        self._provider = provider

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.partition(".")[0] in _OWN_LOGS:
            return
        attributes: dict[str, Any] = {}
        if record.exc_info and (error := record.exc_info[1]) is not None:
            attributes["exception.type"] = type(error).__qualname__
            attributes["exception.message"] = _sendable(str(error))
        self._provider.get_logger(record.name).emit(
            LogRecord(
                timestamp=int(record.created * 1e9),
                observed_timestamp=time.time_ns(),
                context=contexts.get_current(),
                severity_text={"WARNING": "WARN", "CRITICAL": "FATAL"}.get(
                    record.levelname, record.levelname
                ),
                severity_number=SeverityNumber(min(21, max(1, record.levelno * 2 // 5 + 1))),
                body=_sendable(record.getMessage()),
                attributes=attributes,
            )
        )


class _Seldom(logging.Filter):
    """Lets one line of the SDK through in some minutes: a collector that is away is no news each
    second."""

    def __init__(self) -> None:
        super().__init__()
        self._last = -_SILENCE

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] not in _OWN_LOGS:
            return True
        now = time.monotonic()
        if now - self._last < _SILENCE:
            return False
        self._last = now
        return True
