"""The compose file, read as Compose reads it: whole, confined, and with commands that we have."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from mcp_discovery.cli import options
from mcp_discovery.telemetry.setup import signals
from tests.deploy.compose.project import FILE, FOLDER, STORES, of_store, project
from tests.deploy.image.building import ROOT
from tests.programs import command
from tests.stores.binaries import RECENT_VERSIONS

_OURS = {"analytics", "analytics-sidecar", "facade", "product-catalog", "product-catalog-sidecar"}
#: Images with nothing in them that could ask the service how it is.
_WITHOUT_PROGRAMS = {"collector", "tempo", "loki"}


@pytest.fixture(scope="module", params=list(STORES))
def store(request: pytest.FixtureRequest) -> str:
    """Each of the stores in turn."""
    return str(request.param)


def _everything() -> dict[str, Any]:
    return project("consul", "etcd", "monitoring")


def test_profiles_choose_the_services(store: str) -> None:
    more = set() if store == "embedded" else {store}
    assert set(of_store(store)["services"]) == _OURS | more
    assert set(of_store(store, "monitoring")["services"]) == _OURS | more | {
        "prometheus",
        "grafana",
        *_WITHOUT_PROGRAMS,
    }


def test_compose_would_complain(tmp_path: Path) -> None:
    broken = tmp_path / "compose.yaml"
    broken.write_text(FILE.read_text().replace("read_only: true", "read_onyl: true", 1))
    with pytest.raises(ValueError, match="read_onyl"):
        project(file=broken)


@pytest.mark.parametrize("name", sorted(_everything()["services"]))
def test_every_service_is_confined_and_watched(name: str) -> None:
    service = _everything()["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.get("privileged") and not service.get("cap_add")
    if name in _WITHOUT_PROGRAMS:
        assert service["healthcheck"]["disable"] is True
    else:
        assert service["healthcheck"]["test"][0] == "CMD"
    for port in service.get("ports") or []:
        assert port["host_ip"] == "127.0.0.1"


def test_its_stores_are_those_that_are_tested_and_no_page_warns_of() -> None:
    page = (ROOT / "docs/etcd.md").read_text()
    least = re.findall(r"Run etcd (\d+)\.(\d+)\.(\d+) or later", page)
    for store, version in RECENT_VERSIONS.items():
        _, _, tag = _everything()["services"][store]["image"].rpartition(":")
        assert tag.removeprefix("v") == version
    assert [tuple(map(int, RECENT_VERSIONS["etcd"].split(".")))] >= [
        tuple(map(int, each)) for each in least
    ]
    assert len(least) == 1


def test_every_file_that_it_names_is_there() -> None:
    named = 0
    for service in _everything()["services"].values():
        for volume in service.get("volumes") or []:
            if volume["type"] == "bind":
                named += 1
                assert Path(volume["source"]).exists(), volume["source"]
                assert volume["read_only"]
        if build := service.get("build"):
            named += 1
            assert Path(build["context"]) == ROOT
            assert (ROOT / build["dockerfile"]).is_file()
    assert named == 8


async def test_every_command_is_one_that_we_have() -> None:
    for service in _everything()["services"].values():
        if service.get("entrypoint") or not service["image"].startswith("mcp-discovery"):
            continue
        role, *options = service["command"]
        told = await command(role, "--help", COLUMNS="300")
        wanted = [each for each in options if each.startswith("--")]
        wanted += [name for name in service["environment"] if name.startswith("MCP_DISCOVERY_")]
        for each in wanted:
            assert each in told.out, f"{role} has no {each}"


def test_a_sidecar_has_time_to_drain_before_its_server_is_stopped() -> None:
    services = _everything()["services"]
    for name in ("analytics", "product-catalog"):
        sidecar = services[f"{name}-sidecar"]
        drain = options.seconds(sidecar["environment"]["MCP_DISCOVERY_DRAIN"])
        assert options.seconds(sidecar["stop_grace_period"]) >= drain + 10
        # Compose stops what depends on others before them.
        assert name in sidecar["depends_on"]


def test_the_sample_file_names_every_variable_that_there_is() -> None:
    wanted = set(re.findall(r"\$\{(\w+)", FILE.read_text()))
    sample = (FOLDER / ".env.example").read_text()
    assert wanted == set(re.findall(r"^#?([A-Z_]+)=", sample, re.MULTILINE)) - {"COMPOSE_PROFILES"}
    for profile, url in STORES.values():
        if profile:
            assert f"#COMPOSE_PROFILES={profile}\n#STORE={url}\n" in sample


def test_the_sample_file_says_what_holds_without_it() -> None:
    sample = (FOLDER / ".env.example").read_text()
    defaults = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", FILE.read_text()))
    for name, value in re.findall(r"^([A-Z_]+)=(.*)$", sample, re.MULTILINE):
        assert defaults[name] == value


def test_secrets_are_files() -> None:
    assert not re.search(r"(?i)(password|token): (?!/run/secrets/)\S", FILE.read_text())
    secrets = _everything()["secrets"]
    assert all(Path(each["file"]).parent == FOLDER / "secrets" for each in secrets.values())


def test_traces_and_logs_have_a_way_from_each_of_ours_to_grafana() -> None:
    everything = project(
        "consul", "monitoring", environment={"OTLP_ENDPOINT": "http://collector:4318"}
    )["services"]
    for name in ("facade", "analytics-sidecar", "product-catalog-sidecar"):
        given = everything[name]["environment"]
        assert signals(given) == {"TRACES", "LOGS"}
        where = urlsplit(given["OTEL_EXPORTER_OTLP_ENDPOINT"])
        assert where.hostname in everything
    assert signals(_everything()["services"]["facade"]["environment"]) == set()
    collector = yaml.safe_load((ROOT / "deploy/otel/collector.yaml").read_text())
    tempo = yaml.safe_load((ROOT / "deploy/otel/tempo.yaml").read_text())
    listens = collector["receivers"]["otlp"]["protocols"]["http"]["endpoint"]
    assert listens == f"0.0.0.0:{where.port}"
    grafana = ROOT / "deploy/grafana/provisioning/datasources"
    sources = {
        each["uid"]: each
        for file in grafana.glob("*.yaml")
        for each in yaml.safe_load(file.read_text())["datasources"]
    }
    for pipeline in collector["service"]["pipelines"].values():
        for part in ("receivers", "processors", "exporters"):
            assert set(pipeline[part]) <= collector[part].keys()
        for exporter in pipeline["exporters"]:
            assert urlsplit(collector["exporters"][exporter]["endpoint"]).hostname in everything
    receiver = tempo["distributor"]["receivers"]["otlp"]["protocols"]["http"]["endpoint"]
    port = urlsplit(collector["exporters"]["otlphttp/tempo"]["endpoint"]).port
    assert receiver == f"0.0.0.0:{port}"
    shown = sources["mcp-discovery-tempo"]["url"]
    assert shown == f"http://tempo:{tempo['server']['http_listen_port']}"
    # What one source leads to is another one that there is.
    for text in (file.read_text() for file in grafana.glob("*.yaml")):
        assert set(re.findall(r"datasourceUid: (\S+?)[,}]?$", text, re.MULTILINE)) <= sources.keys()
