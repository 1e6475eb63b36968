"""The servers that tests rely on do what they promise: start, keep data, elect, refuse, end."""

import asyncio
import base64
import shutil
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import aiohttp
import psutil
import pytest

from tests.stores import (
    ConsulAgent,
    ConsulCluster,
    ConsulServer,
    EtcdCluster,
    EtcdServer,
    RequestRefused,
    ServerFailed,
    StoreNotFound,
    Tls,
    binaries,
    container,
    until,
)
from tests.stores.waiting import bounded

SCRIPTS = Path(__file__).parents[2] / "scripts"
Server = type[ConsulServer] | type[EtcdServer]
Cluster = type[ConsulCluster] | type[EtcdCluster]

both_servers = pytest.mark.parametrize("kind", [ConsulServer, EtcdServer])
both_clusters = pytest.mark.parametrize("kind", [ConsulCluster, EtcdCluster])


@both_servers
async def test_data_survives_kill_and_stop_but_not_a_wipe(kind: Server) -> None:
    async with kind() as server:
        url = server.store_url
        await server.put("here", "still")
        await server.restart()
        assert await server.get("here") == "still"
        await server.stop()
        assert not server.running
        with pytest.raises(aiohttp.ClientConnectionError):
            await server.get("here")
        await server.start()
        assert await server.get("here") == "still"
        assert server.store_url == url
        with pytest.raises(RuntimeError, match="kill or stop it"):
            await server.wipe()
        await server.restart(wipe=True)
        assert await server.get("here") is None
        folder = server.folder
    assert not folder.exists()


@both_servers
async def test_a_paused_server_is_silent_until_it_is_resumed(kind: Server) -> None:
    async with kind() as server:
        await server.pause()
        assert server.running
        assert not server.answering
        with pytest.raises(TimeoutError):
            await bounded(server.get("key"), 0.5)
        await server.resume()
        assert await server.get("key") is None
        await server.pause()  # Closing a paused server must not hang.


@pytest.mark.parametrize("release", binaries.matrix(), indirect=True, scope="session")
async def test_a_leader_is_told_where_there_are_users() -> None:
    async with EtcdCluster(3, auth=True) as etcd, ConsulCluster(3, acl=True) as consul:
        for cluster in (etcd, consul):
            leader = await cluster.leader()
            assert [await each.leads() for each in cluster.members].count(True) == 1
            await leader.put("key", "value")


@both_clusters
async def test_a_cluster_writes_again_after_its_leader_was_killed(kind: Cluster) -> None:
    async with kind(3) as cluster:
        leader = await cluster.leader()
        await leader.put("before", "1")
        await leader.kill()
        successor = await cluster.leader()
        assert successor is not leader
        await successor.put("after", "2")
        await leader.start()
        assert await leader.get("before") == "1"
        assert await leader.get("after") == "2"

        for follower in await cluster.followers():
            await follower.kill()
        (last,) = cluster.answering
        assert await _has_no_quorum(last)
        for member in cluster.members:
            if not member.running:
                await member.start(wait=False)
        await cluster.ready()
        assert await last.get("after") == "2"


async def _has_no_quorum(member: ConsulServer | EtcdServer) -> bool:
    async def refused() -> bool:
        try:
            await bounded(member.get("before"), 1)
        except (RequestRefused, TimeoutError):
            return True
        return False

    return await until(refused, timeout=10, what="the loss of quorum")


@both_servers
async def test_tls_wants_a_client_certificate_of_its_own_ca(kind: Server, tmp_path: Path) -> None:
    tls, stranger = Tls(tmp_path / "ours"), Tls(tmp_path / "theirs")
    async with kind(tls=tls) as server:
        assert server.http_url.startswith("https://127.0.0.1:")
        assert server.store_url.startswith(f"{server.store}+https://127.0.0.1:")
        await server.put("key", "value")
        assert await server.get("key") == "value"
        url = server.http_url + "/"
        no_certificate = tls.client_context(with_certificate=False)
        for context in (no_certificate, stranger.client_context()):
            async with aiohttp.ClientSession() as session:
                with pytest.raises(aiohttp.ClientError):
                    await session.get(url, ssl=context)


