"""The state of the facade and of its list: status, health, readiness, capabilities, metrics."""
