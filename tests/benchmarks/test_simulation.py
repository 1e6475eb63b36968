"""The simulation: its queues against what is known of them, its model against real stores."""

from __future__ import annotations

import random
import statistics
import sys
from pathlib import Path

import orjson
import pytest

from benchmarks import simulate
from benchmarks.simulation.catalogs import catalogs
from benchmarks.simulation.costs import Costs
from benchmarks.simulation.model import STORES, Fleet, Machine, StoreName, most_sidecars
from benchmarks.simulation.queueing import blocking_queries, deliveries_to_watches, waits
from benchmarks.simulation.remedies import remedies
from mcp_discovery.adapters.consul.watch import REFILL, WAIT

COSTS = Costs.load()
MACHINE = Machine()


@pytest.mark.parametrize("used", [0.3, 0.6, 0.8])
def test_waits_are_those_of_the_closed_form(used: float) -> None:
    """M/D/1: the mean wait is used / (2 (1 - used)) service times."""
    chance = random.Random(1)
    mean = statistics.fmean(
        wait for _ in range(20) for wait, _ in waits(rate=used, work=1.0, chance=chance)
    )
    assert mean == pytest.approx(used / (2 * (1 - used)), rel=0.15)


def test_what_is_told_in_time_and_what_is_not() -> None:
    assert not deliveries_to_watches(10, 0.05).stalled
    assert deliveries_to_watches(10, 0.11).stalled
    later = deliveries_to_watches(10, 0.05).plus(2.0).delay
    assert later.p50 == pytest.approx(deliveries_to_watches(10, 0.05).delay.p50 + 2.0)


@pytest.mark.parametrize("rate", [0.01, 1.0, 100.0])
def test_blocking_queries_keep_their_pace(rate: float) -> None:
    quick = blocking_queries(rate, work=0.0, own=0.0)
    assert 0.9 / WAIT <= quick.rate <= 1.05 / REFILL
    assert quick.delay.p99 <= REFILL * 1.1


def test_blocking_queries_that_are_too_many_only_make_lists_older() -> None:
    full = blocking_queries(rate=50.0, work=8.0, own=0.0)
    assert full.rate * 8.0 == pytest.approx(1.0, rel=0.1)
    assert 8.0 < full.delay.p99 < 24.0


@pytest.mark.parametrize("store", STORES)
def test_more_of_anything_uses_more(store: StoreName) -> None:
    """Of a fleet whose watches are never silent for long: those that are ask by themselves."""
    small = STORES[store](Fleet(10_000, 100), MACHINE, COSTS)
    for larger in (Fleet(20_000, 100), Fleet(10_000, 200), Fleet(10_000, 100, turnover=1.0)):
        load = STORES[store](larger, MACHINE, COSTS)
        assert load.bytes > small.bytes
        assert load.requests > small.requests
        first, _ = small.first
        assert load.resources[first].used > small.resources[first].used


@pytest.mark.parametrize("store", STORES)
def test_the_most_sidecars_are_the_most(store: StoreName) -> None:
    few, _ = most_sidecars(store, 10, MACHINE, COSTS, 0.1)
    many, first = most_sidecars(store, 100, MACHINE, COSTS, 0.1)
    assert few >= many > 0
    assert STORES[store](Fleet(many, 100), MACHINE, COSTS).fits(MACHINE)
    above = STORES[store](Fleet(many * 3 // 2, 100), MACHINE, COSTS)
    assert not above.fits(MACHINE)
    assert above.first[0] == first


@pytest.mark.parametrize("store", STORES)
def test_remedies_bear_what_one_store_does_not(store: StoreName) -> None:
    fleet = Fleet(200_000, 500)
    assert not STORES[store](fleet, MACHINE, COSTS).fits(MACHINE)
    *_, last = remedies(store, fleet, MACHINE, COSTS)
    assert last.fits
    assert last.stores > 1
    assert last.stores * last.load.resources["facade: memory"].demand >= (
        fleet.sidecars * COSTS.facade_memory * 0.99
    )


@pytest.mark.parametrize("store", STORES)
def test_a_root_does_both_jobs_on_one_core(store: StoreName) -> None:
    """It follows the store, as a facade without readers does, and tells its readers."""
    fleet = Fleet(100_000, 1000)
    few, *_ = [each for each in remedies(store, fleet, MACHINE, COSTS) if each.name == "regional"]
    alone = STORES[store](Fleet(100_000, round(few.watching)), MACHINE, COSTS)
    telling = fleet.changes * fleet.facades / few.watching * COSTS.stream.delivery_cpu
    assert few.load.resources["facade: CPU"].used == pytest.approx(
        alone.resources["facade: CPU"].used + telling
    )


async def test_real_catalogs_take_in_a_course() -> None:
    timeline = deliveries_to_watches(100, 0.001)
    async with catalogs(2, 300) as real:
        delay = await real.delay(timeline)
        again = await real.delay(timeline.plus(1.0))
        assert all(len(store.changes_took) == 400 for store in real.stores)
    assert delay.p50 > timeline.delay.p50 * 0.5
    assert again.p50 == pytest.approx(delay.p50 + 1.0, abs=0.5)
    assert real.snapshot > 0 < real.change


def test_parameters_survive_a_file(tmp_path: Path) -> None:
    file = tmp_path / "measured.json"
    COSTS.save(file)
    assert Costs.load(file) == COSTS


def test_without_parameters_it_says_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(simulate, "MEASURED", tmp_path / "none.json")
    monkeypatch.setattr(sys, "argv", ["simulate", "--quick"])
    assert simulate.main() == 3
    assert "--measure" in capsys.readouterr().out


def test_files_that_cannot_be_are_said_before_anything_is_simulated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (["--json", str(tmp_path)], ["--plots", "/proc/nothing/plots"]):
        monkeypatch.setattr(sys, "argv", ["simulate", *arguments])
        with pytest.raises(SystemExit) as ended:
            simulate.main()
        assert ended.value.code == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_the_model_is_near_real_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes are the same everywhere; processors are not, and this one has others to serve."""
    file, plots = tmp_path / "found.json", tmp_path / "plots"
    arguments = ["simulate", "--quick", "--json", str(file), "--plots", str(plots)]
    monkeypatch.setattr(sys, "argv", arguments)
    assert simulate.main() == 0
    found = orjson.loads(file.read_bytes())
    for check in found["checks"]:
        low, high = (0.7, 1.4) if check["unit"] == "MB" else (0.1, 10)
        assert low < check["ratio"] < high, check
    assert {each["store"] for each in found["fleets"]} == set(STORES)
    for plot in ("limits", "delays", "bytes"):
        assert (plots / f"simulation-{plot}.svg").read_text().startswith("<svg")
