"""CoreDNS from ``deploy/coredns/Corefile``, edited as its first comment says, and dig."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.tools import program
from tests.programs import ROOT
from tests.stores import ports
from tests.stores.etcd import EtcdServer
from tests.stores.waiting import NotYet, bounded, until

FILE = ROOT / "deploy" / "coredns" / "Corefile"
#: The endpoints as they stand in the file.
_ENDPOINTS = "https://10.0.0.11:2379 https://10.0.0.12:2379 https://10.0.0.13:2379"


class NoAnswer(NotYet):
    """dig got no answer, or one that says that the server failed."""


@dataclass(frozen=True)
class CoreDns:
    """A name server that runs; ``log`` is the file of what it says."""

    port: int
    log: Path

    async def ask(self, name: str, kind: str) -> list[str]:
        """The answer section: the data of the records, sorted. Raises :class:`NoAnswerError`."""
        (answer,) = await self.ask_all([(name, kind)])
        return answer

    async def ask_all(self, questions: Sequence[tuple[str, str]]) -> list[list[str]]:
        """The answers to several questions, asked by one dig one after the other."""
        each = ("+time=3", "+tries=1", "+noall", "+answer", "+comments")
        process = await asyncio.create_subprocess_exec(
            *(program("dig"), "@127.0.0.1", "-p", str(self.port)),
            *(word for name, kind in questions for word in (name, kind, *each)),
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await bounded(process.communicate(), 5 + 3 * len(questions))
        _, *answers = out.decode().split(";; ->>HEADER<<-")
        if len(answers) != len(questions):
            raise NoAnswer(f"{len(answers)} answers to {questions}: {out.decode()}")
        return [_read(text, question) for text, question in zip(answers, questions, strict=True)]


def _read(text: str, question: tuple[str, str]) -> list[str]:
    status = re.search(r"status: (\w+)", text)
    if status is None or status[1] not in ("NOERROR", "NXDOMAIN"):
        raise NoAnswer(f"{question}: {status[1] if status else 'no answer'}")
    _, *rest = text.splitlines()
    lines = [line.split(None, 4) for line in rest if line and line[0] != ";"]
    return sorted(line[4] for line in lines)


@asynccontextmanager
async def coredns(
    folder: Path,
    server: EtcdServer,
    *,
    user: str = "",
    password: str = "",
    domain: str = "example.internal",
    more: Sequence[tuple[str, str]] = (),
) -> AsyncIterator[CoreDns]:
    """Runs CoreDNS over ``server`` until the block ends.

    ``more`` are other edits. Without ``user`` the line with the credentials is left out, and
    without TLS on the server the one with the certificates.
    """
    port, health = ports.draw(), ports.draw()
    text = FILE.read_text()
    edits = [
        (_ENDPOINTS, server.http_url),
        ("example.internal:53", f"{domain}:{port.number}"),
        (".:53", f".:{port.number}"),
        ("    errors\n", "    errors\n    bind 127.0.0.1\n"),
        ("127.0.0.1:8080", f"127.0.0.1:{health.number}"),
        ("/etc/resolv.conf", "127.0.0.1:1"),  # nobody is there
        *more,
    ]
    if not user:
        edits.append(("        credentials {$ETCD_DNS_USER} {$ETCD_DNS_PASSWORD}\n", ""))
    if server.tls is None:
        text = re.sub(r"^ +tls .*\n", "", text, flags=re.MULTILINE)
    else:
        edits += [
            ("/etc/coredns/etcd/client.pem", str(server.tls.client.cert_file)),
            ("/etc/coredns/etcd/client-key.pem", str(server.tls.client.key_file)),
            ("/etc/coredns/etcd/ca.pem", str(server.tls.ca_file)),
        ]
    for before, after in edits:
        assert before in text, f"the Corefile has no {before}"
        text = text.replace(before, after)
    path, log = folder / "Corefile", folder / "coredns.log"
    path.write_text(text)
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *(program("coredns"), "-conf", str(path)),
            env=os.environ | {"ETCD_DNS_USER": user, "ETCD_DNS_PASSWORD": password},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    try:
        started = CoreDns(port.number, log)

        async def listens() -> bool:
            if process.returncode is not None:
                raise RuntimeError(f"CoreDNS ended: {log.read_text()}")
            _, writer = await asyncio.open_connection("127.0.0.1", port.number)
            writer.close()
            return True

        await until(listens, timeout=15, what="CoreDNS listening")
        yield started
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        port.release()
        health.release()
