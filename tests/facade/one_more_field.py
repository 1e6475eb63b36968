"""A pytest plugin that gives the record a field ``region``, as one more line in record.py would."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType

_BEFORE = "    owner: Name | None = None\n"
_LINE = "    region: Name | None = None\n"


class _ExtendedLoader(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        source = self.get_source(fullname)
        assert source is not None
        assert source.count(_BEFORE) == 1
        return compile(source.replace(_BEFORE, _BEFORE + _LINE), self.path, "exec")


class _RecordFinder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "mcp_discovery.record":
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        assert spec is not None
        assert spec.origin is not None
        spec.loader = _ExtendedLoader(fullname, spec.origin)
        return spec


assert "mcp_discovery.record" not in sys.modules
sys.meta_path.insert(0, _RecordFinder())
