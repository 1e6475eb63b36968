"""Saves a cluster's data and brings it back, with the stores' own tools."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.stores import ConsulCluster, EtcdCluster, binaries
from tests.stores.etcd import restorer
from tests.stores.process import run_tool


async def save(cluster: ConsulCluster | EtcdCluster, file: Path) -> None:
    """Writes a snapshot of ``cluster`` to ``file``."""
    file.unlink(missing_ok=True)
    if isinstance(cluster, ConsulCluster):
        await (await cluster.leader()).save_snapshot(file)
        return
    member = cluster.answering[0]
    login = ["--user", f"{cluster.user}:{cluster.password}"] if cluster.user else []
    etcdctl = binaries.tool(member.program, "etcdctl")
    await run_tool(etcdctl, f"--endpoints={member.http_url}", *login, "snapshot", "save", str(file))


async def restore(cluster: ConsulCluster | EtcdCluster, file: Path) -> None:
    """Puts what :func:`save` wrote in place of what ``cluster`` has, and waits until it serves."""
    if isinstance(cluster, ConsulCluster):
        await (await cluster.leader()).restore_snapshot(file)
        await cluster.ready()
        return
    for member in cluster.members:
        await member.kill()
    peers = ",".join(f"{each.name}={each._peer_url}" for each in cluster.members)
    for member in cluster.members:
        shutil.rmtree(member.data / "member")
        await run_tool(
            *(restorer(member.program), "snapshot", "restore", str(file), "--name", member.name),
            *("--data-dir", str(member.data / "member"), "--initial-cluster", peers),
            *("--initial-cluster-token", str(cluster.members[0].port("peer"))),
            *("--initial-advertise-peer-urls", member._peer_url),
        )
    for member in cluster.members:
        await member.start(wait=False)
    await cluster.ready()
