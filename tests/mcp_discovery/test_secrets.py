"""What looks like a secret is found wherever it is put, and looking for it takes little time."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_discovery import secrets
from mcp_discovery.errors import SecretInRecordError
from mcp_discovery.health import utcnow
from mcp_discovery.record import Record

_A1 = "a1B2"
_SPEC = {"name": "catalog", "endpoint": {"url": "http://127.0.0.1:8000/mcp"}}
TOKENS = {
    "facade": "mcpd_ci-1_" + _A1 * 5,
    "github": "ghp_" + _A1 * 5,
    "github-fine": "github_pat_" + _A1 * 5,
    "gitlab": "glpat-" + _A1 * 4,
    "model": "sk-" + _A1 * 4,
    "stripe": "sk_live_" + _A1 * 3,
    "slack": "xoxb-0123456789",
    "aws": "AKIA" + "A1B2" * 4,
    "google": "AIza" + _A1 * 8,
    "hugging-face": "hf_" + _A1 * 5,
    "npm": "npm_" + _A1 * 8,
    "pypi": "pypi-" + _A1 * 8,
    "vault": "hvs." + _A1 * 5,
    "jwt": "eyJhbGciOi1.eyJzdWIi.c2ln",
    "private-key": "-----BEGIN RSA PRIVATE KEY-----",
    "bearer": "Bearer abcd1234",
    "basic": "Basic YTpiYQ==",
}


@pytest.mark.parametrize("token", TOKENS.values(), ids=TOKENS)
@pytest.mark.parametrize("around", ["{}", "see {}", "({})", "a\n{} b", "'{}'", "é {}"])
def test_a_token_is_found_in_any_text(token: str, around: str) -> None:
    assert secrets.why_secret(around.format(token))


@pytest.mark.parametrize("token", TOKENS.values(), ids=TOKENS)
def test_a_token_is_found_in_a_word_that_quotes_cut(token: str) -> None:
    cut = f"run \"{token[:4]}\"'{token[4:]}' now"
    assert [at for at, _ in secrets.secrets_in_arguments(["sh", "-c", cut])] == [2]


@pytest.mark.parametrize("token", [*TOKENS.values()][:-2], ids=[*TOKENS][:-2])
def test_a_token_is_masked_in_prose(token: str) -> None:
    shown = secrets.without_tokens(f"call it with {token}, or {token}.")
    assert shown == "call it with ***, or ***."


def test_a_token_in_front_of_a_jwt_does_not_keep_its_claims() -> None:
    assert secrets.without_tokens("sk-eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIx.abc") == "***"


@pytest.mark.parametrize(
    "line",
    [
        "x --token abc",
        "x  --token\tabc",
        "x '--token' abc",
        "x --tok'en' abc",
        "x --token 'a b'",
        'x --token "a \\" b"',
        "x --token a\\ b",
        "x\n--token\nabc",
        "x TOKEN=abc",
        "x 'TOKEN=a b'",
        "x TOK\\EN=abc",
        "x --api-key=abc",
        "x http://user:pass@host/",
        "x http://host/?a=b&%74oken=abc",
        "x 'http://host/?a=b&api_key=a b'",
        "sh -c 'x --token abc'",
        "sh -c \"y 'TOKEN=abc' z\"",
        'sh -c "sh -c \\"x --token abc\\""',
        "x it's --token abc",
        "x --token 'abc",
        "x " + "0123456789abcdef" * 2,
        "x://a " + "aB1cD2eF3g" * 4,
        "-e clientSecret=abc",
        "-e " + "x." * 100 + "password=abc",
    ],
)
def test_a_secret_is_found_in_a_command_line(line: str) -> None:
    assert [at for at, _ in secrets.secrets_in_arguments(["a", line, "b"])] == [1]


@pytest.mark.parametrize(
    "line",
    [
        "x --token ${A} --verbose",
        "x --token '${A} ${B}'",
        "x TOKEN=${A} y",
        "x 'TOKEN= ' y",
        "x --token --verbose",
        "x --tokens abc",
        "x http://host/?token=&a=b",
        "x http://host/a@b?c=d",
        "img@sha256:" + "a1" * 32,
        "cp " + "some/long/path/of/a1/b2/c3/d4/E5/f6 " * 2,
        "",
        "  ",
        "''  \"\"",
    ],
)
def test_a_harmless_command_line_is_none(line: str) -> None:
    assert list(secrets.secrets_in_arguments(["a", line, "b"])) == []


def test_equal_arguments_are_judged_by_what_stands_before_each() -> None:
    found = secrets.secrets_in_arguments(["abc", "--token", "abc", "--verbose", "abc"])
    assert list(found) == [(2, "gives --token in clear")]


@pytest.mark.parametrize("name", ["token", "X_TOKEN", "clientSecret", "a" * 300 + "ApiKey_pat"])
def test_a_name_tells_by_its_end_however_long_it_is(name: str) -> None:
    assert list(secrets.secrets_in_mapping({name: "abc"})) == [(name, f"gives {name} in clear")]
    assert not list(secrets.secrets_in_mapping({name: " ${A} ${B}", name + "s-file": "abc"}))


def test_fields_of_a_list_are_searched_like_one_value() -> None:
    fields = {"token": ["${A}", 5], "x": [TOKENS["github"], {"apiKey": "a"}, "b"], "maxTokens": 5}
    assert [path for path, _ in secrets.secrets_in_fields(fields)] == ["token", "x", "x.apiKey"]


_LINE = st.text(st.sampled_from("ab -=\"'\\ \t\n\r\x0b\u00a0é$"), max_size=40)


@given(_LINE)
def test_a_command_line_has_the_words_that_a_shell_reads(line: str) -> None:
    try:
        words = shlex.split(line)
    except ValueError:
        words = line.split()
    assert secrets._words(line) == words


def _args() -> Iterator[tuple[str, list[str]]]:
    """As much as an endpoint takes: 256 arguments, of 32 Ki characters together."""
    for text in (
        '"a b" ',
        "\"'$ ",
        "a ",
        "a=b ",
        "--token ${A} ",
        "\"'a b' c\" ",
        "a\\ b ",
        "'' ",
        "''",
        "http://a?b=c ",
        "x://a?pat ",
        "-eyJaaaaaaaa",
        "-----BEGIN ",
        "sk-a ",
        "sha256:a ",
        "aB1 ",
        "wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww ",
        '{"a": ["b c"]} ',
    ):
        yield f"{text}short", [(text * 128)[:124] + f"{n:x}" for n in range(256)]
        yield f"{text}long", [(text * 4096)[:4090] + f"{n:x}" for n in range(8)]
        yield f"{text}open", [(text * 4096)[:4090] + f" '{n:x}" for n in range(8)]
        distinct = (text.rstrip() + f"{n:x} " for n in range(32 * 1024 // len(text)))
        yield f"{text}distinct", ["".join(distinct)[: 32 * 1024]]


def _records() -> Iterator[tuple[str, dict[str, Any]]]:
    """As much as a record takes: 64 values of metadata with 4096 characters, or 256 KiB."""
    for text in (
        "a b ",
        "a=b&",
        "-eyJaaaaaaaa",
        "a.eyJ",
        "Bearer ",
        "-----BEGIN ",
        "sk-a ",
        "sk_live_",
        "mcpd_a-",
        "sha256:ab ",
        "${a",
        "${A}",
        "a.",
        "aB1",
        "w" * 40 + " ",
        "ü",
    ):
        size = 250_000 // len(text.encode())
        for start in ("", "http://a?", "x.", "x="):
            value = (start + text * 4096)[: 4000 // len(text.encode()) * len(text)]
            yield f"{start}{text} metadata", {"metadata": {f"k{n}": value for n in range(60)}}
        yield f"{text} field", {"x": text * size}
        yield f"{text} fields", {"x": [text] * min(size // 2, 39_000)}
        yield f"{text} names", {"x": {f"{text * 40}{n}": "b" for n in range(size // 50)}}
    yield "token", {"token": "${A}" * 60_000}
    yield "numbers", {"x": [1] * 39_000}
    yield "names", {"capabilities": {"tools": [f"tool{n}" for n in range(10_000)]}}


def _slow(work: Iterator[tuple[str, Callable[[], object]]]) -> dict[str, str]:
    """What takes over 40 ms of this thread's own time, at best of three."""

    def seconds(act: Callable[[], object]) -> float:
        began = time.thread_time()
        act()
        return time.thread_time() - began

    best = {name: min(seconds(act) for _ in range(3)) for name, act in work}
    return {name: f"{each * 1000:.0f} ms" for name, each in best.items() if each > 0.04}


