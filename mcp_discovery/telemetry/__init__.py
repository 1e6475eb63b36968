"""OpenTelemetry, where it is asked for: traces, metrics and logs over OTLP.

:mod:`~mcp_discovery.telemetry.spans` is the seam that everything else uses. It imports nothing of
OpenTelemetry, and does nothing until :mod:`~mcp_discovery.telemetry.setup` has found that it is
asked for, and has loaded :mod:`~mcp_discovery.telemetry.sdk`. See docs/observability.md.
"""
