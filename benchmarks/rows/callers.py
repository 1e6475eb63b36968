"""What it costs to know callers, to show them parts of one list, to limit and to record them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import jwt
import orjson
import yaml
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from benchmarks import data
from benchmarks.harness import Contender, Contest, Goal, Scale, row
from benchmarks.processes import facade, memory, python
from benchmarks.small_load_generator import Bursts
from mcp_discovery.facade.access.tokens import hash_of, new_token

_CALLERS, _ROLES = 1000, 50
#: Of so many groups of instances, each role sees so many, besides those that are wanted.
_GROUPS, _SEEN = 97, 10
_QUERY = f"/servers?tags={data.WANTED}"
#: In how many turns, of some 50 ms each, requests are compared.
_TURNS = 300
#: Seconds until a facade has given back what loading its list took.
_SETTLE = 2.0


@contextmanager
def _rules() -> Iterator[tuple[Path, Path, list[str]]]:
    """A file for ``--auth``, the same with the right to read everything in each role, and the
    tokens of their callers, of each role in turns."""
    tokens = [new_token(f"caller-{number}") for number in range(_CALLERS)]
    scopes = {
        f"scope-{role}": {
            "verbs": ["read"],
            "tags": [data.WANTED, *(f"group-{(role + n) % _GROUPS}" for n in range(_SEEN))],
        }
        for role in range(_ROLES)
    }
    rules = {
        "roles": {f"role-{role}": f"scope-{role}" for role in range(_ROLES)},
        "scopes": scopes,
        "tokens": {
            f"caller-{number}": {"hash": hash_of(token), "roles": f"role-{number % _ROLES}"}
            for number, token in enumerate(tokens)
        },
    }
    with TemporaryDirectory() as folder:
        file, without = Path(folder) / "auth.yaml", Path(folder) / "without.yaml"
        file.write_text(yaml.safe_dump(rules))
        of_all = {f"role-{role}": "read" for role in range(_ROLES)}
        without.write_text(yaml.safe_dump(rules | {"roles": of_all}))
        yield file, without, tokens


@asynccontextmanager
async def _guarded(count: int, file: Path) -> AsyncIterator[tuple[str, int]]:
    arguments = str(count), str(data.REPLICAS), str(file)
    async with python("benchmarks.filled_facade", *arguments) as running:
        yield running


async def _seen(url: str, token: str, query: str) -> int:
    """How many servers a caller finds."""
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(headers=headers) as http, http.get(url + query) as response:
        response.raise_for_status()
        answer = orjson.loads(await response.read())
        return int(answer.get("total", len(answer["servers"])))


@contextmanager
def _credentials() -> Iterator[tuple[Path, dict[str, Path]]]:
    """A file for ``--auth``, and by kind a file with one credential of somebody who sees all."""
    key = ec.generate_private_key(ec.SECP256R1())
    jwk = ECAlgorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": "one", "use": "sig"}
    issuer, audience = "https://issuer.example.com", "https://discovery.example.com"
    claims: dict[str, object] = {"iss": issuer, "aud": audience, "sub": "ada"}
    claims |= {"roles": ["reader"], "exp": int(time.time()) + 86_400}
    given = {
        "token": new_token("ada"),
        "token, limited": new_token("bob"),
        "JWT": jwt.encode(claims, key, "ES256", headers={"kid": "one"}),
    }
    with TemporaryDirectory() as folder:
        keys, file = Path(folder) / "jwks.json", Path(folder) / "auth.yaml"
        keys.write_text(json.dumps({"keys": [jwk]}))
        rules = {
            "roles": {"reader": "read", "limited": "read"},
            "tokens": {
                "ada": {"hash": hash_of(given["token"]), "roles": "reader"},
                "bob": {"hash": hash_of(given["token, limited"]), "roles": "limited"},
            },
            "limits": {"roles": {"limited": {"reads": "1000000000/minute"}}},
            "issuers": [{"issuer": issuer, "audience": audience, "jwks_file": str(keys)}],
        }
        file.write_text(yaml.safe_dump(rules))
        found = {}
        for kind, text in given.items():
            found[kind] = Path(folder) / kind
            found[kind].write_text(text)
        yield file, found


@row(
    13,
    "credentials",
    "GET /servers?tags=…, 20 of 10,000, by a caller with a credential, beside no auth",
    unit="requests/s",
    goals=(Goal(0.9, at_least=True),),
)
async def beside_no_auth(scale: Scale) -> AsyncGenerator[Contest, None]:
    """A static token, the same where requests are limited, and a JWT that was verified before."""
    count = scale.of(10_000, 1_000)
    with _credentials() as (file, tokens):
        async with (
            python("benchmarks.filled_facade", str(count)) as (plain, _),
            _guarded(count, file) as (guarded, _),
        ):
            for each in tokens.values():
                assert await _seen(guarded, each.read_text(), _QUERY) == data.WANTED_COUNT

            async with AsyncExitStack() as connections:
                without = await connections.enter_async_context(Bursts(plain + _QUERY))
                contenders = []
                for kind, file in tokens.items():
                    bursts = Bursts(guarded + _QUERY, file)
                    shown = await connections.enter_async_context(bursts)
                    contenders.append(Contender(kind, shown.rate, has_goal="limited" not in kind))
                beside = Contender("without", without.rate)
                yield Contest(contenders, beside, scale.of(_TURNS, 10))


@row(
    13,
    "callers",
    "GET /servers?tags=…, 20 of 10,000, by 1,000 callers of 50 roles, beside the same callers "
    "without rules",
    unit="requests/s",
    goals=(Goal(1 / 1.2, at_least=True),),
)
async def beside_no_rules(scale: Scale) -> AsyncGenerator[Contest, None]:
    """Each request is of another caller; each role sees a tenth of the list."""
    count = scale.of(10_000, 1_000)
    with _rules() as (file, all_see_all, tokens):
        async with (
            python("benchmarks.filled_facade", str(count)) as (plain, _),
            _guarded(count, all_see_all) as (known, _),
            _guarded(count, file) as (guarded, _),
        ):
            file_of_tokens = file.with_name("tokens")
            file_of_tokens.write_text("\n".join(tokens))
            for token in tokens[:_ROLES]:
                found = await _seen(guarded, token, _QUERY)
                assert found == data.WANTED_COUNT, found

            async with (
                Bursts(plain + _QUERY) as unknown,
                Bursts(known + _QUERY, file_of_tokens) as without,
                Bursts(guarded + _QUERY, file_of_tokens) as with_rules,
            ):
                contenders = [
                    Contender("with rules", with_rules.rate),
                    Contender("no auth", unknown.rate, has_goal=False),
                ]
                beside = Contender("without rules", without.rate)
                yield Contest(contenders, beside, scale.of(_TURNS, 10))


@row(
    13,
    "callers-memory",
    "bytes for each instance that a role sees, of 50 roles over 10,000 instances, beside those of "
    "the list itself for each of its instances",
    unit="bytes",
    goals=(Goal(1.0),),
)
async def memory_of_roles(scale: Scale) -> AsyncGenerator[Contest, None]:
    """What 50 roles add to a facade's memory, once a caller of each has asked."""
    count, facts = scale.of(10_000, 2_000), dict[str, str]()

    async def of_list() -> float:
        used = []
        for number in (data.WANTED_COUNT, count):
            async with python("benchmarks.filled_facade", str(number)) as (_, pid):
                await asyncio.sleep(_SETTLE)
                used.append(memory(pid))
        return (used[1] - used[0]) / (count - data.WANTED_COUNT)

    async def of_roles() -> float:
        with _rules() as (file, _, tokens):
            async with _guarded(count, file) as (url, pid):
                await asyncio.sleep(_SETTLE)
                before = memory(pid)
                seen = [
                    await _seen(url, token, "/servers?status=all&limit=1")
                    for token in tokens[:_ROLES]
                ]
                await asyncio.sleep(_SETTLE)
                added = memory(pid) - before
        facts["a role sees, and adds"] = (
            f"{sum(seen) / _ROLES:,.0f} instances, {added / _ROLES / 2**10:,.0f} KiB"
        )
        return added / sum(seen)

    yield Contest([Contender("roles", of_roles)], Contender("list", of_list), rounds=3, facts=facts)


