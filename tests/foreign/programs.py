"""Where ``scripts/fetch-foreign`` puts the programs of others."""

from __future__ import annotations

from tests.stores.binaries import STORES_FOLDER

_FOREIGN = STORES_FOLDER / "foreign"
#: Node, and the packages that it runs.
NODE = _FOREIGN / "bin/node"
NPM = _FOREIGN / "node_modules"
#: What Go built.
GO = _FOREIGN / "bin"
#: Python with the MCP SDK 1.x and what is built on it, and with fastmcp 4.
SDK1 = _FOREIGN / "sdk1/bin/python"
FASTMCP4 = _FOREIGN / "fastmcp4/bin/python"
#: Python with the SDK of A2A.
A2A = _FOREIGN / "a2a/bin/python"
#: A configuration by which fastmcp becomes a bridge to a server that speaks stdio.
BRIDGE = _FOREIGN / "bridge.json"
