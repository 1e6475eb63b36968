"""``/webhooks``: the receivers, what is sent to them, and what could not be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Literal

import orjson
from aiohttp import web
from pydantic import Field

from mcp_discovery.facade.access.audit.journal import AuditLogError
from mcp_discovery.facade.access.caller import caller_of
from mcp_discovery.facade.access.challenge import CHALLENGES
from mcp_discovery.facade.http.body import Shaped
from mcp_discovery.facade.http.operation import Operation, Parameter
from mcp_discovery.facade.http.parameters import once, one_of, whole
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.facade.servers.list_json import json_response
from mcp_discovery.facade.webhooks.deliveries import Delivery
from mcp_discovery.facade.webhooks.webhooks import WEBHOOKS, ReceiverState, Webhooks
from mcp_discovery.health import rfc3339
from mcp_discovery.nearest import nearest

_STATES = ("pending", "delivered", "dead")
_DEFAULT, _MOST = 50, 1000


class DeliveryModel(Shaped):
    """A message for one receiver, and how the last attempt to send it ended."""

    id: str = Field(description="The `webhook-id`: the same in every attempt.")
    type: str
    state: Literal["pending", "delivered", "dead"]
    attempts: int = Field(ge=0)
    created_at: datetime
    due_at: datetime | None = Field(None, description="When it is tried next, if it waits.")
    tried_at: datetime | None = None
    status: int | None = Field(None, description="What the receiver answered last, if it did.")
    error: str | None = None
    payload: Any = Field(description="What is sent.")


class DeliveryList(Shaped):
    """Deliveries of one receiver, the newest first."""

    deliveries: list[DeliveryModel]


class ReceiverModel(Shaped):
    """One receiver; its URL is shown without its path."""

    name: str
    url: str
    events: list[str] = Field(description="Empty: all.")
    filter: dict[str, str | list[str]]
    state: Literal["active", "failing", "disabled"] = Field(
        description="`disabled` once it has answered 410, until a test succeeds."
    )
    pending: int = Field(ge=0)
    delivered: int = Field(ge=0, description="In the last day, 1,000 at most.")
    dead: int = Field(ge=0, description="In the last 30 days, 1,000 at most.")
    dropped: int = Field(ge=0, description="Since this facade runs: too much waited.")
    last: DeliveryModel | None = Field(None, description="What was tried last.")


class ReceiverList(Shaped):
    """All receivers."""

    receivers: list[ReceiverModel]
    sends: bool = Field(description="Whether it is this facade that sends, of several ones.")


async def receivers(request: web.Request) -> web.Response:
    """Who is told of changes, and whether that works."""
    webhooks = _webhooks(request)
    with _reading():
        counts = await webhooks.deliveries.counts()
        listed = []
        for name, state in sorted(webhooks.states.items()):
            receiver = state.receiver
            last = await webhooks.deliveries.last(name)
            shown: dict[str, Any] = {
                "name": name,
                "url": receiver.shown_url,
                "events": list(receiver.events),
                "filter": dict(receiver.filter),
                "state": _state(state, last),
            }
            shown |= {each: counts.get((name, each), 0) for each in _STATES}
            shown["dropped"] = state.outcomes["dropped"]
            if last is not None:
                shown["last"] = _shown(last)
            listed.append(shown)
    return json_response({"receivers": listed, "sends": webhooks.leads})


async def deliveries(request: web.Request) -> web.Response:
    """What was sent to a receiver, what waits, and what is dead, the newest first."""
    webhooks = _webhooks(request)
    state = _receiver(request, webhooks)
    wanted = once(request, "state")
    if wanted is not None:
        wanted = one_of("state", wanted, _STATES)
    limit = whole(request, "limit", least=1, most=_MOST) or _DEFAULT
    with _reading():
        found = await webhooks.deliveries.listed(state.receiver.name, wanted, limit)  # type: ignore[arg-type]
    return json_response({"deliveries": [_shown(each) for each in found]})


async def redeliver(request: web.Request) -> web.Response:
    """Sends a message again soon, with the same id, whatever became of it."""
    webhooks = _webhooks(request)
    state = _receiver(request, webhooks)
    id = request.match_info["delivery"]
    with _reading():
        found = await webhooks.deliveries.get(state.receiver.name, id)
        if found is None:
            detail = (
                f"nothing for {state.receiver.name} has the id {id[:100]!r}; "
                f"GET /webhooks/{state.receiver.name}/deliveries lists what has one"
            )
            raise ProblemError(404, "unknown-delivery", detail)
        if state.is_gone(await webhooks.deliveries.last(state.receiver.name)):
            detail = (
                f"{state.receiver.name} has said that it wants no messages (410); test it first: "
                f"POST /webhooks/{state.receiver.name}/test"
            )
            raise ProblemError(409, "webhook-disabled", detail)
        again = await webhooks.redeliver(state, found)
    return json_response(_shown(again), status=202)


async def test(request: web.Request) -> web.Response:
    """Sends a message of the type `webhook.test` now, once, and tells how that ended.

    Where it is taken, a receiver that was disabled is sent everything again.
    """
    webhooks = _webhooks(request)
    state = _receiver(request, webhooks)
    with _reading():
        return json_response(_shown(await webhooks.test(state)))


@contextmanager
def _reading() -> Iterator[None]:
    """Raises :class:`ProblemError` (503) for what a database cannot do now."""
    try:
        yield
    except AuditLogError as error:
        detail = f"deliveries cannot be read or written now: {error}; try again soon"
        raise ProblemError(503, "deliveries-unavailable", detail) from error


def _webhooks(request: web.Request) -> Webhooks:
    found = request.app.get(WEBHOOKS)
    if not caller_of(request).rights.grants_all("admin"):
        detail = "webhooks tell of all servers; ask for a role that may administer all of them"
        raise request.app[CHALLENGES].insufficient(request, "admin", detail)
    if found is None:
        detail = "this facade has no webhooks; start it with --webhooks FILE"
        raise ProblemError(404, "no-webhooks", detail)
    return found


def _receiver(request: web.Request, webhooks: Webhooks) -> ReceiverState:
    name = request.match_info["receiver"]
    state = webhooks.states.get(name)
    if state is None:
        near = nearest(name, webhooks.states)
        hint = f"did you mean {near!r}?" if near else "GET /webhooks lists them"
        detail = f"there is no receiver {name[:100]!r}; {hint}"
        raise ProblemError(404, "unknown-receiver", detail)
    return state


def _state(state: ReceiverState, last: Delivery | None) -> str:
    """Made of what was tried last, by whichever facade."""
    if state.is_gone(last):
        return "disabled"
    return "active" if last is None or last.error is None else "failing"


def _shown(delivery: Delivery) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": delivery.id,
        "type": delivery.type,
        "state": delivery.state,
        "attempts": delivery.attempts,
        "createdAt": _time(delivery.created),
    }
    if delivery.state == "pending":
        shown["dueAt"] = _time(delivery.due)
    if delivery.tried is not None:
        shown["triedAt"] = _time(delivery.tried)
    if delivery.status is not None:
        shown["status"] = delivery.status
    if delivery.error is not None:
        shown["error"] = delivery.error
    shown["payload"] = orjson.Fragment(delivery.body)
    return shown


def _time(seconds: float) -> str:
    return rfc3339(datetime.fromtimestamp(seconds, UTC))


_RECEIVER = Parameter("receiver", "The receiver's name.", where="path")
OPERATIONS = (
    Operation(
        "GET",
        "/webhooks",
        receivers,
        "webhooks",
        answers={200: ReceiverList},
        errors=(404, 503),
        needs="admin",
    ),
    Operation(
        "GET",
        "/webhooks/{receiver}/deliveries",
        deliveries,
        "webhooks",
        parameters=(
            _RECEIVER,
            Parameter("state", "In this state.", {"type": "string", "enum": list(_STATES)}),
            Parameter("limit", "How many.", {"type": "integer", "minimum": 1, "maximum": _MOST}),
        ),
        answers={200: DeliveryList},
        errors=(404, 503),
        needs="admin",
    ),
    Operation(
        "POST",
        "/webhooks/{receiver}/test",
        test,
        "webhooks",
        parameters=(_RECEIVER,),
        answers={200: DeliveryModel},
        errors=(404, 503),
        needs="admin",
    ),
    Operation(
        "POST",
        "/webhooks/{receiver}/deliveries/{delivery}/redeliver",
        redeliver,
        "webhooks",
        parameters=(_RECEIVER, Parameter("delivery", "The message's id.", where="path")),
        answers={202: DeliveryModel},
        errors=(404, 409, 503),
        needs="admin",
    ),
)
