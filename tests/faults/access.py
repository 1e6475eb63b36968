"""What lets programs into a store, in files that they follow.

In Consul each has a token of its own, by the policies of `deploy/`; in etcd all are one user.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.members import PATIENCE, Members
from tests.stores import (
    ConsulAgent,
    ConsulCluster,
    ConsulServer,
    EtcdCluster,
    EtcdServer,
    RequestRefused,
)
from tests.stores.server import StoreServer
from tests.stores.waiting import until

POLICIES = Path(__file__).parents[2] / "deploy" / "consul" / "policies"


def _replace(file: Path, text: str) -> None:
    """Puts a file in the place of ``file`` at once, as mounted secrets are rotated."""
    written = file.with_suffix(".new")
    written.write_text(text)
    written.replace(file)


@dataclass
class _Token:
    file: Path
    policies: Sequence[str]
    accessor: str
    secret: str
    revocations: int = 0
    """How many of those who revoked it have not given it back."""

    @property
    def valid(self) -> bool:
        """Whether Consul is to take it."""
        return not self.revocations


class Password:
    """The etcd user that an environment's programs are, who may do everything."""

    USER = "programs"

    def __init__(self, cluster: EtcdCluster, apart: Collection[StoreServer], folder: Path) -> None:
        """The members ``apart`` are not asked. The file goes to ``folder``."""
        self._members = Members(cluster, apart)
        self.file = folder / "password"
        self._password = ""

    async def give(self) -> None:
        """Makes the user known, with the password of now, to a store that is new or lost data."""
        if not self._password:
            self._renew()
        user = {"name": self.USER, "password": self._password}

        async def given(member: EtcdServer) -> bool:
            users = (await member.call("auth/user/list", {})).get("users", [])
            if self.USER not in users:
                await member.call("auth/user/add", user)
            await member.call("auth/user/changepw", user)
            await member.call("auth/user/grant", {"user": self.USER, "role": "root"})
            return True

        await self._members.until(given, "a change of the programs' password")

    async def rotate(self) -> None:
        """Puts another password into the file, and makes it the user's."""
        self._renew()
        await self.give()

    def _renew(self) -> None:
        self._password = uuid.uuid4().hex
        _replace(self.file, self._password)


class Tokens:
    """The tokens of an environment's programs, by the programs' names."""

    def __init__(
        self,
        cluster: ConsulCluster,
        agents: Sequence[ConsulAgent],
        apart: Collection[StoreServer],
        folder: Path,
    ) -> None:
        """Programs use ``agents``; the members ``apart`` are not asked. Files go to ``folder``."""
        self._members = Members(cluster, apart)
        self._agents = agents
        self._folder = folder
        self._tokens: dict[str, _Token] = {}

    async def issue(self, program: str, *policies: str) -> Path:
        """The file with the token of a program, which has these policies' rights; made once."""
        if program not in self._tokens:
            file = self._folder / f"{program}.token"
            token = _Token(file, policies, str(uuid.uuid4()), str(uuid.uuid4()))
            self._tokens[program] = token
            _replace(file, token.secret)
            await self._apply(token)
        return self._tokens[program].file

    async def rotate(self, program: str, *, pause: float) -> None:
        """Puts another token into a program's file; revokes the one before ``pause`` s later."""
        token = self._tokens[program]
        before = _Token(token.file, (), token.accessor, token.secret, revocations=1)
        token.accessor, token.secret = str(uuid.uuid4()), str(uuid.uuid4())
        await self._apply(token)
        _replace(token.file, token.secret)
        await asyncio.sleep(pause)
        await self._apply(before)
        await self._until(before)

    async def revoke(self, *programs: str) -> None:
        """Revokes tokens, of all programs if none is named; returns when every agent knows."""
        await self._change(programs, 1)

    async def give_back(self, *programs: str) -> None:
        """Makes the same tokens valid again; returns when every agent takes them."""
        await self._change(programs, -1)

    async def give(self) -> None:
        """Makes a store that is new or lost data know what is valid, and what is not."""
        for token in self._tokens.values():
            await self._apply(token)

    async def _change(self, programs: Sequence[str], revocations: int) -> None:
        tokens = [self._tokens[each] for each in programs or self._tokens]
        for token in tokens:
            token.revocations += revocations
            await self._apply(token)
        for token in tokens:
            await self._until(token)

    async def _apply(self, token: _Token) -> None:
        async def applied(member: ConsulServer) -> bool:
            if not token.valid:
                await member.api("DELETE", f"/v1/acl/token/{token.accessor}")
                return True
            known = (await member.api("GET", "/v1/acl/tokens")).json()
            if not any(each["AccessorID"] == token.accessor for each in known):
                for policy in token.policies:
                    await self._define(member, policy)
                body = {
                    "AccessorID": token.accessor,
                    "SecretID": token.secret,
                    "Policies": [{"Name": f"mcp-{each}"} for each in token.policies],
                }
                await member.api("PUT", "/v1/acl/token", body=body)
            return True

        await self._members.until(applied, f"a change of {token.file.stem}'s token")

    async def _define(self, member: ConsulServer, policy: str) -> None:
        name = f"mcp-{policy}"
        known = (await member.api("GET", "/v1/acl/policies")).json()
        if not any(each["Name"] == name for each in known):
            rules = (POLICIES / f"{policy}.hcl").read_text()
            await member.api("PUT", "/v1/acl/policy", body={"Name": name, "Rules": rules})

    async def _until(self, token: _Token) -> None:
        """Waits until every agent takes the token, or refuses it where it is not valid."""

        async def known() -> bool:
            for agent in self._agents:
                try:
                    await agent.api("GET", "/v1/kv/mcp/servers/?keys", token=token.secret)
                except RequestRefused as refused:
                    if refused.status not in (403, 404):
                        raise
                    taken = refused.status == 404
                else:
                    taken = True
                if taken is not token.valid:
                    return False
            return True

        await until(known, timeout=PATIENCE, what=f"every agent's word on {token.file.stem}")
