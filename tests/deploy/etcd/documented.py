"""etcd as ``docs/etcd.md`` sets it up: certificates, a member and users by its own commands."""

from __future__ import annotations

import os
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.deploy.etcd import page
from tests.deploy.etcd.configured import ConfiguredEtcd
from tests.deploy.etcd.roles import etcdctl
from tests.programs import ROOT
from tests.stores.tls import Certificate, Tls


class DocumentedPapers(Tls):
    """What the page's first step makes, in ``folder``, in the place of the tests' own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.ca_file = folder, folder / "ca.pem"
        _run(page.example("# certificates"), folder)
        self.server, self.client = (
            Certificate(folder / f"{stem}.pem", folder / f"{stem}-key.pem")
            for stem in ("server", "client")
        )

    def client_context(self, *, with_certificate: bool = True) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.ca_file))
        if with_certificate:
            context.load_cert_chain(self.client.cert_file, self.client.key_file)
        return context


@asynccontextmanager
async def documented_etcd(folder: Path) -> AsyncIterator[ConfiguredEtcd]:
    """One member, whose files and ``…-password-file`` are in ``folder``. Of the page's commands
    nothing is changed but etcd's address."""
    folder.mkdir()
    papers = DocumentedPapers(folder)
    for who in ("root", "sidecar", "facade", "coredns"):
        (folder / f"{who}-password-file").write_text(f"s3cr3t-of-{who}\n")
    (folder / "deploy").symlink_to(ROOT / "deploy")
    async with ConfiguredEtcd(1, papers) as server:
        steps = page.example("export ETCDCTL_API=3 ETCDCTL_ENDPOINTS")
        assert "https://10.0.0.11:2379" in steps
        said = _run(steps.replace("https://10.0.0.11:2379", server.http_url), folder)
        assert "s3cr3t" not in said
        yield server


def _run(script: str, folder: Path) -> str:
    """All that the commands say; raises :class:`AssertionError` with it where one fails."""
    done = subprocess.run(
        ["sh", "-eu", "-c", script],
        cwd=folder,
        env={"PATH": f"{Path(etcdctl()).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
