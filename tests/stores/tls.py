"""A private certificate authority for a store that requires client certificates."""

import secrets
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import trustme


@dataclass(frozen=True)
class Certificate:
    """A certificate chain and its private key, as PEM files."""

    cert_file: Path
    key_file: Path


class Tls:
    """A private CA, a server certificate for 127.0.0.1 and localhost, and a client certificate.

    Two of these do not trust each other, which gives a test its stranger.
    """

    def __init__(self, folder: Path, *, client_name: str | None = None) -> None:
        """Write all files to a new folder inside `folder` (a test's `tmp_path`).

        `client_name` is the common name of the client certificate. It has none by default: etcd's
        JSON gateway refuses every request that comes with a named one once users are on.
        """
        self.folder = folder / "tls"
        self.folder.mkdir(parents=True)
        self._ca = trustme.CA(organization_name="mcp-discovery tests")
        self.ca_file = self.folder / "ca.pem"
        self._ca.cert_pem.write_to_path(str(self.ca_file))
        # No common name here either: etcd's gateway shows this certificate to etcd itself.
        self.server = self._issue("server", "127.0.0.1", "localhost", "server.dc1.consul")
        self.client = self._issue("client", "client.invalid", common_name=client_name)

    def client_context(self, *, with_certificate: bool = True) -> ssl.SSLContext:
        """A context that trusts the CA, and presents the client certificate unless told not to."""
        context = ssl.create_default_context(cafile=str(self.ca_file))
        if with_certificate:
            context.load_cert_chain(self.client.cert_file, self.client.key_file)
        return context

    def lasting(
        self, seconds: float, *, ago: float = 60.0, names: Sequence[str] = ("client.invalid",)
    ) -> Certificate:
        """A certificate, issued `ago` seconds before now, that expires in `seconds`."""
        now = datetime.now(UTC)
        return self._issue(
            f"issued-{secrets.token_hex(4)}",
            *names,
            not_before=now - timedelta(seconds=ago),
            not_after=now + timedelta(seconds=seconds),
        )

    def _issue(self, stem: str, *names: str, **other: Any) -> Certificate:
        issued = self._ca.issue_cert(*names, **other)
        files = Certificate(self.folder / f"{stem}.pem", self.folder / f"{stem}-key.pem")
        files.cert_file.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(files.key_file))
        return files