@pytest.mark.parametrize("release", binaries.matrix(), indirect=True, scope="session")
async def test_a_consul_is_configured_as_its_release_wants(tmp_path: Path) -> None:
    async with ConsulServer(acl=True, tls=Tls(tmp_path)) as consul, ConsulAgent(consul) as agent:
        for node in (consul, agent):
            assert "deprecated" not in await node.process.log_tail(1000)


async def test_consul_acl_denies_what_a_token_does_not_allow() -> None:
    async with ConsulServer(acl=True) as consul:
        assert consul.token
        token = await consul.create_token('key_prefix "mine/" { policy = "write" }')
        await consul.api("PUT", "/v1/kv/mine/key", data="value", token=token)
        assert await consul.get("mine/key") == "value"
        with pytest.raises(RequestRefused) as refused:
            await consul.api("PUT", "/v1/kv/yours", data="value", token=token)
        assert refused.value.status == 403
        await consul.restart(wipe=True)
        await consul.put("management", "works")


async def test_a_consul_agent_joins_with_acl_and_tls_and_is_missed(tmp_path: Path) -> None:
    quick = {"gossip_lan": {"probe_interval": "200ms", "probe_timeout": "100ms"}}
    async with (
        ConsulServer(acl=True, tls=Tls(tmp_path), config=quick) as consul,
        ConsulAgent(consul, config=quick) as agent,
    ):
        await agent.put("from", "agent")
        assert await consul.get("from") == "agent"
        await agent.api("PUT", "/v1/agent/service/register", body={"Name": "thing"})
        await agent.kill()

        async def critical() -> bool:
            checks = await consul.api("GET", f"/v1/health/node/{agent.name}")
            return "critical" in {check["Status"] for check in checks.json()}

        await until(critical, timeout=20, what="serfHealth critical for the killed agent")


async def test_a_snapshot_is_saved_although_members_have_just_changed(tmp_path: Path) -> None:
    async with ConsulCluster(3, acl=True) as cluster:
        gone = (await cluster.followers())[0]
        await gone.stop()
        leader = await cluster.leader()
        members = (await leader.api("GET", "/v1/operator/raft/configuration")).json()["Servers"]
        [id] = [each["ID"] for each in members if each["Node"] == gone.name]
        await leader.api("DELETE", f"/v1/operator/raft/peer?id={id}")
        await leader.save_snapshot(tmp_path / "snapshot")
        await leader.put("came", "later")
        await leader.restore_snapshot(tmp_path / "snapshot")
        assert await leader.get("came") is None


async def test_consul_dns_answers_for_a_registered_service(consul_server: ConsulServer) -> None:
    service = {"Name": "dns-probe", "Address": "127.0.0.1", "Port": 1}
    await consul_server.api("PUT", "/v1/agent/service/register", body=service)

    async def answered() -> bool:
        return await asyncio.to_thread(_dns_answers, "dns-probe", consul_server.dns_port)

    await until(answered, timeout=5, what="a DNS answer")


def _dns_answers(service: str, port: int) -> bool:
    labels = [*f"{service}.service.consul".split("."), ""]
    name = b"".join(bytes([len(label)]) + label.encode() for label in labels)
    header = b"\x00\x01\x01\x00\x00\x01" + b"\x00" * 6
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(1)
        client.sendto(header + name + b"\x00\x01\x00\x01", ("127.0.0.1", port))
        answer = client.recv(512)
    return int.from_bytes(answer[6:8], "big") == 1 and answer.endswith(b"\x7f\x00\x00\x01")


async def test_etcd_users_may_do_what_they_were_granted() -> None:
    async with EtcdServer(auth=True) as etcd:
        assert etcd.password
        await etcd.put("mine/key", "value")
        await etcd.add_user("sidecar", "secret", prefix="mine/")
        await etcd.add_user("nobody", "secret")
        assert await _may_read(etcd, "sidecar", "mine/key")
        assert not await _may_read(etcd, "sidecar", "yours")
        assert not await _may_read(etcd, "nobody", "mine/key")
        with pytest.raises(RequestRefused):
            await etcd.authenticate("sidecar", "wrong")
        with pytest.raises(RequestRefused):
            await etcd.call("kv/range", {"key": "eA=="}, as_root=False)
        await etcd.restart()
        assert await etcd.get("mine/key") == "value"
        await etcd.restart(wipe=True)
        assert await etcd.get("mine/key") is None
        with pytest.raises(RequestRefused):
            await etcd.call("kv/range", {"key": "eA=="}, as_root=False)


