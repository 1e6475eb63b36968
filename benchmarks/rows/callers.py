"""What it costs that callers see different parts of one list."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
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
from benchmarks.load_generator import load
from benchmarks.processes import memory, python
from mcp_discovery.facade.access.tokens import hash_of, new_token

_CALLERS, _ROLES = 1000, 50
#: Of so many groups of instances, each role sees so many, besides those that are wanted.
_GROUPS, _SEEN = 97, 10
_QUERY = f"/servers?tags={data.WANTED}"
#: Seconds until a facade has given back what loading its list took.
_SETTLE = 2.0


@contextmanager
def _rules() -> Iterator[tuple[Path, list[str]]]:
    """A file for ``--auth``, and the tokens of its callers, of each role in turns."""
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
        file = Path(folder) / "auth.yaml"
        file.write_text(yaml.safe_dump(rules))
        yield file, tokens


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
        "JWT": jwt.encode(claims, key, "ES256", headers={"kid": "one"}),
    }
    with TemporaryDirectory() as folder:
        keys, file = Path(folder) / "jwks.json", Path(folder) / "auth.yaml"
        keys.write_text(json.dumps({"keys": [jwk]}))
        rules = {
            "roles": {"reader": "read"},
            "tokens": {"ada": {"hash": hash_of(given["token"]), "roles": "reader"}},
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
    """A static token, and a JWT that was verified before. Limits and audit are not among it."""
    count = scale.of(10_000, 1_000)
    with _credentials() as (file, tokens):
        async with (
            python("benchmarks.filled_facade", str(count)) as (plain, _),
            _guarded(count, file) as (guarded, _),
        ):
            for each in tokens.values():
                assert await _seen(guarded, each.read_text(), _QUERY) == data.WANTED_COUNT

            async def without() -> float:
                return (await load(plain + _QUERY, scale)).rate

            async def shown(kind: str) -> float:
                return (await load(guarded + _QUERY, scale, tokens=tokens[kind])).rate

            contenders = [Contender(kind, partial(shown, kind)) for kind in tokens]
            yield Contest(contenders, Contender("without", without))


@row(
    13,
    "callers",
    "GET /servers?tags=…, 20 of 10,000, by 1,000 callers of 50 roles, beside no rules",
    unit="requests/s",
    goals=(Goal(1 / 1.2, at_least=True),),
)
async def beside_no_rules(scale: Scale) -> AsyncGenerator[Contest, None]:
    """Each request is of another caller; each role sees a tenth of the list."""
    count = scale.of(10_000, 1_000)
    with _rules() as (file, tokens):
        async with (
            python("benchmarks.filled_facade", str(count)) as (plain, _),
            _guarded(count, file) as (guarded, _),
        ):
            file_of_tokens = file.with_name("tokens")
            file_of_tokens.write_text("\n".join(tokens))
            for token in tokens[:_ROLES]:
                found = await _seen(guarded, token, _QUERY)
                assert found == data.WANTED_COUNT, found

            async def without() -> float:
                return (await load(plain + _QUERY, scale)).rate

            async def with_rules() -> float:
                return (await load(guarded + _QUERY, scale, tokens=file_of_tokens)).rate

            yield Contest([Contender("with rules", with_rules)], Contender("without", without))


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
        with _rules() as (file, tokens):
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
