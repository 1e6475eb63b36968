# A Consul client agent beside MCP servers: the one that sidecars register with, and that DNS asks.
#
# Use, on each machine with MCP servers, sidecars or agents that read DNS:
#   consul agent -config-file=client.hcl -config-file=/etc/consul.d/secrets.hcl \
#     -retry-join=10.0.0.11 -retry-join=10.0.0.12 -retry-join=10.0.0.13
#   mcp-discovery sidecar --store consul://127.0.0.1:8500 --url http://127.0.0.1:8000/mcp
#
# The gossip key is in /etc/consul.d/secrets.hcl (mode 0600), one line: encrypt = "…". Tokens are set
# with `consul acl set-agent-token` and kept in data_dir; a sidecar has its own, in
# MCP_DISCOVERY_STORE_TOKEN. docs/consul.md has every step.
#
# Written for Consul 1.8 and later. From 1.12 on the TLS lines may move into tls { defaults { … } }.

server             = false
datacenter         = "dc1"
primary_datacenter = "dc1"
data_dir           = "/var/lib/consul"
bind_addr          = "{{ GetPrivateIP }}"

# Everything for this machine alone: plain HTTP, HTTPS for those who want the token encrypted on
# loopback as well, DNS. Pods reach an agent on their node with -client=<the node's address>; turn
# plain HTTP off then: -hcl='ports { http = -1 }'.
client_addr = "127.0.0.1"
ports {
  http  = 8500
  https = 8501
  dns   = 8600
}

ca_file                = "/etc/consul.d/tls/consul-agent-ca.pem"
cert_file              = "/etc/consul.d/tls/client.pem"
key_file               = "/etc/consul.d/tls/client-key.pem"
verify_outgoing        = true
verify_server_hostname = true
verify_incoming_rpc    = true
# Whoever uses HTTPS shows a token. With true, sidecars and facades need --store-cert and --store-key.
verify_incoming_https = false

acl {
  enabled        = true
  default_policy = "deny"

  # Where the servers do not answer, go on with the rights that are known and ask in the background.
  # With "extend-cache", the default, each heartbeat waits for the servers as long as they hang, and
  # TTLs lapse on agents that are well.
  down_policy = "async-cache"

  # Tokens that `consul acl set-agent-token` sets survive a restart.
  enable_token_persistence = true
}

# All sidecars of a machine come from one address, 127.0.0.1, and each holds one connection; a facade
# holds three or four. Consul's default, 200, would be the limit of MCP servers on one machine.
limits {
  http_max_conns_per_client = 1000
}

# How long an agent holds back a change of a check's output alone. This is Consul's default:
# mcp-discovery sends heartbeats whose output never changes, and makes a new reason visible at once by
# other means, so a shorter interval would gain nothing and cost a write for each chatty check.
check_update_interval = "5m"

dns_config {
  # Only `passing`, which is `healthy`. Otherwise DNS also serves `warning`, which is `degraded`.
  only_passing = true
  # How long resolvers in between may keep an answer, so how long they may show an instance that is
  # gone. Covers `mcp` and `mcp-<server>`.
  service_ttl {
    "mcp*" = "2s"
  }
  node_ttl = "2s"
  # An answer that does not fit says so (TC), and resolvers ask again by TCP.
  enable_truncate = true
}

# An agent that is restarted or upgraded keeps its services listed meanwhile. A client that leaves, as
# it does by default, takes them out of the catalog at once. Run `consul leave` on a machine that goes
# for good.
leave_on_terminate   = false
disable_update_check = true
