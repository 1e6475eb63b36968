"""The command ``mcp-discovery``: one module for each subcommand."""

import signal

from mcp_discovery.cli.process_one import leave_process_one


def main() -> None:
    """The console script. Ctrl-C while it still imports ends it without a traceback."""
    leave_process_one()
    interrupted = signal.signal(signal.SIGINT, signal.SIG_DFL)
    from mcp_discovery.cli.main import main as command

    signal.signal(signal.SIGINT, interrupted)
    command()
