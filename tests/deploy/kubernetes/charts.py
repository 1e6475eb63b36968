"""The chart rendered by helm, and what is in the manifests."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.tools import program
from tests.programs import ROOT

CHART = ROOT / "deploy/helm/mcp-discovery"
MANIFESTS = ROOT / "deploy/kubernetes"
VALUES = MANIFESTS / "values"

Document = dict[str, Any]


class HelmFailed(Exception):
    """helm ended with an error; its text is what helm said."""


def helm(*arguments: str | Path) -> str:
    """What helm prints; raises :class:`HelmFailed`."""
    done = subprocess.run(
        [program("helm"), *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode:
        raise HelmFailed(done.stderr + done.stdout)
    return done.stdout


def rendered(*arguments: str | Path, chart: Path = CHART, release: str = "test") -> list[Document]:
    """The objects that the chart makes with these options of ``helm template``."""
    return read(helm("template", release, chart, "--namespace", "tests", *arguments))


def setting(**values: Any) -> list[str]:
    """Options that set values: ``__`` stands for a dot."""
    options: list[str] = []
    for name, value in values.items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        options += ["--set", f"{name.replace('__', '.')}={text.replace(',', chr(92) + ',')}"]
    return options


def read(text: str) -> list[Document]:
    """The objects in a YAML text."""
    return [each for each in yaml.safe_load_all(text) if each]


def documents_of(path: Path) -> list[Document]:
    """The objects in a file."""
    return read(path.read_text())


def manifests() -> list[Path]:
    """All manifests of deploy/kubernetes."""
    return sorted(each for each in MANIFESTS.rglob("*.yaml") if VALUES not in each.parents)


def of_kind(documents: list[Document], kind: str) -> list[Document]:
    """Those of one kind."""
    return [each for each in documents if each["kind"] == kind]


def one(documents: list[Document], kind: str) -> Document:
    """The only one of its kind."""
    (found,) = of_kind(documents, kind)
    return found


def pod_specs(documents: list[Document]) -> Iterator[Document]:
    """The specification of every pod."""
    for document in documents:
        if document["kind"] in ("Deployment", "StatefulSet", "DaemonSet"):
            yield document["spec"]["template"]["spec"]


def containers(spec: Document) -> list[Document]:
    """All containers of a pod, native sidecars included."""
    return [*spec.get("initContainers", []), *spec["containers"]]
