"""``mcp-discovery health``: is the facade or sidecar of this machine well? For health checks."""

from __future__ import annotations

import typer

from mcp_discovery.cli.exit_codes import DONE, FAILED, UNAVAILABLE
from mcp_discovery.cli.terminal import line, say
from mcp_discovery.listening import WILDCARDS

_TIMEOUT = 3.0


def health(
    host: str = typer.Option(
        "127.0.0.1", envvar="MCP_DISCOVERY_HOST", help="The address that the facade listens on."
    ),
    port: int = typer.Option(
        4000, min=1, max=65535, envvar="MCP_DISCOVERY_PORT", help="The facade's port."
    ),
    tls_cert: str | None = typer.Option(
        None,
        metavar="FILE",
        envvar="MCP_DISCOVERY_TLS_CERT",
        help="The facade's certificate, where it listens with TLS. It is asked for its health with "
        "TLS then, whatever name is in the certificate.",
    ),
    ops_host: str | None = typer.Option(
        None, envvar="MCP_DISCOVERY_OPS_HOST", help="The address of the facade's --ops-port."
    ),
    ops_port: int | None = typer.Option(
        None,
        min=1,
        max=65535,
        envvar="MCP_DISCOVERY_OPS_PORT",
        help="The facade's --ops-port, where it is asked then.",
    ),
    health_host: str = typer.Option(
        "127.0.0.1",
        envvar="MCP_DISCOVERY_HEALTH_HOST",
        help="The address of the sidecar's health port.",
    ),
    health_port: int | None = typer.Option(
        None,
        min=1,
        max=65535,
        envvar="MCP_DISCOVERY_HEALTH_PORT",
        help="The sidecar's --health-port. Where a sidecar answers there, the facade is not asked.",
    ),
    ready: bool = typer.Option(
        False, "--ready", help="Ask whether it is ready instead: a list read, or the server listed."
    ),
) -> None:
    """Say whether the sidecar or the facade that runs here is well, for health checks.

    Takes its addresses from the same variables as the two roles do, so one command fits both in a
    container. Exit codes: 0 well; 1 not well, with the reason; 3 nobody answers.
    """
    paths = ("/readyz", "/ready") if ready else ("/healthz", "/health")
    if ops_port is not None:
        host, port, tls_cert = ops_host or host, ops_port, None
    places = [(host, port, paths[1])]
    if health_port is not None:
        places.insert(0, (health_host, health_port, paths[0]))
    problems = []
    for place in places:
        try:
            status, text = _get(*place, tls=bool(tls_cert) and place is places[-1])
        except ConnectionRefusedError:
            problems.append(f"nobody listens at {_address(*place[:2])}")
            continue
        except OSError as error:
            problems = [f"{_address(*place[:2])} does not answer: {error}"]
            break
        say(line(text), err=status != 200)
        raise typer.Exit(DONE if status == 200 else FAILED)
    say(f"mcp-discovery: {'; '.join(problems)}", err=True)
    raise typer.Exit(UNAVAILABLE)


def _get(host: str, port: int, path: str, *, tls: bool) -> tuple[int, str]:
    """Status and beginning of the body; raises OSError when there is no HTTP answer in time."""
    import http.client
    import ssl

    connection = http.client.HTTPConnection(WILDCARDS.get(host, host), port, timeout=_TIMEOUT)
    if tls:
        # Nothing secret is sent, and this machine's own address is in no certificate.
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        address = WILDCARDS.get(host, host), port
        connection = http.client.HTTPSConnection(*address, timeout=_TIMEOUT, context=context)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read(1000).decode(errors="replace")
    except http.client.HTTPException as error:
        raise OSError(f"no HTTP answer ({error!r})") from error
    finally:
        connection.close()


def _address(host: str, port: int) -> str:
    dialled = WILDCARDS.get(host, host)
    return f"[{dialled}]:{port}" if ":" in dialled else f"{dialled}:{port}"
