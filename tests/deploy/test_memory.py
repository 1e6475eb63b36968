"""What docs/operations.md gives a facade and a sidecar to live on, and what is in deploy/."""

from __future__ import annotations

import re
from collections.abc import Iterator

import yaml

from tests.deploy.compose.project import of_store
from tests.deploy.kubernetes.charts import CHART, containers, documents_of, manifests, pod_specs
from tests.deploy.nomad import jobs
from tests.deploy.systemd import unit
from tests.programs import ROOT

_FACTORS = {"k": 2**10, "Ki": 2**10, "m": 2**20, "M": 2**20, "Mi": 2**20, "Gi": 2**30, "": 1}
PAGE = (ROOT / "docs/operations.md").read_text()


def size(text: str) -> int:
    """A size as one of these files writes it, in MiB."""
    found = re.fullmatch(r"(\d+) ?([A-Za-z]*)", text.removesuffix("B"))
    assert found is not None, text
    return int(found[1]) * _FACTORS[found[2]] // 2**20


def told() -> dict[str, dict[str, int]]:
    """The table of the page: role → requested and limit, in MiB."""
    rows = re.findall(r"^\| (facade|sidecar) \| (\d+ MiB) \| (\d+ MiB) \|$", PAGE, re.MULTILINE)
    return {role: {"requested": size(low), "limit": size(high)} for role, low, high in rows}


def given() -> Iterator[tuple[str, str, dict[str, int]]]:
    """Where it is given, to whom, and how much."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    for role in ("facade", "sidecar"):
        yield "the chart's values", role, _kubernetes(values[role]["resources"])
    for path in manifests():
        for pod in pod_specs(documents_of(path)):
            for each in containers(pod):
                if each["name"] != "server":
                    yield str(path), each["args"][0], _kubernetes(each["resources"])
    for name, service in of_store("embedded")["services"].items():
        role = service["command"][0]
        if role in ("facade", "sidecar"):
            yield f"compose's {name}", role, {"limit": size(service["mem_limit"])}
    for job, role in ((jobs.FACADE, "facade"), (jobs.SERVER, "sidecar")):
        task = jobs.tasks(jobs.job(job))[role]
        yield job.name, role, {"limit": task["Resources"]["MemoryMB"]}
    for name, role in (("facade.service", "facade"), ("sidecar@.service", "sidecar")):
        limit = unit.read(f"mcp-discovery-{name}").one("MemoryMax")
        yield name, role, {"limit": size(limit)}
    page = (ROOT / "docs/kubernetes.md").read_text()
    found = re.findall(r"requests (\d+ MiB), limit (\d+ MiB)", page)
    for role, (low, high) in zip(("facade", "sidecar"), found, strict=True):
        yield "docs/kubernetes.md", role, {"requested": size(low), "limit": size(high)}


def _kubernetes(resources: dict[str, dict[str, str]]) -> dict[str, int]:
    return {
        "requested": size(resources["requests"]["memory"]),
        "limit": size(resources["limits"]["memory"]),
    }


def test_all_files_give_what_the_page_says() -> None:
    page = told()
    assert set(page) == {"facade", "sidecar"}
    seen = list(given())
    assert len(seen) > 15
    for where, role, much in seen:
        assert much.items() <= page[role].items(), f"{where}: {role} has {much}, not {page[role]}"
