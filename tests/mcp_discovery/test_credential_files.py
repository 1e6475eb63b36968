"""Files of credentials that are rotated in the ways that people and programs rotate them."""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from mcp_discovery import credential_files
from mcp_discovery.credential_files import Secret, looking, read_again
from mcp_discovery.errors import InvalidInputError
from mcp_discovery.listener_tls import ListenerTLS
from mcp_discovery.tls_files import TLSFiles
from tests.stores.tls import Tls
from tests.stores.waiting import until_holds

ROTATED = "has changed; it counts from now on"


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks often, which tests should not have to wait for."""
    monkeypatch.setattr(credential_files, "CHECK_EVERY", 0.02)
    monkeypatch.setattr(credential_files, "SETTLED", 0.1)


def in_place(file: Path, text: str) -> None:
    file.write_text(text)


def renamed_into_place(file: Path, text: str) -> None:
    new = file.with_name("new")
    new.write_text(text)
    # As `cp -p` and some secret stores leave it: no newer than what it takes the place of.
    os.utime(new, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    new.rename(file)


def removed_and_written(file: Path, text: str) -> None:
    file.unlink()
    file.write_text(text)


def another_link(file: Path, text: str) -> None:
    target = file.with_name(f"version-{text.strip()}")
    target.write_text(text)
    link = file.with_name("link")
    link.symlink_to(target)
    link.rename(file)


WAYS = [in_place, renamed_into_place, removed_and_written, another_link]


def is_current(secret: Secret, text: str) -> bool:
    return secret.current() == text


@pytest.mark.parametrize("way", WAYS)
async def test_a_rotated_secret_is_used(
    tmp_path: Path, way: Callable[[Path, str], None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    file = tmp_path / "token"
    file.write_text("first\n")
    secret = Secret("store token", None, str(file))
    for text in ("other", "third"):
        way(file, f" {text}\n")
        await until_holds(partial(is_current, secret, text), timeout=5, what=text)
    assert caplog.text.count(f"{file} {ROTATED}") == 2
    assert not {"first", "other", "third"} & set(caplog.text.split())


async def test_kubernetes_swaps_a_folder(tmp_path: Path) -> None:
    """``token`` → ``..data/token``, where ``..data`` is a link to a folder that is replaced."""
    for version in ("1", "2"):
        (tmp_path / f"..{version}").mkdir()
        (tmp_path / f"..{version}" / "token").write_text(f"version-{version}")
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "token").symlink_to("..data/token")
    secret = Secret("store token", None, str(tmp_path / "token"))
    assert secret.current() == "version-1"
    (tmp_path / "..data_tmp").symlink_to("..2")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    await until_holds(lambda: secret.current() == "version-2", timeout=5, what="the new version")


async def test_a_file_that_cannot_be_used_leaves_the_last_good_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "token"
    file.write_text("good")
    secret = Secret("store token", None, str(file))

    def warned(text: str) -> Callable[[], bool]:
        return lambda: secret.current() == "good" and text in caplog.text

    file.unlink()
    await until_holds(warned("No such file"), timeout=5, what="a warning of its end")
    file.write_text("")
    await until_holds(warned("it is empty"), timeout=5, what="a warning of nothing")
    file.write_bytes(b"\xff\xfe")
    await until_holds(warned("it is not text"), timeout=5, what="a warning of bytes")
    file.write_text("a\nb")
    await until_holds(warned("no HTTP header"), timeout=5, what="a warning of two lines")
    assert len(caplog.records) == 4
    assert secret.renewed() == "good"
    assert len(caplog.records) == 4, "each fault is told once"
    file.write_text("better")
    await until_holds(lambda: secret.current() == "better", timeout=5, what="the next good one")


async def test_what_is_half_written_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credential_files, "SETTLED", 0.3)
    file = tmp_path / "token"
    file.write_text("first")
    secret = Secret("store token", None, str(file))
    seen = set()
    with file.open("w", buffering=1) as writing:
        for piece in ("sec", "ond", "-one"):
            writing.write(piece)
            writing.flush()
            for _ in range(100):
                seen.add(secret.current())
    assert seen == {"first"}
    await until_holds(lambda: secret.current() == "second-one", timeout=5, what="the whole of it")


async def test_one_that_was_refused_is_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credential_files, "CHECK_EVERY", 3600.0)
    file = tmp_path / "token"
    file.write_text("first")
    secret, other = Secret("store token", None, str(file)), Secret("store token", None, str(file))
    file.write_text("other")
    assert (secret.current(), secret.renewed(), secret.current()) == ("first", "other", "other")
    assert other.current() == "first"
    read_again()  # as SIGHUP does
    assert other.current() == "other"


@pytest.mark.parametrize(
    ("content", "problem"),
    [(None, "cannot read"), ("", "it is empty"), ("a\nb", "no HTTP header carries")],
)
def test_at_the_start_it_has_to_be_there(tmp_path: Path, content: str | None, problem: str) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
    with pytest.raises(InvalidInputError, match=problem) as caught:
        Secret("store token", None, str(file))
    assert str(file) in str(caught.value)


def test_a_value_that_is_given_itself_stays(tmp_path: Path) -> None:
    assert Secret("store token", "value").renewed() == "value"
    assert Secret("store token", None).current() is None
    file = tmp_path / "token"
    file.write_text("other")
    with pytest.raises(InvalidInputError, match="give one of them"):
        Secret("store token", "value", str(file))
    assert Secret("store password", "ä\n", in_header=False).current() == "ä\n"


async def test_a_certificate_waits_for_its_key(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mine, next_ = Tls(tmp_path / "1"), Tls(tmp_path / "2")
    cert, key, ca = mine.client.cert_file, mine.client.key_file, mine.ca_file
    followed = TLSFiles(str(ca), str(cert), str(key))
    first = followed.current()
    assert isinstance(first, ssl.SSLContext)
    cert.write_bytes(next_.client.cert_file.read_bytes())

    def mismatch() -> bool:
        return followed.current() is first and "store-key is not the key of" in caplog.text

    await until_holds(mismatch, timeout=5, what="a warning")
    assert followed.renewed() is first
    assert len(caplog.records) == 1
    key.write_bytes(next_.client.key_file.read_bytes())
    await until_holds(lambda: followed.current() is not first, timeout=5, what="the new pair")
    second = followed.current()
    ca.write_bytes(next_.ca_file.read_bytes())
    await until_holds(lambda: followed.current() is not second, timeout=5, what="the new CA")
    third = followed.current()
    os.utime(ca)
    assert followed.renewed() is third, "nothing is new in a file that was only touched"


async def test_the_key_that_comes_in_time_is_no_fault(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look between the two writes finds a pair that does not fit, and says nothing of it."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(credential_files, "CHECK_EVERY", 0.5)
    mine, next_ = Tls(tmp_path / "1"), Tls(tmp_path / "2")
    cert, key = mine.client.cert_file, mine.client.key_file
    followed = TLSFiles(None, str(cert), str(key))
    first = followed.current()
    cert.write_bytes(next_.client.cert_file.read_bytes())
    files = followed._files
    assert files is not None

    def seen() -> bool:
        followed.current()
        return files.unused is not None and "not the key of" in files.unused

    await until_holds(seen, timeout=5, what="a look at the pair")
    assert not caplog.records
    key.write_bytes(next_.client.key_file.read_bytes())
    await until_holds(lambda: followed.current() is not first, timeout=5, what="the new pair")
    assert [each.getMessage() for each in caplog.records] == [
        f"{cert} and {key} have changed; they count from now on"
    ]


async def test_what_is_mended_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    file, aside = tmp_path / "token", tmp_path / "aside"
    file.write_text("good")
    secret = Secret("store token", None, str(file))

    def said(text: str) -> Callable[[], bool]:
        def look() -> bool:
            secret.current()
            return bool(caplog.records) and text in caplog.records[-1].getMessage()

        return look

    broken = f"what was read before stays in use: cannot use {file} for the store token: it is"
    mended = f"{file} can be used again"
    file.rename(aside)
    file.write_text("")
    await until_holds(said(broken), timeout=5, what="the fault")
    aside.rename(file)  # the file itself again, or one with the same in it, or with something else
    await until_holds(said(f"{mended}, and is as it was before"), timeout=5, what="its end")
    for text, says in (("good", ", and is as it was before"), ("new", "; it counts from now on")):
        file.write_text("")
        await until_holds(said(broken), timeout=5, what="the fault")
        file.write_text(text)
        await until_holds(said(f"{mended}{says}"), timeout=5, what="its end")
    assert secret.current() == "new"
    assert len(caplog.records) == 6


async def test_a_listener_without_connections_tells_of_its_files_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    mine, next_ = Tls(tmp_path / "1"), Tls(tmp_path / "2")
    cert, key = mine.server.cert_file, mine.server.key_file
    listener = ListenerTLS(str(cert), str(key))  # nobody connects

    def said(text: str) -> Callable[[], bool]:
        return lambda: text in caplog.text

    async with looking():
        cert.write_bytes(next_.server.cert_file.read_bytes())
        await until_holds(said("tls-key is not the key of"), timeout=5, what="a warning")
        key.write_bytes(next_.server.key_file.read_bytes())
        again = f"{cert} and {key} can be used again; they count from now on"
        await until_holds(said(again), timeout=5, what="the new pair")
    assert listener.certificates()


def test_tls_files_that_cannot_be_used(tmp_path: Path) -> None:
    tls = Tls(tmp_path)
    cert, key = str(tls.client.cert_file), str(tls.client.key_file)
    with pytest.raises(InvalidInputError, match="give both"):
        TLSFiles(None, cert, None)
    with pytest.raises(InvalidInputError, match="cannot read /no/such/file"):
        TLSFiles("/no/such/file", None, None)
    with pytest.raises(InvalidInputError, match="cannot use"):
        TLSFiles(key, None, None)
    assert TLSFiles(None, cert, key).current() is not None
    assert TLSFiles(None, None, None).renewed() is None
