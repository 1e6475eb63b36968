# ACL policy of the sidecars of one MCP server, product-catalog, with ?mode=service-per-server: they
# can write nothing of any other server. Replace the name for each server.
#
# Use:
#   sed s/product-catalog/weather/g sidecar-of-one-server.hcl > sidecar-weather.hcl
#   consul acl policy create -name mcp-sidecar-weather -rules @sidecar-weather.hcl
#   consul acl token create -description 'sidecars of weather' -policy-name mcp-sidecar-weather
#   MCP_DISCOVERY_STORE_TOKEN=<SecretID> mcp-discovery sidecar --name weather \
#     --store 'consul://127.0.0.1:8500?mode=service-per-server' …
#
# A server that is renamed needs the rights of both names while it is.

# Registers the service, renews and sets its checks, removes it.
service "mcp-product-catalog" {
  policy = "write"
}

# Sees who holds an id already, under whatever name.
service_prefix "mcp-" {
  policy = "read"
}

# Its record: what the server says of itself.
key_prefix "mcp/servers/product-catalog/" {
  policy = "write"
}

# Says who holds an id that is taken.
key_prefix "mcp/servers/" {
  policy = "read"
}

# Its capability document. Documents are named by their SHA-256 and shared by all that offer the same,
# so there is no prefix of its own; one that is damaged is never taken for good, and written anew.
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
