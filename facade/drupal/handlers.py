"""``POST /drupal/sync``: synchronizes the list with a Drupal site, once."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic.alias_generators import to_camel
from yarl import URL

from mcp_discovery.adapters.view import Entry
from mcp_discovery.credential_files import unfit_for_header
from mcp_discovery.errors import DiscoveryError, InvalidInputError
from mcp_discovery.facade.access.audit.audit import AUDIT
from mcp_discovery.facade.connections.exports import ImportPlan, apply_plan, exported, look_at
from mcp_discovery.facade.connections.requests import parsed
from mcp_discovery.facade.drupal.content import (
    FIELDS,
    REQUIRED,
    connection_of,
    is_field_name,
)
from mcp_discovery.facade.drupal.jsonapi import DrupalError, DrupalSite, KeyKind
from mcp_discovery.facade.drupal.synchronization import Mode, Pulled, Synchronization
from mcp_discovery.facade.http.body import Shaped, beside_loop, read_object
from mcp_discovery.facade.http.operation import Operation
from mcp_discovery.facade.http.outbound import Dialer, trusting
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.facade.registration.handlers import remove
from mcp_discovery.facade.registration.permission import Claimant
from mcp_discovery.facade.servers.current_list import view_of
from mcp_discovery.facade.servers.list_json import json_response
from mcp_discovery.facade.state import Facade, facade_of
from mcp_discovery.query.query import query_of
from mcp_discovery.record import url_problem

log = logging.getLogger(__name__)

#: Seconds that one synchronization may take.
_TIMEOUT: Final = 300.0
_VARIABLE: Final = re.compile(r"\$\{?\w+\}?")
_TURN: Final = web.AppKey("turn of Drupal", asyncio.Lock)


class SyncWish(BaseModel):
    """With which site to synchronize, how, and what of the list.

    ``fields`` are machine names of the content type's fields by our names, of which ``null`` leaves
    one out. ``filter`` has the filters of ``/servers``.
    """

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=False, extra="forbid", strict=True, frozen=True
    )

    drupal_endpoint: Annotated[str, Field(max_length=2048)]
    api_key: Annotated[SecretStr, Field(max_length=4096)]
    sync_mode: Mode
    key_kind: KeyKind = "api-key"
    resource_type: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,64}--[a-z0-9_]{1,64}$")] = (
        "node--mcp_server"
    )
    fields: Annotated[dict[str, str | None], Field(max_length=20)] = {}
    filter: dict[str, str | list[str]] = {}
    dry_run: bool = False
    unpublish_many: bool = False

    @field_validator("drupal_endpoint")
    @classmethod
    def _check_endpoint(cls, given: str) -> str:
        if (problem := url_problem(given, ("http", "https"))) is not None:
            raise ValueError(problem.replace("10.0.0.5:8000/mcp", "cms.example.com"))
        if URL(given).user is not None or URL(given).query_string:
            raise ValueError("has a user, a password or a query; send the key as apiKey alone")
        return given

    @field_validator("api_key")
    @classmethod
    def _check_key(cls, given: SecretStr) -> SecretStr:
        text = given.get_secret_value()
        if _VARIABLE.fullmatch(text):
            raise ValueError(
                "names a variable, and a facade fills none in; send the key itself, or let "
                "mcp-discovery sync drupal read it from its environment"
            )
        if (problem := unfit_for_header(text)) is not None:
            raise ValueError(problem)
        return given

    @field_validator("fields")
    @classmethod
    def _check_fields(cls, given: dict[str, str | None]) -> dict[str, str | None]:
        for name, machine in given.items():
            if name not in FIELDS:
                raise ValueError(f"{name[:100]!r} is none of {', '.join(FIELDS)}")
            if machine is None and name in REQUIRED:
                raise ValueError(f"{name} cannot be left out")
            if machine is not None and not is_field_name(machine):
                raise ValueError(f"{machine[:100]!r} is no machine name of a field")
        return given

    @property
    def mapping(self) -> dict[str, str]:
        """All fields by our names."""
        found = {**FIELDS, **self.fields}
        return {name: field for name, field in found.items() if field is not None}


class PushedModel(Shaped):
    """Ids by what became of their resources."""

    created: list[str]
    updated: list[str]
    unpublished: list[str]


class PulledModel(Shaped):
    """Ids by what became of their entries here."""

    created: list[str]
    replaced: list[str]
    removed: list[str]


class LeftAlone(Shaped):
    """What was not done, and why."""

    id: str | None = None
    reason: str
    fields: list[str] | None = Field(None, description="What is not the same on both sides.")


class Synchronized(Shaped):
    """What was done, or with `dryRun` would be."""

    dry_run: bool
    sync_mode: Mode
    pushed: PushedModel = Field(description="Changes in Drupal.")
    pulled: PulledModel = Field(description="Changes here.")
    unchanged: int = Field(ge=0)
    conflicts: list[LeftAlone] = Field(description="Changed on both sides; neither was touched.")
    skipped: list[LeftAlone]
    refused: list[LeftAlone] = Field(description="What Drupal has and this facade does not take.")
    failed: list[LeftAlone]


async def sync(request: web.Request) -> web.Response:
    """Synchronizes the servers that you see, and have a URL, with resources of a Drupal site.

    What changed on one side since the last time is carried to the other as `syncMode` says; what
    changed on both is in `conflicts`, and neither side is touched. What is gone here is unpublished
    there, never deleted. Done again it changes nothing. The key is used for this request alone.
    """
    facade = facade_of(request)
    body = await read_object(request)
    wish = await beside_loop(request, lambda: parsed(SyncWish, body))
    try:
        query = query_of(wish.filter)
    except InvalidInputError as error:
        raise ProblemError(422, "invalid-field", f"filter: {error}", field="filter") from error
    view, whole = view_of(request), facade.view()
    turn = request.app[_TURN]
    if turn.locked():
        detail = "a synchronization is under way at this facade; try again when it is done"
        raise ProblemError(409, "sync-under-way", detail)
    found = await beside_loop(request, lambda: view.select(query))
    options = facade.options
    async with turn:
        dialer = Dialer(options.addresses, tls=trusting(options.server_ca))
        endpoint = URL(wish.drupal_endpoint.rstrip("/"))
        key = wish.api_key.get_secret_value()
        run = Synchronization(
            DrupalSite(dialer, endpoint, key, wish.key_kind),
            wish.resource_type,
            wish.mapping,
            wish.sync_mode,
            {each.id: each for each in found if each.record.endpoint.url is not None},
            lambda id: id in whole.entries,
            complete=view.stale_since is None and view.partial is None,
            unpublish_many=wish.unpublish_many,
        )
        try:
            async with asyncio.timeout(_TIMEOUT):
                pulled = await _run(request, facade, run, dry=wish.dry_run)
        except TimeoutError:
            detail = f"it took more than {_TIMEOUT:g} s; what was done is done, send this again"
            raise ProblemError(504, "sync-too-slow", detail) from None
        except DrupalError as error:
            raise ProblemError(502, "drupal", str(error)) from error
        finally:
            await dialer.close()
    report = run.report
    log.info("synchronized with %s (%s)", endpoint.origin(), wish.sync_mode)
    return json_response(
        {
            "dryRun": wish.dry_run,
            "syncMode": wish.sync_mode,
            "pushed": report.pushed(),
            "pulled": pulled,
            "unchanged": report.unchanged,
            "conflicts": report.conflicts,
            "skipped": report.skipped,
            "refused": report.refused,
            "failed": report.failed,
        }
    )


async def _run(
    request: web.Request, facade: Facade, run: Synchronization, *, dry: bool
) -> dict[str, list[str]]:
    """Does it; returns the ids of what was changed here, by effect."""
    await run.plan()
    claimant = Claimant.of(request)
    plan = ImportPlan(request.app.get(AUDIT))
    pulls = [each for each in run.pulls if _is_taken(run, each)]
    items = [connection_of(each.content, each.resource, _known(each.known)) for each in pulls]
    await look_at(plan, facade, claimant, items, {})
    run.report.refused += _told(plan.refused)
    removed = []
    if not dry:
        await apply_plan(facade, claimant, plan)
        run.report.failed += _told(plan.failed)
    failed = {each["index"] for each in plan.failed}
    done = [each for each in plan.planned if each.index not in failed]
    for each in done:
        run.pulled(pulls[each.index])
    for id in run.removals:
        try:
            if dry:
                claimant.require_existing(facade, id)
            else:
                await remove(facade, id, claimant)
        except DiscoveryError as error:
            run.report.refused.append({"id": id, "reason": str(error)})
        else:
            removed.append(id)
    if not dry:
        await run.push()
    by_effect: dict[str, list[str]] = {"created": [], "replaced": []}
    for each in done:
        if each.effect != "unchanged":
            by_effect[each.effect].append(each.posting.record.id)
    return {**by_effect, "removed": removed}


def _is_taken(run: Synchronization, pulled: Pulled) -> bool:
    """Whether it may be registered at all: what starts a program is not taken from elsewhere."""
    if pulled.content.get("transport") != "stdio" and pulled.content["url"]:
        return True
    reason = (
        "has no URL, and a command is never taken from Drupal; register it with mcp-discovery "
        "register"
    )
    run.report.refused.append({"id": str(pulled.content["id"])[:100], "reason": reason})
    return False


def _known(entry: Entry | None) -> Mapping[str, Any]:
    return {} if entry is None else exported(entry.record, ())


def _told(items: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{name: each[name] for name in ("id", "reason") if name in each} for each in items]


OPERATIONS = (
    Operation(
        "POST",
        "/drupal/sync",
        sync,
        "registry",
        body=SyncWish,
        answers={200: Synchronized},
        errors=(400, 408, 409, 413, 422, 502, 504),
        needs="admin",
    ),
)


def serve_drupal(app: web.Application) -> None:
    """One synchronization at a time at ``app``."""
    app[_TURN] = asyncio.Lock()
