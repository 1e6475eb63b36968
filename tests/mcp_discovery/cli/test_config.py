"""Configuration files: who goes before whom, what is refused and how, and that examples run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from mcp_discovery.cli import settings_file
from mcp_discovery.cli.config import ROLES
from tests.programs import ROOT, Running, command, running
from tests.servers.process import odd
from tests.stores import ConsulServer, ports
from tests.stores.waiting import until

EXAMPLES = ROOT / "deploy" / "config"


async def until_said(process: Running, text: str) -> None:
    async def said() -> bool:
        return text in process.log

    await until(said, timeout=20, what=f"{text!r} in the log")


#: What a file holds, and what is said of it.
WRONG = [
    ("", ": is empty; write sidecar: or facade:"),
    ("- a\n", "neither a server's object nor a list of them"),
    ("just words", ": is no mapping"),
    ('{"servers": {"a": {}}} // of a host', ": 'a': has neither a command nor a url"),
    (
        '{"mcpServers": {"a": {"command": "x", "env": {"A_KEY": "", "B_TOKEN": "b"}}}}',
        ': \'a\': env B_TOKEN is given in clear; write "B_TOKEN": "${B_TOKEN}"',
    ),
    ('{"servers": {"a": {"command": "${input:b}"}}}', ": 'a': ${input:b} is what its host asks"),
    (
        '{"servers": {"a": {"command": "b", "mcp-discovery": {"sesions": "each"}}}}',
        ": 'a': \"mcp-discovery\": there is no sesions; did you mean sessions?",
    ),
    (
        '{"servers": {"a": {"command": "x", "env": {"A_KEY": "${input:key}"}}}}',
        ": 'a': ${input:key} is what its host asks the user for; write ${env:NAME} and set",
    ),
    (
        '{"mcpServers": {"a": {"url": "${URL}", "mcp-discovery": {"tll": 5}}}}',
        ": 'a': \"mcp-discovery\": there is no tll; did you mean ttl?",
    ),
    (
        "sidecar:\n  store: consul://a\n  servers: a.json\n  name: b\n",
        ": --name is of one server, and --servers names several; write it into the entry",
    ),
    ("facad:\n  port: 1\n", ":1: there is no facad; did you mean facade?"),
    ("facade:\n", ":1: facade: needs options below it"),
    ("facade:\n  host: a\n  prot: 1\n", ":3: there is no prot; did you mean port?"),
    ("facade:\n  port: 99999\n", ":2: port: 99999 is out of range; give 0 to 65535"),
    ("facade:\n  port: [1]\n", ":2: port: is a list or a mapping"),
    ("facade:\n  gateway: perhaps\n", ":2: gateway: 'perhaps' is neither true nor false"),
    ("facade:\n  host:\n", ":2: host: has no value"),
    ("facade:\n  store: embedded:\n", ":2: is not YAML"),
    ("facade:\n  store: redis://here\n", "unknown scheme"),
    (
        "facade:\n  port: 1\n  port: 2\n",
        ":3: 'port' stands here a second time; the first is in line 2",
    ),
    ("facade:\n  store-token: s3cr3t\n", ":2: store-token is a secret"),
    ("facade:\n  log-level: loud\n", "log level 'loud' is none of debug, info"),
    ("servers: [{name: a, url: 'http://a/mcp', tagz: [x]}]\n", "no tagz; did you mean tags?"),
    ("sidecar:\n  ttl: soon\n", ":2: ttl: 'soon' is no time"),
    ("sidecar:\n  ttl: 4\n  probe-interval: 3\n", "at most half of the TTL"),
    ("sidecar:\n  metadata: [a]\n", ":2: metadata: is no mapping"),
    ("sidecar:\n  metadata: {password: s3cr3t}\n", "gives password in clear"),
    ("sidecar:\n  tag: [Not_Fine]\n", "not-fine"),
    ("sidecar:\n  store: 'embedded:'\n", "an embedded store lives inside a facade"),
    ("a: !!python/object:os.system x\n", "has the tag"),
    ("---\nfacade: {port: 1}\n---\nfacade: {port: 2}\n", "several documents"),
    ("source: x\nservers:\n  - name: Not Good\n    url: http://a/mcp\n", "name:"),
    (
        "source: x\nserver: []\nservers: [{name: a, url: 'http://a/mcp'}]\n",
        "there is no server",
    ),
    ("a: &a [x]\nb: &b [*a, *a]\n" + "c: [" + "*b, " * 70000 + "]", "aliases that multiply"),
    ("[" * 5000, "nested too deeply"),
]


#: A file with many faults, and each of them.
ALL_WRONG = """\
facade:
  prot: 1
  workers: many
  cors-origin: [a, "https://x/y"]
  registry-address: nowhere
  store: etcd:10.0.0.1:2379
