"""An API server that holds some objects, for what helm looks up in a cluster while it renders."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import yaml

from tests.deploy.kubernetes.charts import Document

#: The kinds that charts look for: group and version → name in URLs and kind.
_KINDS = {
    "v1": ("persistentvolumeclaims", "PersistentVolumeClaim"),
    "apps/v1": ("deployments", "Deployment"),
}


@contextmanager
def cluster_with(folder: Path, *objects: Document) -> Iterator[list[str]]:
    """Options of ``helm template`` that make it render as it would for a cluster with ``objects``.

    It answers reads of one object, and what helm wants to know of kinds and versions; a real API
    server would have to be built, and would answer these the same.
    """
    answers: dict[str, Document] = _discovery()
    for each in objects:
        plural, _ = _KINDS[each["apiVersion"]]
        about = each["metadata"]
        place = f"{_root(each['apiVersion'])}/namespaces/{about['namespace']}/{plural}"
        answers[f"{place}/{about['name']}"] = each

    class FakeApiServer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = answers.get(self.path.partition("?")[0])
            body = json.dumps(
                found or {"kind": "Status", "status": "Failure", "code": 404}
            ).encode()
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing: helm tells what it was refused."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeApiServer)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    config = folder / "kubeconfig"
    config.write_text(yaml.safe_dump(_kubeconfig(f"http://127.0.0.1:{server.server_port}")))
    try:
        yield ["--dry-run=server", f"--kubeconfig={config}"]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _root(api_version: str) -> str:
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def _discovery() -> dict[str, Document]:
    apps = {"groupVersion": "apps/v1", "version": "v1"}
    groups = [{"name": "apps", "versions": [apps], "preferredVersion": apps}]
    found: dict[str, Document] = {
        "/version": {"major": "1", "minor": "34", "gitVersion": "v1.34.0"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups},
    }
    for version, (plural, kind) in _KINDS.items():
        resource = {"name": plural, "kind": kind, "namespaced": True, "verbs": ["get", "list"]}
        found[_root(version)] = {
            "kind": "APIResourceList",
            "groupVersion": version,
            "resources": [resource],
        }
    return found


def _kubeconfig(url: str) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "fake", "cluster": {"server": url}}],
        "users": [{"name": "nobody", "user": {}}],
        "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "nobody"}}],
        "current-context": "fake",
    }