async def _may_read(etcd: EtcdServer, user: str, key: str) -> bool:
    token = await etcd.authenticate(user, "secret")
    body = {"key": base64.b64encode(key.encode()).decode()}
    try:
        await etcd.request("POST", "/v3/kv/range", body=body, headers={"Authorization": token})
    except RequestRefused as refused:
        assert "permission denied" in refused.body
        return False
    return True


async def test_an_etcd_cluster_takes_users_and_tls_and_names_all_members(tmp_path: Path) -> None:
    async with EtcdCluster(3, auth=True, tls=Tls(tmp_path)) as cluster:
        ports = [member.http_port for member in cluster.members]
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        assert cluster.store_url == f"etcd+https://{hosts}"
        await cluster.put("key", "value")
        for member in cluster.members:
            assert await member.get("key") == "value"
        await cluster.restart(wipe=True)
        assert await cluster.get("key") is None


async def test_the_shared_servers_serve(
    consul_server: ConsulServer, etcd_server: EtcdServer, namespace: str
) -> None:
    for server in (consul_server, etcd_server):
        await server.put(f"{namespace}/key", "välue")
        assert await server.get(f"{namespace}/key") == "välue"


@both_servers
async def test_a_server_that_cannot_start_shows_the_end_of_its_log(kind: Server) -> None:
    broken = (
        ConsulServer(config={"no_such_setting": 1})
        if kind is ConsulServer
        else EtcdServer(arguments=["--name=stranger"])
    )
    with pytest.raises(ServerFailed, match=r"no_such_setting|stranger"):
        async with broken:
            pass
    assert not broken.running


