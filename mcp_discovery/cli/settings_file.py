"""A role's options from a YAML file: under the role's name, each option by its own name.

The file stands where defaults stand: the command line goes before the environment, which goes
before the file. The commands' own signatures say which keys there are and what they take;
:func:`schema` tells the same as JSON Schema.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_origin

import typer
from typer.models import OptionInfo
from typer.utils import get_params_from_function

from mcp_discovery.cli import options
from mcp_discovery.cli.yaml_files import Items, Node, Scalar, Table, parse, read_bytes
from mcp_discovery.errors import InvalidInputError
from mcp_discovery.nearest import nearest

#: Parameters of a command that are no settings of its role.
_NOT_IN_FILES = frozenset({"context", "config"})
#: Settings that are secrets: they belong in a file of their own or in the environment.
SECRETS = frozenset({"store-token", "store-password", "server-token", "health-token"})
_PAIRS = "KEY=VALUE"


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of a role's part: what it takes, and its environment variable.

    ``kind`` is ``str``, ``int``, ``float`` (seconds) or ``bool``, of each item where there may be
    ``several``.
    """

    key: str
    parameter: str
    kind: type
    several: bool
    required: bool
    default: Any
    variable: str
    help: str
    metavar: str
    least: float | None
    most: float | None

    def read(self, node: Node) -> Any:
        """The parameter's value; raises :class:`ValueError` with what is wrong with ``node``."""
        if self.metavar == _PAIRS:
            if not isinstance(node, Table):
                raise ValueError("is no mapping; write key: value below it")
            return [f"{key}={_text(each)}" for key, each in node.entries.items()]
        if self.several:
            items = node.items if isinstance(node, Items) else [node]
            return [_text(each) for each in items]
        return self._single(_text(node))

    def _single(self, text: str) -> Any:
        if self.kind is bool:
            if text.lower() not in ("true", "false"):
                raise ValueError(f"{text[:40]!r} is neither true nor false")
            return text.lower() == "true"
        if self.kind is int:
            try:
                number = int(text)
            except ValueError:
                raise ValueError(f"{text[:40]!r} is no whole number") from None
            least, most = self.least, self.most
            if (least is not None and number < least) or (most is not None and number > most):
                raise ValueError(f"{number} is not in {least:g} to {most:g}")
            return number
        if self.kind is float:
            try:
                return options.seconds(text)
            except typer.BadParameter as error:
                raise ValueError(error.message) from None
        return text


def settings(role: Callable[..., Any]) -> dict[str, Setting]:
    """What may stand in a file for ``role``, a command's function, by its key."""
    found = {}
    for name, each in get_params_from_function(role).items():
        if name in _NOT_IN_FILES:
            continue
        info = each.default
        annotation = each.annotation
        kinds = [kind for kind in get_args(annotation) or [annotation] if kind is not type(None)]
        several = any(get_origin(kind) is list for kind in [*kinds, annotation])
        kind = get_args(kinds[0])[0] if get_args(kinds[0]) else kinds[0]
        long = [word for word in info.param_decls or () if word[:2] == "--"]
        is_option = isinstance(info, OptionInfo)
        key = long[0][2:] if long else name.replace("_", "-")
        required = info.default is ...
        found[key] = Setting(
            key=key,
            parameter=name,
            kind=kind,
            several=several,
            required=required,
            default=None if required else info.default,
            variable=f"MCP_DISCOVERY_{name.upper()}" if is_option else "",
            help=info.help or "",
            metavar=str(info.metavar or "") if is_option else "",
            least=info.min,
            most=info.max,
        )
    return found


def use(context: typer.Context, role: Callable[..., Any], file: str) -> None:
    """Makes the options in ``file`` for ``role`` the command's defaults.

    Raises :class:`InvalidInputError`.
    """
    name = role.__name__
    section = sections(file, [name], others=True).get(name)
    if section is None:
        raise InvalidInputError(f"{file}: has no part {name}: with options below it")
    context.default_map = values(section, role, file)


