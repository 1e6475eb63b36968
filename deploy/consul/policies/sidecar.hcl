# ACL policy of a sidecar, and of a facade that keeps servers which were POSTed to it (such a facade
# needs facade.hcl's rights as well, and these include them).
#
# Use:
#   consul acl policy create -name mcp-sidecar -rules @sidecar.hcl
#   consul acl token create -description 'sidecars' -policy-name mcp-sidecar
#   MCP_DISCOVERY_STORE_TOKEN=<SecretID> mcp-discovery sidecar --store consul://127.0.0.1:8500 …
#
# For the store consul://…/mcp. With another path, or with ?mode=service-per-server, see
# sidecar-of-one-server.hcl.

# Registers the service, renews and sets its checks, removes it; sees who holds an id already.
service "mcp" {
  policy = "write"
}

# Its record: what the server says of itself.
key_prefix "mcp/servers/" {
  policy = "write"
}

# Its capability document, shared by all instances of one version.
key_prefix "mcp/documents/" {
  policy = "write"
}

# Consul shows a service only to those who may read its node: without, an id that another node holds
# cannot be told from a free one.
node_prefix "" {
  policy = "read"
}

# Learns the agent's address in the cluster, which is advertised in place of 127.0.0.1. Not needed with
# --advertise-url or POD_IP.
agent_prefix "" {
  policy = "read"
}

# Holds its record by a session, which the servers end once the token is revoked or has expired:
# without, such an instance stays listed, and in DNS, as it last was. To keep a token to the sidecars
# of one machine: session "NODE" in place of session_prefix "".
session_prefix "" {
  policy = "write"
}