@both_servers
async def test_a_port_lost_to_another_program_is_answered_with_new_ports(
    kind: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = kind()
    prepare = server.prepare
    drawn: list[int] = []
    with socket.socket() as thief:

        def prepare_and_lose() -> None:
            prepare()
            if not drawn:
                thief.bind(("127.0.0.1", server.http_port))
                thief.listen()
            drawn.append(server.http_port)

        monkeypatch.setattr(server, "prepare", prepare_and_lose)
        async with server:
            assert len(drawn) == 2
            assert server.http_port == drawn[1] != drawn[0]
            await server.put("key", "value")


def test_without_any_store_the_run_fails_and_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CONSUL_BIN", raising=False)
    monkeypatch.setattr(binaries, "STORES_FOLDER", tmp_path)
    monkeypatch.setattr(container, "daemon_answers", lambda: False)
    with pytest.raises(StoreNotFound, match="make stores"):
        binaries._find_debian.__wrapped__("consul")
    monkeypatch.setattr(container, "daemon_answers", lambda: True)
    monkeypatch.setenv("CONSUL_IMAGE", "mine:1")
    assert binaries._find_debian.__wrapped__("consul") == binaries.Image("mine:1", "consul")


def test_the_recent_release_comes_from_the_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("MCP_DISCOVERY_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(StoreNotFound, match=r"run `make stores`, or set STORES_MATRIX=debian"):
        binaries.find("etcd", "recent")
    for cache in ("mcp-discovery", "named"):
        program = tmp_path / cache / "stores" / "etcd-3.6.16" / "etcd"
        program.parent.mkdir(parents=True)
        program.touch(mode=0o755)
        assert binaries.find("etcd", "recent") == binaries.Binary(str(program))
        monkeypatch.setenv("MCP_DISCOVERY_CACHE", str(tmp_path / "named"))


@pytest.mark.parametrize("store", ["consul", "etcd"])
def test_what_is_built_is_what_is_looked_for(store: binaries.StoreName) -> None:
    version = binaries.RECENT_VERSIONS[store]
    assert f"\n{store}|{version}|" in (SCRIPTS / "build-stores").read_text()
    assert f" v{version}\n" in (SCRIPTS / store / "go.mod").read_text()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"STORES_MATRIX": "Debian"}, "STORES_MATRIX is 'Debian': set it to debian"),
        ({"STORES_MATRIX": "debian"}, "no newer Consul and etcd are built"),
        ({"PYTHON": "/bin/false"}, "there is no go 1.26 or later, and this machine's Python"),
        ({"PYTHON": "/bin/false"}, "STORES_MATRIX=debian goes without"),
        ({"MCP_DISCOVERY_CACHE": "/proc/cache"}, "set MCP_DISCOVERY_CACHE to a folder"),
    ],
)
def test_a_build_that_cannot_be_says_what_to_do(
    given: dict[str, str], said: str, tmp_path: Path
) -> None:
    """On a machine without Go."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for program in ("basename", "cat", "cksum", "dirname", "mkdir", "mktemp", "rm", "sed"):
        (programs / program).symlink_to(str(shutil.which(program)))
    environment = {"PATH": str(programs), "MCP_DISCOVERY_CACHE": str(tmp_path)} | given
    command = ("/bin/sh", str(SCRIPTS / "build-stores"))
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert said in done.stdout + done.stderr
    assert (done.returncode == 0) is (given == {"STORES_MATRIX": "debian"})
    assert not list(tmp_path.glob("stores/building.*"))


@pytest.mark.parametrize("release", binaries.matrix(), indirect=True, scope="session")
async def test_a_server_is_of_the_release_in_force(
    consul_server: ConsulServer, etcd_server: EtcdServer, release: binaries.Release
) -> None:
    """The shared servers, and those that a test starts itself."""
    async with ConsulServer() as consul, EtcdServer() as etcd:
        for server in (consul, consul_server):
            config = (await server.api("GET", "/v1/agent/self")).json()["Config"]
            wanted = binaries.RECENT_VERSIONS["consul"]
            assert (config["Version"] == wanted) is (release == "recent")
        for other in (etcd, etcd_server):
            said = (await other.request("GET", "/version")).json()
            wanted = binaries.RECENT_VERSIONS["etcd"]
            assert (said["etcdserver"] == wanted) is (release == "recent")


def test_the_matrix_leaves_the_recent_release_out_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("STORES_MATRIX", raising=False)
    assert binaries.matrix() == ("debian", "recent")
    assert binaries.left_out() is None
    monkeypatch.setenv("STORES_MATRIX", "debian")
    assert binaries.matrix() == ("debian",)
    assert "unset it to test over these as well" in str(binaries.left_out())
    monkeypatch.setenv("STORES_MATRIX", "Debian")
    with pytest.raises(ValueError, match="'Debian': set it to `debian`"):
        binaries.matrix()


def test_binaries_are_looked_for_in_the_documented_order(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    programs = {}
    for place in ("named/consul", "path/consul", "stores/consul/consul"):
        file = tmp_path / place
        file.parent.mkdir(parents=True)
        file.touch(mode=0o755)
        programs[place.partition("/")[0]] = file
    monkeypatch.setattr(binaries, "STORES_FOLDER", tmp_path / "stores")
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setenv("CONSUL_BIN", str(programs["named"]))
    find = binaries._find_debian.__wrapped__
    assert find("consul") == binaries.Binary(str(programs["named"]))
    monkeypatch.delenv("CONSUL_BIN")
    assert find("consul") == binaries.Binary(str(programs["path"]))
    programs["path"].unlink()
    assert find("consul") == binaries.Binary(str(programs["stores"]))
    monkeypatch.setenv("CONSUL_BIN", str(tmp_path / "absent"))
    with pytest.raises(StoreNotFound, match="CONSUL_BIN"):
        find("consul")


def test_local_servers_die_with_a_killed_test_run(tmp_path: Path) -> None:
    run = textwrap.dedent(
        """
        import asyncio, pathlib, sys
        from tests.stores.process import LocalProcess

        async def main() -> None:
            server = LocalProcess(sys.executable, pathlib.Path(sys.argv[1]))
            await server.start(["-c", "import signal; signal.pause()"])
            print(server.pid, flush=True)
            await asyncio.Event().wait()

        asyncio.run(main())
        """
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", run, str(tmp_path / "log")],
        cwd=root,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            assert child.stdout is not None
            server = psutil.Process(int(child.stdout.readline()))
        finally:
            child.kill()
    server.wait(5)
