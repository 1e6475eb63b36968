"""Real Consul and etcd servers for tests: started, asked whether they are ready, broken, removed.

    async with ConsulServer() as consul:      # or EtcdServer, ConsulCluster, EtcdCluster
        ... consul.store_url ...
        await consul.kill()                   # stop, pause, resume, start, restart(wipe=True)

Where the programs come from is decided in `tests.stores.binaries`; shared servers for a whole run
are fixtures in `tests.stores.fixtures`.
"""

from tests.stores.binaries import StoreNotFound
from tests.stores.consul import ConsulAgent, ConsulCluster, ConsulServer
from tests.stores.etcd import EtcdCluster, EtcdServer
from tests.stores.server import Answer, RequestRefused, ServerFailed, StoreServer
from tests.stores.tls import Certificate, Tls
from tests.stores.waiting import NotYet, until

__all__ = [
    "Answer",
    "Certificate",
    "ConsulAgent",
    "ConsulCluster",
    "ConsulServer",
    "EtcdCluster",
    "EtcdServer",
    "NotYet",
    "RequestRefused",
    "ServerFailed",
    "StoreNotFound",
    "StoreServer",
    "Tls",
    "until",
]
