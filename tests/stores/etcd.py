"""Real etcd: a server and a cluster of servers, for tests."""

import base64
import secrets
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

from tests.stores import binaries
from tests.stores.binaries import Program, StoreName
from tests.stores.cluster import StoreCluster
from tests.stores.server import RequestRefused, StoreServer
from tests.stores.tls import Tls

Permission = Literal["READ", "WRITE", "READWRITE"]


def restorer(program: Program) -> str:
    """The tool that restores a snapshot: etcdutl, which etcdctl was until etcd 3.6.

    Raises `StoreNotFound`.
    """
    return binaries.tool(program, "etcdutl", "etcdctl")


class EtcdServer(StoreServer):
    """One etcd server: `async with EtcdServer() as etcd`, then `etcd.store_url`.

    Its election timeout is 0.5 s instead of 1 s, so the shortest lease it grants is 1 s, not 2 s.
    It does not flush to the disk: data survives the server's death, not the machine's.
    """

    store: ClassVar[StoreName] = "etcd"
    PORTS: ClassVar[tuple[str, ...]] = ("http", "peer")

    def __init__(
        self,
        name: str = "server",
        *,
        auth: bool = False,
        password: str | None = None,
        tls: Tls | None = None,
        arguments: Sequence[str] = (),
        program: Program | None = None,
    ) -> None:
        """`auth` turns users on, with `.user` and `.password` for root.

        `tls` serves TLS only and requires client certificates. `password` is root's, instead of a
        new one; `arguments` go at the end of etcd's command line.
        """
        super().__init__(name, tls=tls, program=program)
        if auth and password is None:
            password = secrets.token_hex(8)
        self.user = "root" if password else None
        self.password = password
        self._extra = arguments

    async def call(self, path: str, body: Any, *, as_root: bool = True) -> Any:
        """Ask the JSON gateway: `await etcd.call("kv/range", {"key": …})`, keys in base64.

        As root when users are on, unless `as_root` is False. Raises `RequestRefused`.
        """
        headers = {}
        if as_root and self._furnished and self.user and self.password:
            headers["Authorization"] = await self.authenticate(self.user, self.password)
        answer = await self.request("POST", f"/v3/{path}", body=body, headers=headers)
        return answer.json()

    async def authenticate(self, name: str, password: str) -> str:
        """The token of a user. Raises `RequestRefused` for a wrong password."""
        body = {"name": name, "password": password}
        answer = await self.request("POST", "/v3/auth/authenticate", body=body)
        return str(answer.json()["token"])

    async def put(self, key: str, value: str) -> None:
        """Write a key. Raises `RequestRefused` or a time-out when there is no leader."""
        await self.call("kv/put", {"key": encode(key), "value": encode(value)})

    async def get(self, key: str) -> str | None:
        """Read a key through the quorum; None when there is none."""
        found = await self.call("kv/range", {"key": encode(key)})
        for entry in found.get("kvs", []):
            return base64.b64decode(entry.get("value", "")).decode()
        return None

    async def add_user(
        self,
        name: str,
        password: str,
        *,
        prefix: str | None = None,
        permission: Permission = "READWRITE",
    ) -> None:
        """Add a user with `permission` on all keys under `prefix`, or with none at all."""
        await self.call("auth/user/add", {"name": name, "password": password})
        if prefix is None:
            return
        grant = {
            "permType": permission,
            "key": encode(prefix),
            "range_end": encode(prefix_end(prefix)),
        }
        await self.call("auth/role/add", {"name": name})
        await self.call("auth/role/grant", {"name": name, "perm": grant})
        await self.call("auth/user/grant", {"user": name, "role": name})

    async def leads(self) -> bool:
        # Told to everybody, unlike its status since 3.6, and without a quorum, unlike a log-in.
        metrics = (await self.request("GET", "/metrics")).body
        return "\netcd_server_is_leader 1\n" in metrics

    async def _check_ready(self) -> bool:
        # etcd answers this with a read through the quorum, whatever the users may.
        answer = await self.request("GET", "/health")
        return bool(answer.json()["health"] == "true")

    async def _furnish(self) -> None:
        if self.password is None:
            return
        await self.call("auth/user/add", {"name": "root", "password": self.password})
        await self.call("auth/role/add", {"name": "root"})
        await self.call("auth/user/grant", {"user": "root", "role": "root"})
        await self.call("auth/enable", {})

    @property
    def _peer_url(self) -> str:
        return f"http://{self.host}:{self.port('peer')}"

    def _arguments(self) -> Sequence[str]:
        arguments = [
            f"--name={self.name}",
            f"--data-dir={self.data / 'member'}",
            f"--listen-client-urls={self.http_url}",
            f"--advertise-client-urls={self.http_url}",
            f"--listen-peer-urls={self._peer_url}",
            f"--initial-advertise-peer-urls={self._peer_url}",
            "--initial-cluster="
            + ",".join(f"{m.name}={m._peer_url}" for m in self.peers if isinstance(m, EtcdServer)),
            f"--initial-cluster-token={self.peers[0].port('peer')}",
            "--heartbeat-interval=50",
            "--election-timeout=500",
            "--unsafe-no-fsync",
            "--bcrypt-cost=4",
            "--logger=zap",
            "--log-level=error",
        ]
        if self.tls:
            arguments += [
                f"--cert-file={self.tls.server.cert_file}",
                f"--key-file={self.tls.server.key_file}",
                f"--trusted-ca-file={self.tls.ca_file}",
                "--client-cert-auth",
            ]
        return [*arguments, *self._extra]