@pytest.mark.slow
def test_no_command_line_takes_long_to_search() -> None:
    def search(args: list[str]) -> None:
        list(secrets.secrets_in_arguments(args))

    assert _slow((name, partial(search, args)) for name, args in _args()) == {}


@pytest.mark.slow
def test_no_record_takes_long_to_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_discovery.record._SEARCHED_ONCE", 2**30)

    def check(fields: dict[str, Any]) -> None:
        with suppress(SecretInRecordError):
            Record.parse(_SPEC | fields)

    assert _slow((name, partial(check, fields)) for name, fields in _records()) == {}


def test_what_was_clean_is_searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    metadata = {"note": "once " * 800}
    long = Record.parse(_SPEC | {"metadata": metadata, "x": "once " * 800})
    monkeypatch.setattr("mcp_discovery.secrets.secrets_in_mapping", None)
    monkeypatch.setattr("mcp_discovery.secrets.secrets_in_fields", None)
    long.check()
    long.model_copy(update={"name": "other", "registered_at": utcnow()}).check()


def test_what_is_clean_but_for_a_secret_is_refused_each_time() -> None:
    metadata = {"note": "clean " * 600}
    long = Record.parse(_SPEC | {"metadata": metadata, "x": "clean " * 600})
    for _ in range(3):
        for added in ({"metadata": metadata | {"token": "abc"}}, {"token": "abc"}):
            with pytest.raises(SecretInRecordError):
                Record.parse(_SPEC | {"metadata": metadata} | added)
        with pytest.raises(SecretInRecordError):
            long.model_copy(update={"metadata": {"password": "b" * 3000}}).check()
