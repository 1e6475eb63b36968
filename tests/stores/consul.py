"""Real Consul: a server, a cluster of servers, and client agents, for tests."""

import base64
import json
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from tests.stores import binaries
from tests.stores.binaries import Binary, Program, StoreName
from tests.stores.cluster import StoreCluster
from tests.stores.process import run_tool
from tests.stores.server import Answer, RequestRefused, StoreServer
from tests.stores.tls import Tls
from tests.stores.waiting import NotYet, until


class _ConsulNode(StoreServer):
    """What servers and client agents have in common."""

    store: ClassVar[StoreName] = "consul"
    PORTS: ClassVar[tuple[str, ...]] = ("http", "dns", "serf_lan", "server")

    def __init__(
        self,
        name: str,
        *,
        token: str | None,
        tls: Tls | None,
        config: Mapping[str, Any] | None,
        program: Program | None,
    ) -> None:
        super().__init__(name, tls=tls, program=program)
        self.token = token
        """The management token with ACLs on, else None."""
        self._config = config or {}

    @property
    def dns_port(self) -> int:
        """The port of Consul DNS, by UDP and by TCP."""
        return self.port("dns")

    async def api(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        data: bytes | str | None = None,
        token: str | None = None,
    ) -> Answer:
        """`request` with a token, by default the management token."""
        token = token or self.token
        headers = {"X-Consul-Token": token} if token else {}
        return await self.request(method, path, body=body, data=data, headers=headers)

    async def put(self, key: str, value: str) -> None:
        """Write a KV entry. Raises `RequestRefused` when there is no leader."""
        await self.api("PUT", f"/v1/kv/{key}", data=value)

    async def get(self, key: str) -> str | None:
        """Read a KV entry consistently; None when there is none."""
        try:
            answer = await self.api("GET", f"/v1/kv/{key}?consistent")
        except RequestRefused as refused:
            if refused.status == 404:
                return None
            raise
        return base64.b64decode(answer.json()[0]["Value"] or "").decode()

    async def create_token(self, rules: str) -> str:
        """A new ACL token that may do what `rules` (HCL) say, and nothing else.

        On a store with ACLs. Raises `RequestRefused` when Consul does not accept the rules.
        """
        policy = {"Name": f"test-{uuid.uuid4().hex}", "Rules": rules}
        await self.api("PUT", "/v1/acl/policy", body=policy)
        token = {"Policies": [{"Name": policy["Name"]}]}
        answer = await self.api("PUT", "/v1/acl/token", body=token)
        return str(answer.json()["SecretID"])

    async def leads(self) -> bool:
        stats = (await self.api("GET", "/v1/agent/self")).json()["Stats"]
        return bool(stats["consul"].get("leader") == "true")

    async def _check_ready(self) -> bool:
        # The leader has registered this very node, read through the quorum: both directions work.
        path = f"/v1/health/node/{self.name}?consistent"
        checks = (await self.api("GET", path)).json()
        if not any(c["CheckID"] == "serfHealth" and c["Status"] == "passing" for c in checks):
            return False
        if self.token:
            # Consul starts with its legacy ACLs and changes over once it knows all servers.
            await self.api("GET", "/v1/acl/policies")
        return True

    async def _furnish(self) -> None:
        """Nothing: the configuration brings the management token."""

    def _arguments(self) -> Sequence[str]:
        file = self.folder / "config.json"
        file.write_text(json.dumps(_merge(self._settings(), self._config)))
        return ["agent", f"-config-file={file}"]

    def _settings(self) -> dict[str, Any]:
        used, unused = ("https", "http") if self.tls else ("http", "https")
        ports = {
            used: self.http_port,
            unused: -1,
            "dns": self.dns_port,
            "serf_lan": self.port("serf_lan"),
            "serf_wan": -1,
            "server": self.port("server"),
            "grpc": -1,
        }
        version = binaries.version(self.program)
        if version >= (1, 14):
            ports["grpc_tls"] = -1  # On by default from then on, and unknown before.
        settings: dict[str, Any] = {
            "node_name": self.name,
            "data_dir": str(self.data),
            "bind_addr": self.host,
            "client_addr": self.host,
            "ports": ports,
            "retry_interval": "1s",
            "performance": {"raft_multiplier": 1},
            "check_update_interval": "0s",
            "disable_update_check": True,
        }
        if self.token:
            settings["acl"] = {
                "enabled": True,
                "default_policy": "deny",
                "tokens": {
                    "initial_management" if version >= (1, 11) else "master": self.token,
                    "agent": self.token,
                },
            }
        if self.tls:
            tls = {
                "ca_file": str(self.tls.ca_file),
                "cert_file": str(self.tls.server.cert_file),
                "key_file": str(self.tls.server.key_file),
                "verify_incoming": True,
                "verify_outgoing": True,
            }
            settings |= {"tls": {"defaults": tls}} if version >= (1, 12) else tls
        return settings


