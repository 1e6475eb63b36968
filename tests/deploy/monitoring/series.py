"""Time series as promtool's test files have them, short: runs of equal steps are one word."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

from tests.deploy.monitoring.world import SCRAPE, Check, Labels, Values, World

_LE = "le"
_COUNTS = ("_total", "_count")


def written(values: Values) -> str:
    """``values`` in promtool's notation: ``5x3`` is 5 and three more, ``1+2x3`` is 1 3 5 7."""
    words: list[str] = []
    numbers = [None if each is None else round(each, 1) for each in values]
    at = 0
    while at < len(numbers):
        first, end = numbers[at], at + 1
        if first is None:
            while end < len(numbers) and numbers[end] is None:
                end += 1
            # A series that has ended is over at once; else it would be looked back at for minutes.
            gone = [] if at == 0 else ["stale"]
            words += [*gone, *([f"_x{end - at - len(gone)}"] if end - at > len(gone) else [])]
            at = end
            continue
        step = None
        while end < len(numbers) and (after := numbers[end]) is not None:
            before = numbers[end - 1]
            assert before is not None
            if step is not None and round(after - before, 1) != step:
                break
            step = round(after - before, 1)
            end += 1
        count = end - at - 1
        if count == 1 and step:  # a step is no run
            words.append(_number(first))
            at += 1
            continue
        if count == 0:
            words.append(_number(first))
        elif not step:
            words.append(f"{_number(first)}x{count}")
        else:
            words.append(f"{_number(first)}{'+' if step > 0 else '-'}{_number(abs(step))}x{count}")
        at = end
    return " ".join(words)


def _number(value: float) -> str:
    return f"{value:g}" if value != int(value) else str(int(value))


def thinned(series: Mapping[Labels, Values]) -> dict[Labels, Values]:
    """``series`` without what no rule can feel: counters that are 0 all the time, and the buckets
    of a metric between two that count the same, in each of its histograms, where no quantile is."""
    kept = dict(series)
    metrics: dict[str, dict[Labels, dict[float, Labels]]] = {}
    for labels, values in series.items():
        of = dict(labels)
        if _LE in of:
            family = tuple(each for each in labels if each[0] != _LE)
            histograms = metrics.setdefault(of["__name__"], {})
            histograms.setdefault(family, {})[float(of[_LE])] = labels
        elif not any(values) and of["__name__"].endswith(_COUNTS):
            del kept[labels]
    for histograms in metrics.values():
        for family, buckets in list(histograms.items()):
            if not any(series[buckets[max(buckets)]]):
                del histograms[family]
                for labels in buckets.values():
                    del kept[labels]
        limits = sorted({limit for buckets in histograms.values() for limit in buckets})
        for before, this, after in zip(limits, limits[1:], limits[2:], strict=False):
            if all(
                series[buckets[before]] == series[buckets[this]] == series[buckets[after]]
                for buckets in histograms.values()
            ):
                for buckets in histograms.values():
                    del kept[buckets[this]]
    return kept


def series_name(labels: Labels) -> str:
    """``name{label="value"}``."""
    of = dict(labels)
    name = of.pop("__name__")
    inside = ",".join(f"{key}={json.dumps(value)}" for key, value in sorted(of.items()))
    return f"{name}{{{inside}}}"


_BY = "alertname, instance, name, id"


def expected(firing: Iterable[str]) -> list[str]:
    """The samples that ``count by (…)`` of :data:`_BY` gives for alerts as ``ListStale f1``."""
    samples = []
    for each in sorted(firing):
        alert, _, who = each.partition(" ")
        labels = {"alertname": f"McpDiscovery{alert}"}
        if alert == "InstanceDown":
            labels |= {"id": who, "name": who.rpartition("-")[0]}
        elif alert == "ServerUnavailable":
            labels["name"] = who
        elif re.fullmatch(r"f\d", who):
            labels["instance"] = f"{who}:4000"
        elif who:
            labels["instance"] = who
        inside = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
        samples.append(f"          - {{labels: '{{{inside}}}', value: 1}}")
    return samples


def as_promtool_test(name: str, about: str, made: World) -> str:
    """The test file of one recorded outage."""
    lines = [
        *(f"# {line.strip()}" for line in about.strip().splitlines()),
        "#",
        f"# Recorded, as is all in it: python -m tests.deploy.monitoring.record {name}",
        "",
        "rule_files: [../rules/mcp-discovery.yml]",
        f"evaluation_interval: {SCRAPE}s",
        "",
        "tests:",
        f"  - name: {name}",
        f"    interval: {SCRAPE}s",
        "    input_series:",
    ]
    for labels, values in sorted(thinned(made.series).items()):
        lines.append(f"      - {{series: '{series_name(labels)}', values: '{written(values)}'}}")
    lines += ["    promql_expr_test:"]
    firing = 'ALERTS{alertstate="firing"}'
    for check in made.checks:
        lines += _asked(f"count by ({_BY}) ({firing})", check)
    ever = frozenset[str]().union(*(check.firing for check in made.checks))
    end = max(len(values) for values in made.series.values()) * SCRAPE
    lines += _asked(f"count by ({_BY}) (count_over_time({firing}[1h]))", Check(end, ever))
    return "\n".join(lines) + "\n"


def _asked(expression: str, check: Check) -> list[str]:
    minutes, seconds = divmod(check.at, 60)
    samples = expected(check.firing)
    return [
        f"      - expr: {expression}",
        f"        eval_time: {minutes}m{seconds}s",
        "        exp_samples:" + ("" if samples else " []"),
        *samples,
    ]