sidecar:
  ttl: soon
  reap-after: 1s
  weight: -3
  name: My Server
  tag: "b,c"
  metadata: {password: s3cr3t}
  store: "embedded:"
  url: nonsense
sidecars: {}
"""
TOLD = (
    ":2: there is no prot; did you mean port?",
    ":3: workers: 'many' is no whole number; give 1 to 64",
    ": 'a' is no origin",
    ": 'https://x/y' is no origin",
    "--registry-address 'nowhere' is none of",
    "names no host; write etcd://10.0.0.1:2379",
    ":8: ttl: 'soon' is no time",
    ":10: weight: -3 is out of range",
    ": name: 'My Server' is not a DNS label",
    ":12: tag: write a list: [b, c]",
    "an embedded store lives inside a facade",
    "the MCP server's URL: 'nonsense'",
    ":16: there is no sidecars; did you mean sidecar?",
)


async def test_check_tells_all_that_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(ALL_WRONG)
    ended = await command("config", "check", str(file))
    assert (ended.code, ended.out) == (2, ""), ended
    for each in TOLD:
        assert any(each in line for line in ended.err.splitlines()), (each, ended.err)
    assert "s3cr3t" not in ended.err
    # Nothing is told that follows from another fault.
    assert len(ended.err.splitlines()) == len(TOLD), ended.err


async def test_what_cannot_be_used_is_said_in_one_sentence(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.yaml" for number in range(len(WRONG))]
    for file, (text, _) in zip(files, WRONG, strict=True):
        file.write_text(text)
    ended = await command("config", "check", *map(str, files))
    assert (ended.code, ended.out) == (2, ""), ended
    lines = ended.err.splitlines()
    assert len(lines) == len(WRONG)
    for line, file, (text, says) in zip(lines, files, WRONG, strict=True):
        assert line.startswith(f"{file}:"), text[:60]
        assert says in line, text[:60]
        assert len(line) < 400
    assert "s3cr3t" not in ended.err


async def test_a_role_says_the_same_when_it_is_started(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("facade:\n  prot: 1\n")
    for ended in (
        await command("facade", "--config", str(file)),
        await command("facade", MCP_DISCOVERY_CONFIG=str(file)),
    ):
        assert (ended.code, ended.err) == (
            2,
            f"mcp-discovery: {file}:2: there is no prot; did you mean port?\n",
        )
    ended = await command("sidecar", "--config", str(file))
    assert (ended.code, "has no part sidecar:" in ended.err) == (2, True)
    ended = await command("facade", "--config", "/no/such/file")
    assert (ended.code, "cannot read /no/such/file" in ended.err) == (2, True)


async def test_the_command_line_goes_before_the_environment_before_the_file(tmp_path: Path) -> None:
    one, two, three = (ports.draw().number for _ in range(3))
    file = tmp_path / "config.yaml"
    file.write_text(f"facade:\n  port: {one}\nsidecar:\n  ttl: 30s\n")
    serve = ("facade", "--config", str(file))
    for arguments, environment, port in [
        (serve, {}, one),
        (serve, {"MCP_DISCOVERY_PORT": str(two)}, two),
        ((*serve, "--port", str(three)), {"MCP_DISCOVERY_PORT": str(two)}, three),
    ]:
        async with running(tmp_path, *arguments, **environment) as process:
            await until_said(process, f"listening on http://127.0.0.1:{port}")


async def test_check_tells_what_is_in_effect_and_what_is_still_needed(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("sidecar:\n  tag: [a, b]\n  metadata: {k: 1.10}\n  version: 1.10.0\n")
    ended = await command("config", "check", "--show", str(file))
    assert ended.code == 0, ended
    head, *rest = ended.out.splitlines()
    needed = "url (or a command, or servers) and store"
    assert head == f"{file}: sidecar: fine; it still needs {needed} to start"
    told = dict(line.strip().split(": ", 1) for line in rest)
    assert (told["tag"], told["metadata"], told["version"]) == ("a, b", "k=1.10", "1.10.0")
    assert told["ttl"] == "10.0"


async def test_secrets_come_from_files(tmp_path: Path) -> None:
    token = tmp_path / "token"
    file = tmp_path / "config.yaml"
    file.write_text(f"facade:\n  store: consul://127.0.0.1:1\n  store-token-file: {token}\n")
    serve = ("facade", "--config", str(file), "--port", "0")
    ended = await command(*serve)
    assert (ended.code, f"cannot read {token}" in ended.err) == (2, True)
    token.write_text("\n")
    ended = await command(*serve)
    assert (ended.code, "it is empty" in ended.err) == (2, True)
    ended = await command(*serve, MCP_DISCOVERY_STORE_TOKEN="other")
    assert (ended.code, "give one of them" in ended.err) == (2, True)
    assert (await command("config", "check", str(file))).code == 0  # it need not be there to check
    async with ConsulServer(acl=True) as consul:
        assert consul.token is not None
        token.write_text(f"{consul.token}\n")
        arguments = (*serve, "--store", consul.store_url)
        async with running(tmp_path, *arguments) as process:
            await until_said(process, "listening on")
            url = re.findall(r"listening on (\S+)", process.log)[0]

            async def ready() -> bool:
                return (await command("servers", "--facade", url)).code == 0

            await until(ready, timeout=20, what="a list that the token opens")
            assert consul.token not in process.log


def test_the_schema_that_is_copied_is_the_one_that_is_generated() -> None:
    assert json.loads((EXAMPLES / "schema.json").read_text()) == settings_file.schema(ROLES)


@pytest.mark.parametrize("role", ["facade", "sidecar"])
def test_the_examples_fit_the_schema_and_a_wrong_key_does_not(role: str) -> None:
    schema = json.loads((EXAMPLES / "schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    text = (EXAMPLES / f"{role}.yaml").read_text()
    example = yaml.safe_load(text)
    jsonschema.validate(example, schema)
    # What stands there as a comment has to fit, too.
    whole = re.sub(r"(?m)^  # ([a-z-]+: )", r"  \1", text)
    jsonschema.validate(yaml.safe_load(whole), schema)
    example[role]["prot"] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(example, schema)


async def test_the_examples_can_be_used() -> None:
    ended = await command(
        "config", "check", *(str(EXAMPLES / f"{name}.yaml") for name in ("facade", "sidecar"))
    )
    assert (ended.code, ended.out.count(": fine\n")) == (0, 2), ended


async def test_the_examples_run_together_over_consul(tmp_path: Path) -> None:
    port = ports.draw().number
    async with ConsulServer() as consul, odd("--tools", "2") as server:
        serve = (
            "facade",
            "--config",
            str(EXAMPLES / "facade.yaml"),
            "--store",
            consul.store_url,
        )
        beside = (
            "sidecar",
            "--config",
            str(EXAMPLES / "sidecar.yaml"),
            "--url",
            server.url,
        )
        moved = {
            "MCP_DISCOVERY_STORE": consul.store_url,
            "MCP_DISCOVERY_HEALTH_PORT": str(ports.draw().number),
        }
        here = ("--host", "127.0.0.1", "--port", str(port))
        url = f"http://127.0.0.1:{port}"
        async with (
            running(tmp_path, *serve, *here),
            running(tmp_path, *beside, **moved),
        ):

            async def listed() -> bool:
                ended = await command("servers", "--facade", url, "--tag", "catalog", "--json")
                return ended.code == 0 and '"owner":"team-shop"' in ended.out

            await until(listed, timeout=20, what="the server being listed")


def default_text(setting: settings_file.Setting) -> str:
    """A setting's default as a page tells it; empty where there is none."""
    if setting.required:
        return "required"
    if isinstance(setting.default, bool):
        return str(setting.default).lower()
    if setting.kind is float and setting.default is not None:
        return f"{setting.default:g}s"
    return "" if setting.default is None else str(setting.default)


