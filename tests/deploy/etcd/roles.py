"""What ``deploy/etcd/roles.sh`` made of an etcd with users, and how a test changes it."""

from __future__ import annotations

import asyncio
import base64
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.programs import ROOT
from tests.stores import binaries
from tests.stores.etcd import EtcdServer
from tests.stores.waiting import bounded

SCRIPT = ROOT / "deploy" / "etcd" / "roles.sh"
DOMAIN = "example.internal"
#: The password of every user.
PASSWORD = "s3cr3t-of-all"


def etcdctl() -> str:
    """The path of etcdctl: beside etcd, or on the PATH. Raises `StoreNotFound`."""
    return binaries.tool(binaries.find("etcd"), "etcdctl")


def environment(server: EtcdServer, user: str = "root") -> dict[str, str]:
    """The environment in which etcdctl speaks to ``server`` as ``user``."""
    password = server.password if user == "root" else PASSWORD
    found = {
        "PATH": f"{Path(etcdctl()).parent}:{os.environ['PATH']}",
        "ETCDCTL_API": "3",
        "ETCDCTL_ENDPOINTS": server.http_url,
    }
    if server.tls is not None:
        found["ETCDCTL_CACERT"] = str(server.tls.ca_file)
        found["ETCDCTL_CERT"] = str(server.tls.client.cert_file)
        found["ETCDCTL_KEY"] = str(server.tls.client.key_file)
    return found | ({"ETCDCTL_USER": f"{user}:{password}"} if password else {})


async def run(environment: dict[str, str], *command: str, given: str = "") -> tuple[int, str]:
    """Runs a command to its end; its exit code and all that it said."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env=environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await bounded(process.communicate(given.encode()), 30)
    return process.returncode or 0, out.decode()


async def script(server: EtcdServer, *arguments: str, password: str = PASSWORD, **more: str) -> str:
    """Runs ``roles.sh`` as root, as its first comment says."""
    settings = {"SKYDNS": DOMAIN} | more
    code, out = await run(environment(server) | settings, str(SCRIPT), *arguments, given=password)
    assert code == 0, out
    return out


@dataclass(frozen=True)
class Permission:
    """One permission of a role: ``kind`` is READ, WRITE or READWRITE."""

    kind: str
    first: str
    end: str

    def body(self) -> dict[str, str]:
        """As the gateway spells it."""
        code = base64.b64encode
        return {
            "permType": self.kind,
            "key": code(self.first.encode()).decode(),
            "range_end": code(self.end.encode()).decode(),
        }


async def permissions(server: EtcdServer, role: str) -> list[Permission]:
    """The permissions of a role, as etcd has them."""
    answer = await server.call("auth/role/get", {"role": role})
    return [
        Permission(
            perm.get("permType", "READ"),  # the gateway leaves out the first of the kinds
            base64.b64decode(perm["key"]).decode(),
            base64.b64decode(perm.get("range_end", "")).decode(),
        )
        for perm in answer.get("perm", [])
    ]


async def grant(server: EtcdServer, role: str, permission: Permission) -> None:
    """Gives, or replaces, one permission."""
    await server.call("auth/role/grant", {"name": role, "perm": permission.body()})


async def revoke(server: EtcdServer, role: str, permission: Permission) -> None:
    """Takes one permission away."""
    body: dict[str, Any] = {k: v for k, v in permission.body().items() if k != "permType"}
    await server.call("auth/role/revoke", {"role": role} | body)
