# A Consul server for mcp-discovery: TLS, ACLs that deny by default, DNS that serves only what passes.
#
# Use, on each of three machines (docs/consul.md has every step, certificates and tokens included):
#   consul agent -config-file=server.hcl -config-file=/etc/consul.d/secrets.hcl \
#     -retry-join=10.0.0.11 -retry-join=10.0.0.12 -retry-join=10.0.0.13
#
# Not in here, because it is secret: the gossip key. /etc/consul.d/secrets.hcl, mode 0600, holds one
# line, encrypt = "…", with what `consul keygen` printed. Consul keeps the key in its keyring (in
# data_dir) from its first start on; change it there with `consul keyring`. Tokens are set with
# `consul acl set-agent-token` and kept in data_dir, too.
#
# Written for Consul 1.8 and later. From 1.12 on the TLS lines may move into tls { defaults { … } }.

server             = true
bootstrap_expect   = 3
datacenter         = "dc1"
primary_datacenter = "dc1"
data_dir           = "/var/lib/consul"

# Gossip and RPC between agents. The template fails where there are several private addresses: then
# start with -bind=<address>.
bind_addr = "{{ GetPrivateIP }}"

# Plain HTTP and DNS for this machine alone; HTTPS for facades elsewhere.
client_addr = "127.0.0.1"
addresses {
  https = "0.0.0.0"
}
ports {
  http  = 8500
  https = 8501
  dns   = 8600
}

ca_file                = "/etc/consul.d/tls/consul-agent-ca.pem"
cert_file              = "/etc/consul.d/tls/server.pem"
key_file               = "/etc/consul.d/tls/server-key.pem"
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

# Service mesh and intentions; see intentions/ beside this file. Costs nothing where it is not used.
connect {
  enabled = true
}

# A watching facade holds two blocking queries and makes one or two requests beside them. The
# limit counts connections from one address, behind which may be many facades (a proxy, a NAT).
limits {
  http_max_conns_per_client = 1000
}

# Sidecars hold their records by sessions, which end after twice their TTL: with Consul's 10s, an instance
# whose token is gone is down within 25 s, with less it is down within its own TTL and 2 s.
session_ttl_min = "5s"

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

performance {
  raft_multiplier = 1
}

# A server that is restarted is a server still.
leave_on_terminate   = false
disable_update_check = true
