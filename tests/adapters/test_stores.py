"""The registry of stores: what is built in is described once, and is cheap to find."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from pkgutil import resolve_name

import pytest

from mcp_discovery.adapters import open_store
from mcp_discovery.adapters.meant_url import url_by_port
from mcp_discovery.adapters.store import StoreOptions
from mcp_discovery.adapters.stores import BUILT_IN, GROUP, find_kind, kind_of
from mcp_discovery.errors import InvalidStoreURLError
from tests.stores.tls import Tls

ROOT = Path(__file__).parents[2]


def test_the_built_in_stores_are_entry_points_of_this_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {name: resolve_name(value) for name, value in project["entry-points"][GROUP].items()}
    schemes = {scheme.partition("+")[0]: kind for kind in BUILT_IN for scheme in kind.schemes}
    assert declared == schemes


def test_every_implementation_is_there() -> None:
    for kind in BUILT_IN:
        assert callable(resolve_name(kind.implementation).watch)


@pytest.mark.parametrize(
    ("url", "addresses"),
    [
        ("consul://a:8500/mcp", ["http://a:8500"]),
        ("consul+https://a", ["https://a"]),
        ("etcd://a:2379,b:2379/prefix", ["http://a:2379", "http://b:2379"]),
        ("etcd+https://user@a:1?x=1", ["https://a:1"]),
        ("https://facade", ["https://facade"]),
        ("embedded:", []),
        ("embedded:///a/b.db", []),
    ],
)
def test_addresses(url: str, addresses: list[str]) -> None:
    assert list(kind_of(url).addresses(url)) == addresses


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("consul:127.0.0.1:8500", "write consul://127.0.0.1:8500"),
        ("etcd:/10.0.0.1:2379,10.0.0.2:2379/mcp", "write etcd://10.0.0.1:2379,10.0.0.2:2379/mcp"),
        ("consul:8500", "write consul://127.0.0.1:8500"),
        ("http:127.0.0.1:4000", "write http://127.0.0.1:4000"),
        ("localhost:2379", "has no scheme of a store; did you mean etcd://localhost:2379?"),
        ("facade:4000", "did you mean http://facade:4000?"),
        ("Consul://h", "did you mean consul://h?"),
        ("etcd+tls://h:2379", "did you mean etcd+https://h:2379?"),
        ("consul+http://h", "did you mean consul://h?"),
        ("etc://user:s3cr3t@h:2379?token=s3cr3t", "did you mean etcd://h:2379?"),
        ("consul:user:s3cr3t@h:8500", "write consul://h:8500"),
        (
            "root:s3cr3t@etcd:2379",
            "'etcd:2379': has no scheme of a store; did you mean etcd://etcd:",
        ),
        ("etcd:s3cr3t@etcd:2379", "write etcd://etcd:2379"),
        ("etcd://root:s3?cr3t@h:2379", "'etcd://…@h:2379': credentials do not belong in a URL"),
        ("consul://root:1?cr3t@h:8500", "'consul://h:8500': holds credentials"),
        ("http://user:s3?cr3t@h:4000", "'http://h:4000': write http://h:4000, without user"),
        ("http://user:12?cr3t@h:4000", "'http://h:4000': write http://h:4000, without user"),
        ("/var/lib/list.db", "did you mean embedded:///var/lib/list.db?"),
        ("embedded:/var/lib/list.db", "or embedded:///var/lib/list.db for a file"),
    ],
)
def test_a_url_is_corrected_to_what_was_meant(url: str, meant: str) -> None:
    with pytest.raises(InvalidStoreURLError) as caught:
        open_store(url)
    assert meant in str(caught.value)
    assert not re.search("s3|cr3t|user:|root", str(caught.value))
    assert url != meant.rpartition(" ")[2].rstrip("?")  # never what was typed already


def test_the_port_of_another_store_is_told() -> None:
    assert url_by_port("http://h:8500/x") == "consul://h:8500/x"
    assert url_by_port("http://h:2379") == "etcd://h:2379"
    assert [url_by_port(url) for url in ("http://h:4000", "http://h", "https://h:443")] == [
        None
    ] * 3


def test_unknown_schemes() -> None:
    for url in ("redis://x", "consul+http://x", "embedded+https:", ""):
        assert find_kind(url) is None
    with pytest.raises(InvalidStoreURLError, match="unknown scheme; use embedded: or "):
        kind_of("redis://x")


def test_a_built_in_store_is_found_without_a_search_of_what_is_installed() -> None:
    script = (
        "import sys\n"
        "from mcp_discovery.adapters.stores import kind_of\n"
        "kind_of('consul://x')\n"
        "assert 'importlib.metadata' not in sys.modules\n"
        "assert 'mcp_discovery.adapters.store' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("etcd://a:1,b:2", "write etcd+https://"),
        ("consul://a:1", "write consul+https://"),
        ("http://a:1", "write https://"),
        ("etcd+https://a:1", None),
        ("https://a:1", None),
        ("embedded:", None),
    ],
)
async def test_certificates_without_tls_are_warned_of(
    url: str, advice: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = StoreOptions(ca=str(Tls(tmp_path).ca_file))
    async with open_store(url, options):
        said = [each.getMessage() for each in caplog.records]
    assert len(said) == (advice is not None)
    assert advice is None or said[0].endswith(advice)
