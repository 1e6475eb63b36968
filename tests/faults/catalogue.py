"""All faults, entered by importing where they are written."""

from tests.faults import (
    bridge_faults,
    consul_faults,
    etcd_faults,
    facade_faults,
    instance_faults,
    store_faults,
)
from tests.faults.faults import FAULTS, Fault, of

__all__ = [
    "FAULTS",
    "Fault",
    "bridge_faults",
    "consul_faults",
    "etcd_faults",
    "facade_faults",
    "instance_faults",
    "of",
    "store_faults",
]