@row(
    13,
    "audit",
    "POST /servers with an audit in SQLite, each answered when its event is durable, beside none",
    unit="changes/s",
    goals=(Goal(0.5, at_least=True),),
)
async def recorded(scale: Scale) -> AsyncGenerator[Contest, None]:
    """Registrations over the embedded store, in memory. It has no goal: a durable write of nothing
    else costs what the disk makes of it."""
    with TemporaryDirectory() as folder:
        store = "--store", "embedded:"
        async with (
            facade(*store) as (plain, _),
            facade(*store, "--audit-store", f"sqlite:///{folder}/audit.db") as (audited, _),
        ):

            async def changes(url: str, at_once: int) -> float:
                seconds = scale.of(5, 1)
                began, made = time.monotonic(), 0

                async def register(http: aiohttp.ClientSession, number: int) -> None:
                    nonlocal made
                    body = {"id": f"audited-{number}", "name": "audited", "lease": {"ttl": 600}}
                    body["url"] = f"http://127.0.0.1:9/{number}"
                    while time.monotonic() < began + seconds:
                        async with http.post(f"{url}/servers", json=body) as response:
                            response.raise_for_status()
                        made += 1

                async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as group:
                    for number in range(at_once):
                        group.create_task(register(http, number))
                return made / (time.monotonic() - began)

            contenders = [
                Contender("32 at once", has_goal=False, run=partial(changes, audited, 32)),
                Contender("one by one", has_goal=False, run=partial(changes, audited, 1)),
                Contender("one by one, no audit", has_goal=False, run=partial(changes, plain, 1)),
            ]
            yield Contest(
                contenders, Contender("32 at once, no audit", partial(changes, plain, 32))
            )