class EtcdLearner(EtcdServer):
    """A member that learns and does not vote yet: `async with EtcdLearner(etcd) as learner`.

    It joins `voter`, as `etcdctl member add --learner` lets it, and serves no key and no watch.
    """

    def __init__(self, voter: EtcdServer, name: str = "learner") -> None:
        """`voter` runs already."""
        super().__init__(name, password=voter.password, tls=voter.tls, program=voter.program)
        self._voter = voter
        self._furnished = True  # by the voter

    async def __aenter__(self) -> Self:
        self.prepare()
        self.peers = [*self._voter.peers, self]
        await self._voter.call(
            "cluster/member/add", {"peerURLs": [self._peer_url], "isLearner": True}
        )
        await self.start()
        return self

    async def promote(self) -> None:
        """Makes it a voter."""
        members = (await self._voter.call("cluster/member/list", {}))["members"]
        own = next(each["ID"] for each in members if each.get("isLearner"))
        await self._voter.call("cluster/member/promote", {"ID": own})

    async def _check_ready(self) -> bool:
        try:
            await self.call("kv/range", {"key": encode("a")}, as_root=False)
        except RequestRefused as refused:
            return "learner" in refused.body
        return False

    def _arguments(self) -> Sequence[str]:
        return [*super()._arguments(), "--initial-cluster-state=existing"]


class EtcdCluster(StoreCluster[EtcdServer]):
    """etcd servers that elect a leader; `.store_url` names all of them."""

    def __init__(
        self,
        size: int = 3,
        *,
        auth: bool = False,
        tls: Tls | None = None,
        arguments: Sequence[str] = (),
        program: Program | None = None,
    ) -> None:
        """See `EtcdServer` for what is given. Users and root's password are the cluster's."""
        self.user = "root" if auth else None
        self.password = secrets.token_hex(8) if auth else None
        super().__init__(
            [
                EtcdServer(
                    f"server-{n}",
                    password=self.password,
                    tls=tls,
                    arguments=arguments,
                    program=program,
                )
                for n in range(1, size + 1)
            ]
        )

    @property
    def store_url(self) -> str:
        """`etcd://…` or `etcd+https://…` with every member's host and port, comma-separated."""
        hosts = ",".join(f"{member.host}:{member.http_port}" for member in self.members)
        return f"{self.members[0].store_url.partition('://')[0]}://{hosts}"

    async def put(self, key: str, value: str) -> None:
        """Write a key through the first member that answers; see `EtcdServer.put`."""
        await self.answering[0].put(key, value)

    async def get(self, key: str) -> str | None:
        """Read a key through the first member that answers; see `EtcdServer.get`."""
        return await self.answering[0].get(key)


def encode(text: str) -> str:
    """Text as the gateway wants keys and values: UTF-8 in base64."""
    return base64.b64encode(text.encode()).decode()


def prefix_end(prefix: str) -> str:
    """The first key after all keys with `prefix`, which must end below U+007F."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)
