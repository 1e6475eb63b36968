"""Takes from CustomResourceDefinitions what the tests need; see README.md beside it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
#: Kind and API version of what is kept.
KINDS = {
    ("VirtualService", "v1"),
    ("DestinationRule", "v1"),
    ("HTTPRoute", "v1"),
    ("ServiceMonitor", "v1"),
    ("PodMonitor", "v1"),
    ("PrometheusRule", "v1"),
}
#: Not needed to say whether an object fits: text, and rules in CEL, which nothing here evaluates.
_LEFT_OUT = {"description", "x-kubernetes-validations", "default"}


def bare(schema: Any, *, names: bool = False) -> Any:
    """``schema`` without what is left out; ``names`` where the keys are names of properties."""
    if isinstance(schema, list):
        return [bare(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: bare(value, names=key == "properties" and not names)
        for key, value in schema.items()
        if names or key not in _LEFT_OUT
    }


def main() -> None:
    """Reads the files that are given and writes KIND.json for each that is wanted."""
    for path in sys.argv[1:]:
        for crd in yaml.safe_load_all(Path(path).read_text()):
            if not crd:
                continue
            kind = crd["spec"]["names"]["kind"]
            for version in crd["spec"]["versions"]:
                if (kind, version["name"]) in KINDS:
                    schema = bare(version["schema"]["openAPIV3Schema"])
                    kept = {"group": crd["spec"]["group"], "version": version["name"]}
                    text = json.dumps(kept | {"schema": schema}, separators=(",", ":"))
                    (HERE / f"{kind}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
