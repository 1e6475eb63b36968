"""What every test may use: the shared real stores, and a loop without leftovers."""

import signal

import pytest

# A shell makes what it starts in the background ignore Ctrl-C, and the programs that are started
# here would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["tests.stores.fixtures"]


@pytest.fixture(autouse=True)
def in_its_group(request: pytest.FixtureRequest) -> None:
    """A group is run by one worker, so that clusters are not broken beside each other.

    pytest-xdist marks it at the ends of ids; where it cannot, it says nothing.
    """
    mark = request.node.get_closest_marker("xdist_group")
    if mark is None or not request.config.getoption("loadgroup", False):
        return
    if not request.node.nodeid.endswith(f"@{mark.args[0]}"):
        pytest.fail("not run with its group: install the versions that requirements.txt names")
