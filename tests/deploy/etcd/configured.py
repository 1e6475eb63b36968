"""etcd started from ``deploy/etcd/etcd.conf.yml``, edited as its first comment says."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar

import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.programs import ROOT
from tests.stores.cluster import StoreCluster
from tests.stores.etcd import EtcdServer
from tests.stores.tls import Certificate, Tls

FILE = ROOT / "deploy" / "etcd" / "etcd.conf.yml"


class Papers(Tls):
    """All that lies in ``/etc/etcd/tls/``, and certificates that must not be taken."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        peers = trustme.CA(organization_name="mcp-discovery peers")
        peers.cert_pem.write_to_path(str(self.folder / "peer-ca.pem"))
        peer = peers.issue_cert("127.0.0.1")
        peer.private_key_pem.write_to_path(str(self.folder / "peer-key.pem"))
        (self.folder / "peer.pem").write_bytes(b"".join(b.bytes() for b in peer.cert_chain_pems))
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        (self.folder / "token-key.pem").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            )
        )
        (self.folder / "token.pem").write_bytes(
            key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )

    def expired(self, stem: str, *names: str) -> Certificate:
        """A certificate that was good until yesterday."""
        issued = self._ca.issue_cert(*names, not_after=datetime.now(UTC) - timedelta(days=1))
        files = Certificate(self.folder / f"{stem}.pem", self.folder / f"{stem}-key.pem")
        files.cert_file.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(files.key_file))
        return files

    def named(self, common_name: str) -> Certificate:
        """A client certificate with a common name, which etcd takes for a user's."""
        return self._issue("named", "client.invalid", common_name=common_name)


class ConfiguredEtcd(EtcdServer):
    """A member that runs from the file alone; ``number`` is which of the three it is."""

    PORTS: ClassVar[tuple[str, ...]] = ("http", "peer", "metrics")

    def __init__(
        self,
        number: int,
        papers: Tls,
        password: str | None = None,
        *,
        more: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Users are on with a ``password``, which is root's. ``more``: other lines to
        edit, as they are and as they should be."""
        super().__init__(f"etcd-{number}", tls=papers, password=password)
        self._number = number
        self._papers = papers
        self._more = more

    def _arguments(self) -> Sequence[str]:
        path = self.folder / "etcd.conf.yml"
        path.write_text(self._edited())
        return [f"--config-file={path}"]

    def _edited(self) -> str:
        members = [each for each in self.peers if isinstance(each, ConfiguredEtcd)]
        lines = []
        for line in FILE.read_text().splitlines():
            if line.endswith("# own"):
                line = line.replace("etcd-1", self.name).replace("10.0.0.11", self._address)
            if line.startswith("initial-cluster:"):
                names = (f"{each.name}=https://{each._address}:2380" for each in members)
                line = "initial-cluster: " + ",".join(names)
            lines.append(line)
        text = "\n".join(lines) + "\n"
        for before, after in (
            ("/etc/etcd/tls", str(self._papers.folder)),
            ("/var/lib/etcd", str(self.data / "member")),
            ("http://127.0.0.1:2381", f"http://{self.host}:{self.port('metrics')}"),
            *self._more,
        ):
            assert before in text, f"the file has no {before}"
            text = text.replace(before, after)
        for each in members:
            text = text.replace(f"{each._address}:2379", f"{each.host}:{each.port('http')}")
            text = text.replace(f"{each._address}:2380", f"{each.host}:{each.port('peer')}")
        return text

    @property
    def _address(self) -> str:
        return f"10.0.0.1{self._number}"


def configured_cluster(papers: Papers) -> StoreCluster[ConfiguredEtcd]:
    """The three members of the file, with root and users on."""
    password = secrets.token_hex(8)
    return StoreCluster([ConfiguredEtcd(number, papers, password) for number in (1, 2, 3)])
