"""All faults, entered by importing where they are written."""

from tests.faults import at_consul, at_desks, at_etcd, at_seats, at_stores
from tests.faults.faults import FAULTS, Fault, of

__all__ = ["FAULTS", "Fault", "at_consul", "at_desks", "at_etcd", "at_seats", "at_stores", "of"]
