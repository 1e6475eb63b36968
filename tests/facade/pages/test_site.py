"""The frame of all pages: its policy, its files, its errors, and what it does with hostile text."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest

import mcp_discovery.facade.pages
from mcp_discovery.facade.pages.visible import sentence, visible
from tests.facade.harness import Client, served

FOLDER = Path(mcp_discovery.facade.pages.__file__).parent
HTML = {"Accept": "text/html"}


async def test_an_error_is_a_page_for_a_browser_and_a_problem_for_others(ask: Client) -> None:
    for path in ("/ui/nothing", "/ui/static/x/nothing.js", "/nowhere"):
        page = await ask("GET", path, headers=HTML)
        assert page.status == 404
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        assert b"<h1>Not Found</h1>" in page.body
        plain = await ask("GET", path)
        assert plain.status == 404
        assert plain.headers["Content-Type"] == "application/problem+json"


async def test_what_is_asked_of_the_api_stays_a_problem(ask: Client) -> None:
    reply = await ask("GET", "/servers/nothing", headers=HTML)
    assert (reply.status, reply.json["title"]) == (404, "Unknown server")


async def test_nothing_from_elsewhere_runs(ask: Client) -> None:
    reply = await ask("GET", "/ui/status")
    policy = dict(
        each.strip().split(" ", 1) for each in reply.headers["Content-Security-Policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert reply.headers["Cache-Control"] == "no-store"


async def test_each_file_is_kept_for_good_and_named_by_its_content(ask: Client) -> None:
    page = (await ask("GET", "/ui/status")).body.decode()
    found = set(re.findall(r'(?:href|src)="\.\./(ui/static/[^"#]+)', page))
    assert {Path(each).suffix for each in found} == {".css", ".js", ".svg"}
    for each in found:
        reply = await ask("GET", f"/{each}")
        assert reply.status == 200
        assert "immutable" in reply.headers["Cache-Control"]
        other = await ask("GET", re.sub(r"static/\w+", "static/another", f"/{each}"))
        assert (other.body, other.headers["Cache-Control"]) == (reply.body, "no-cache")


async def test_a_theme_is_kept_by_a_cookie(ask: Client) -> None:
    for theme, shown in (("dark", True), ("light", True), ('"><script>', False)):
        cookie = f"mcp_discovery_theme={theme}"
        page = (await ask("GET", "/ui/status", headers={"Cookie": cookie})).body.decode()
        assert (f'data-theme="{theme}"' in page) is shown


@pytest.mark.parametrize(
    "hidden",
    ["\u202e", "\u2066", "\u200b", "\ufeff", "\U000e0041", "\x1b", "\x00", "\u00ad", "\u3164"],
)
def test_what_cannot_be_seen_is_written_out(hidden: str) -> None:
    assert visible(f"a{hidden}b") == f"a\\u{{{ord(hidden):X}}}b"


@pytest.mark.parametrize(
    "harmless",
    ["naïve café", "product\tcatalog\n", "👩‍👩‍👧", "می‌خواهم", "क्‍ष", "日本語", "مرحبا"],
)
def test_what_scripts_and_emoji_need_stays(harmless: str) -> None:
    assert visible(harmless) == harmless


def test_joiners_beside_ascii_are_written_out() -> None:
    assert visible("pay\u200dments") == "pay\\u{200D}ments"
    assert visible("\u200cx") == "\\u{200C}x"


def test_every_format_character_but_joiners_is_written_out() -> None:
    formats = [each for each in map(chr, range(0x110000)) if unicodedata.category(each) == "Cf"]
    left = {each for each in formats if visible(f"日{each}本") == f"日{each}本"}
    # Signs of Arabic, Syriac, Kaithi, hieroglyphs and shorthand are drawn, and join nothing.
    drawn = {each for each in left if unicodedata.name(each, "").split()[0] in _DRAWN}
    assert left - drawn == {"\u200c", "\u200d"}


_DRAWN = {"ARABIC", "SYRIAC", "KAITHI", "EGYPTIAN", "SHORTHAND"}


def test_no_module_makes_elements_of_text() -> None:
    banned = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|Function\("
    )
    for each in (FOLDER / "static").glob("*.js"):
        assert banned.search(each.read_text("utf-8")) is None, each.name


def test_no_template_has_what_the_policy_forbids() -> None:
    banned = re.compile(
        r"\sstyle=|\son[a-z]+=|<script(?![^>]*\bsrc=)|<style|javascript:|\|\s*safe\b"
    )
    for each in (FOLDER / "templates").glob("*.html"):
        assert banned.search(each.read_text("utf-8")) is None, each.name


async def test_links_lead_below_a_proxys_prefix() -> None:
    async with served() as ask:
        page = (await ask("GET", "/ui/status")).body.decode()
        for link in re.findall(r'(?:href|src|action)="([^"]*)"', page):
            assert not link.startswith("/"), link


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("there is nothing at /x", "There is nothing at /x."),
        ("is it?", "Is it?"),
        ("Done.", "Done."),
        ("", "."),
    ],
)
def test_what_an_api_tells_is_a_sentence_on_a_page(told: str, said: str) -> None:
    assert sentence(told) == said
