"""``mcp-discovery import FILE``: registers what was exported, and says what became of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

from mcp_discovery.cli import options
from mcp_discovery.cli.exit_codes import CHANGES, DONE, FAILED, run
from mcp_discovery.cli.terminal import line, say, say_json
from mcp_discovery.errors import (
    ForbiddenError,
    InvalidInputError,
    StoreUnavailableError,
    UnauthenticatedError,
)

if TYPE_CHECKING:
    from mcp_discovery.adapters.store import StoreOptions

_EFFECTS = ("created", "replaced", "unchanged")


def import_(
    file: str = typer.Argument(
        metavar="FILE",
        help="JSON: an export, a list of servers as register takes it, or a host's mcpServers; "
        "- for stdin.",
    ),
    dry_run: bool = typer.Option(
        False,
        "--dry-run",
        help="Only tell what would become of each; exit code 9 if anything would change.",
    ),
    all_or_nothing: bool = typer.Option(
        False, "--all-or-nothing", help="Import none where any is refused."
    ),
    timeout: float = options.timeout(
        120.0, "For the whole import; each server is asked for its tools.", "2m"
    ),
    facade: str = options.FACADE,
    json: bool = options.JSON,
    facade_token: str | None = options.FACADE_TOKEN,
    facade_token_file: str | None = options.FACADE_TOKEN_FILE,
) -> None:
    """Register what a file lists; the facade keeps it registered from then on.

    What is there already is replaced, or left alone where it is the same; nothing is removed. The
    exit code is 1 when some were not imported; the others were. Importing again is harmless.

    See first: mcp-discovery import all.json --dry-run
    """
    from mcp_discovery.cli.server_files import export_of
    from mcp_discovery.host_files import read

    body = export_of(read(file), file)
    params = [] if all_or_nothing else [("partial", "true")]
    params = [("dryRun", "true")] if dry_run else params

    async def work() -> int:
        from mcp_discovery.adapters.store import StoreOptions
        from mcp_discovery.cli.facade_connection import token_of
        from mcp_discovery.cli.introspection import say_what_names_nothing

        token = token_of(facade, facade_token, facade_token_file)
        credentials = StoreOptions(token=token, token_file=facade_token_file)
        report = await _post(facade, credentials, body, params, timeout)
        outcomes = _outcomes(report, body, dry=dry_run)
        if any(each["outcome"] in ("created", "replaced") for each in outcomes):
            say_what_names_nothing(_silent_commands(body["connections"]))
        _print(outcomes, json=json)
        found = {each["outcome"] for each in outcomes}
        if not found <= set(_EFFECTS):
            return FAILED
        return CHANGES if dry_run and found - {"unchanged"} else DONE

    run(work())


async def _post(
    facade: str,
    credentials: StoreOptions,
    body: Mapping[str, Any],
    params: list[tuple[str, str]],
    timeout: float,
) -> dict[str, Any]:
    """The facade's report, which comes with an error's status where not all was imported."""
    import orjson

    from mcp_discovery.adapters.http import HttpClient, remedies_for
    from mcp_discovery.adapters.remote.api import bearer

    options.check_url(facade)
    url = facade.rstrip("/")
    remedies = remedies_for(url, facade=True)
    http = HttpClient(url, credentials, bearer, refusals=(401,), remedies=remedies)
    try:
        answer = await http.request(
            "POST",
            f"{url}/registry/import",
            params=params,
            data=orjson.dumps(body),
            headers={"Content-Type": "application/json"},
            timeout=timeout,
        )
    finally:
        await http.close()
    try:
        report = answer.json()
    except ValueError:
        report = None
    if isinstance(report, dict) and "refused" in report:
        return report
    detail = report.get("detail") if isinstance(report, dict) else None
    if answer.status == 401:
        raise UnauthenticatedError(url, str(detail or "it wants a valid token"))
    if answer.status == 403:
        raise ForbiddenError(url, str(detail or "it refuses this to whoever the token is of"))
    if 400 <= answer.status < 500 and detail:
        raise InvalidInputError(str(detail))
    hint = str(detail or "is this the address of a facade?")
    raise StoreUnavailableError(url, f"HTTP {answer.status}: {hint}")


def _outcomes(
    report: Mapping[str, Any], body: Mapping[str, Any], *, dry: bool
) -> list[dict[str, Any]]:
    """What became of each entry of the file, in its order where that is known."""
    idle = not dry and not report["applied"] and bool(report["refused"])
    outcomes = [
        {"id": id, "outcome": "not imported" if idle and effect != "unchanged" else effect}
        for effect in _EFFECTS
        for id in report[effect]
    ]
    for outcome in ("refused", "failed"):
        for each in report[outcome]:
            name = each.get("id") or each.get("name") or f"number {each['index'] + 1}"
            outcomes.append({"id": name, "outcome": outcome, "reason": each["reason"]})
    order = {
        each.get("id"): number
        for number, each in enumerate(body["connections"])
        if isinstance(each, dict)
    }
    return sorted(outcomes, key=lambda each: order.get(each["id"], len(order)))


def _silent_commands(connections: list[Any]) -> list[str]:
    """The names of those that are commands and name nothing that they offer."""
    return [
        str(each.get("name"))
        for each in connections
        if isinstance(each, Mapping)
        and isinstance(endpoint := each.get("endpoint"), Mapping)
        and endpoint.get("command")
        and not each.get("capabilities")
    ]


def _print(outcomes: list[dict[str, Any]], *, json: bool) -> None:
    from collections import Counter

    for each in outcomes:
        if json:
            say_json(each)
        else:
            why = f": {each['reason']}" if "reason" in each else ""
            say(line(f"{each['id']}: {each['outcome']}{why}"), err="reason" in each)
    counts = Counter(each["outcome"] for each in outcomes)
    say(", ".join(f"{count} {outcome}" for outcome, count in counts.items()) + ".", err=True)