def sections(file: str, roles: Iterable[str], *, others: bool = False) -> dict[str, Table]:
    """The parts of ``file`` by role; ``others`` may stand beside them, unread.

    Raises :class:`InvalidInputError`.
    """
    roles = list(roles)
    content = parse(read_bytes(file), file)
    if content is None:
        raise InvalidInputError(f"{file}: is empty; write sidecar: or facade: and options below it")
    if not isinstance(content, Table):
        raise InvalidInputError(
            f"{file}: is no mapping; write sidecar: or facade: and options below it"
        )
    found: dict[str, Table] = {}
    for name, part in content.entries.items():
        place = f"{file}:{content.lines[name]}"
        if name not in roles:
            if others:
                continue
            raise InvalidInputError(f"{place}: {_unknown(name, roles)}")
        if not isinstance(part, Table):
            raise InvalidInputError(f"{place}: {name}: needs options below it, such as store: URL")
        found[name] = part
    return found


def values(section: Table, role: Callable[..., Any], file: str) -> dict[str, Any]:
    """What ``section`` gives ``role``, by parameter; raises :class:`InvalidInputError`."""
    known = settings(role)
    found: dict[str, Any] = {}
    for key, node in section.entries.items():
        place = f"{file}:{section.lines[key]}"
        if key not in known:
            raise InvalidInputError(f"{place}: {_unknown(key, known)}")
        setting = known[key]
        if key in SECRETS:
            raise InvalidInputError(
                f"{place}: {key} is a secret, which belongs in no configuration; write {key}-file "
                f"and the path of a file that holds it, or set {setting.variable}"
            )
        try:
            found[setting.parameter] = setting.read(node)
        except ValueError as error:
            raise InvalidInputError(f"{place}: {key}: {error}") from error
    return found


def _text(node: Node) -> str:
    if not isinstance(node, Scalar):
        raise ValueError("is a list or a mapping; write one value")
    if node.value() is None:
        raise ValueError("has no value; give one, or leave the key out")
    return node.text


def _unknown(key: str, known: Iterable[str]) -> str:
    near = nearest(key.replace("_", "-").lower(), known, cutoff=0.5)
    hint = f"did you mean {near}?" if near else f"it may be {', '.join(sorted(known))}"
    return f"there is no {key}; {hint}"


# -- the same as JSON Schema -----------------------------------------------------------------------

_DURATION = {
    "anyOf": [
        {"type": "number", "minimum": 0},
        {"type": "string", "pattern": r"^\s*(\d+(\.\d*)?|\.\d+)\s*(ms|s|m|h|d)?\s*$"},
    ]
}
_WORD = {"type": ["string", "number"]}


def schema(roles: Mapping[str, Callable[..., Any]]) -> dict[str, Any]:
    """JSON Schema (2020-12) of a configuration file for ``roles``."""
    parts = {
        name: {
            "type": "object",
            "description": inspect.cleandoc(role.__doc__ or "").partition("\n")[0],
            "additionalProperties": False,
            "minProperties": 1,
            "properties": {
                key: _described(each)
                for key, each in sorted(settings(role).items())
                if key not in SECRETS
            },
        }
        for name, role in roles.items()
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "mcp-discovery configuration",
        "type": "object",
        "additionalProperties": False,
        "minProperties": 1,
        "properties": parts,
    }


def _described(setting: Setting) -> dict[str, Any]:
    described: dict[str, Any]
    if setting.metavar == _PAIRS:
        scalar = {"type": ["string", "number", "boolean"]}
        described = {"type": "object", "additionalProperties": scalar}
    elif setting.several:
        described = {"anyOf": [{"type": "array", "items": _WORD}, _WORD]}
    elif setting.kind is bool:
        described = {"type": "boolean"}
    elif setting.kind is int:
        bounds = {"minimum": setting.least, "maximum": setting.most}
        described = {"type": "integer"} | {k: v for k, v in bounds.items() if v is not None}
    elif setting.kind is float:
        described = dict(_DURATION)
    else:
        described = dict(_WORD)
    unit = " In seconds, or as 30s, 5m, 2h." if setting.kind is float else ""
    described["description"] = setting.help + unit
    if isinstance(setting.default, bool | int | float | str):
        described["default"] = setting.default
    return described