def test_the_page_tells_every_setting() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    for name, role in ROLES.items():
        part = page.partition(f"## `{name}:`")[2].partition("\n## ")[0]
        rows = {
            row.split("|")[1].strip().strip("`"): [cell.strip() for cell in row.split("|")[2:4]]
            for row in part.splitlines()
            if row.startswith("| `")
        }
        known = {
            key: each
            for key, each in settings_file.settings(role).items()
            if key not in settings_file.SECRETS
        }
        assert rows.keys() == known.keys()
        for key, each in known.items():
            variable, default = rows[key]
            assert variable.strip("`") == each.variable
            assert default.strip("`") == default_text(each)


async def test_files_of_auth_are_checked_and_have_a_schema(tmp_path: Path) -> None:
    example = EXAMPLES / "auth.yaml"
    told = await command("config", "check", str(example))
    assert (told.code, told.err) == (0, "")
    assert "(5 roles, 0 tokens, 1 issuer): fine\n" in told.out
    wrong = tmp_path / "auth.yaml"
    for text, says in (
        ("issuers: [{issuer: 'https://a'}]", "fine, with --public-url: there is no audience for"),
        ("roles: {a: read}", "(1 role, 0 tokens, 0 issuers): fine, but it names nobody, so that"),
    ):
        wrong.write_text(text)
        told = await command("config", "check", str(wrong))
        assert (told.code, told.err) == (0, "")
        assert says in told.out
    wrong.write_text(example.read_text().replace("mcp-manager: manager", "mcp-manager: manger"))
    told = await command("config", "check", str(wrong))
    assert told.code == 2
    assert "did you mean 'manager'" in told.err
    schema = json.loads((await command("config", "schema", "--auth")).out)
    jsonschema.validate(yaml.safe_load(example.read_text().replace("tokens:", "")), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"issuers": [{"isuer": "https://a"}]}, schema)
