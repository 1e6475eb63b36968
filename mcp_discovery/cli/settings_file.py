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

from mcp_discovery.cli import options
from mcp_discovery.errors import InvalidInputError, raise_all
from mcp_discovery.nearest import nearest
from mcp_discovery.yaml_files import Items, Node, Scalar, Table, parse, read_bytes

#: Parameters of a command that are no settings of its role.
_NOT_IN_FILES = frozenset({"context", "config"})
#: Settings that are secrets: they belong in a file of their own or in the environment.
SECRETS = frozenset(
    {
        *("store-token", "store-password", "store-oauth-client-secret"),
        *("server-token", "health-token"),
        *("audit-password", "limits-store-password"),
    }
)
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
    parser: Callable[[str], Any] | None
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
            return [self._parsed(_text(each)) for each in items]
        return self._parsed(_text(node))

    def _parsed(self, text: str) -> Any:
        try:
            return text if self.parser is None else self.parser(text)
        except options.SeveralValuesError as error:
            raise ValueError(f"write a list: [{', '.join(error.parts)}]") from None
        except typer.BadParameter as error:
            raise ValueError(error.message) from None


def settings(role: Callable[..., Any]) -> dict[str, Setting]:
    """What may stand in a file for ``role``, a command's function, by its key."""
    found = {}
    for name, each in options.parameters(role).items():
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
            parser=info.parser,
            least=info.min,
            most=info.max,
        )
    return found


def use(context: typer.Context, role: Callable[..., Any], file: str) -> None:
    """Makes the options in ``file`` for ``role`` the command's defaults.

    Raises :class:`InvalidInputError`.
    """
    name = role.__name__
    found, faults = sections(file, [name], others=True)
    raise_all(faults)
    if name not in found:
        raise InvalidInputError(f"{file}: has no part {name}: with options below it")
    context.default_map, wrong = values(found[name], role, file)
    raise_all(wrong.values())


def sections(
    file: str, roles: Iterable[str], *, others: bool = False
) -> tuple[dict[str, Table], list[InvalidInputError]]:
    """The parts of ``file`` by role, and what is wrong with others; with ``others`` these may stand
    beside them, unread.

    Raises :class:`InvalidInputError` for a file that cannot be read.
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
    faults = []
    for name, part in content.entries.items():
        place = f"{file}:{content.lines[name]}"
        if name not in roles:
            if not others:
                faults.append(InvalidInputError(f"{place}: {_unknown(name, roles)}"))
        elif isinstance(part, Table):
            found[name] = part
        else:
            problem = f"{place}: {name}: needs options below it, such as store: URL"
            faults.append(InvalidInputError(problem))
    return found, faults


def values(
    section: Table, role: Callable[..., Any], file: str
) -> tuple[dict[str, Any], dict[str, InvalidInputError]]:
    """What ``section`` gives ``role``, by parameter, and what is wrong, by key."""
    found, problems = given_values(section.entries, role)
    return found, {
        key: InvalidInputError(f"{file}:{section.lines[key]}: {problem}")
        for key, problem in problems.items()
    }


def given_values(
    entries: Mapping[str, Node], role: Callable[..., Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """What ``entries`` give ``role``, by parameter, and what is wrong, by key."""
    known = settings(role)
    found: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for key, node in entries.items():
        setting = known.get(key)
        if setting is None:
            problem = _unknown(key, known)
        elif key in SECRETS:
            problem = (
                f"{key} is a secret, which belongs in no configuration; write {key}-file "
                f"and the path of a file that holds it, or set {setting.variable}"
            )
        else:
            try:
                found[setting.parameter] = setting.read(node)
                continue
            except ValueError as error:
                problem = f"{key}: {error}"
        problems[key] = problem
    return found, problems


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