class ConsulServer(_ConsulNode):
    """One Consul server: `async with ConsulServer() as consul`, then `consul.store_url`.

    Timers are Consul's shortest for a leader's election; everything else, the gossip included, is
    as shipped.
    """

    def __init__(
        self,
        name: str = "server",
        *,
        acl: bool = False,
        token: str | None = None,
        tls: Tls | None = None,
        config: Mapping[str, Any] | None = None,
        program: Program | None = None,
    ) -> None:
        """`acl` denies by default and sets `.token`, which keeps its value when data is wiped.

        `tls` serves HTTPS only and requires client certificates. `token` is a management token to
        use instead of a new one, `config` is merged over the agent's configuration.
        """
        if acl and token is None:
            token = str(uuid.uuid4())
        super().__init__(name, token=token, tls=tls, config=config, program=program)

    def _settings(self) -> dict[str, Any]:
        return super()._settings() | {
            "server": True,
            "bootstrap_expect": len(self.peers),
            "retry_join": _gossip_addresses(peer for peer in self.peers if peer is not self),
            # A server that a test cuts off must be let in again.
            "autopilot": {"cleanup_dead_servers": False},
        }

    async def save_snapshot(self, file: Path) -> None:
        """Write a snapshot to `file` with Consul's own command; ask the leader of a cluster.

        Raises `RuntimeError` with what the command said when it fails.
        """

        async def saved() -> bool:
            # Raft takes no snapshot before an entry was applied after the last change of members:
            # https://github.com/hashicorp/raft/issues/617
            await self.put("snapshot/saved-at", str(time.time()))
            try:
                await self._snapshot("save", file)
            except RuntimeError as error:
                if "cannot take snapshot now" in str(error):
                    raise NotYet(str(error)) from error
                raise
            return True

        await until(saved, timeout=30, what="a snapshot of Consul")

    async def restore_snapshot(self, file: Path) -> None:
        """Put what `save_snapshot` wrote in place of what is there. Raises as it does."""
        await self._snapshot("restore", file)

    async def _snapshot(self, what: str, file: Path) -> None:
        assert isinstance(self.program, Binary)
        token = [f"-token={self.token}"] if self.token else []
        where = (f"-http-addr={self.http_url}", *token)
        await run_tool(self.program.path, "snapshot", what, *where, str(file))


class ConsulAgent(_ConsulNode):
    """A client agent of a server or of a cluster, the way Consul runs beside an application.

    It inherits ACLs (with the management token) and TLS. Several agents are several nodes.
    """

    def __init__(
        self,
        servers: "ConsulServer | ConsulCluster",
        name: str | None = None,
        *,
        config: Mapping[str, Any] | None = None,
        program: Program | None = None,
    ) -> None:
        """`servers` run already; `name` is the node's, by default a new one."""
        self._servers = servers.members if isinstance(servers, ConsulCluster) else [servers]
        first = self._servers[0]
        super().__init__(
            name or f"agent-{uuid.uuid4().hex[:8]}",
            token=first.token,
            tls=first.tls,
            config=config,
            program=program or first.program,
        )

    def _settings(self) -> dict[str, Any]:
        return super()._settings() | {"retry_join": _gossip_addresses(self._servers)}


class ConsulCluster(StoreCluster[ConsulServer]):
    """Consul servers that elect a leader. Each has an HTTP API of its own: pick from `members`."""

    def __init__(
        self,
        size: int = 3,
        *,
        acl: bool = False,
        tls: Tls | None = None,
        config: Mapping[str, Any] | None = None,
        program: Program | None = None,
    ) -> None:
        """See `ConsulServer` for what is given. All members have the same management token."""
        self.token = str(uuid.uuid4()) if acl else None
        super().__init__(
            [
                ConsulServer(
                    f"server-{n}", token=self.token, tls=tls, config=config, program=program
                )
                for n in range(1, size + 1)
            ]
        )


def _gossip_addresses(nodes: Iterable[StoreServer]) -> list[str]:
    return [f"{node.host}:{node.port('serf_lan')}" for node in nodes]


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            merged[key] = _merge(below, value)
        else:
            merged[key] = value
    return merged
