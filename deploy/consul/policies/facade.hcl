# ACL policy of a facade that watches and serves the list: it reads, and writes nothing.
#
# Use:
#   consul acl policy create -name mcp-facade -rules @facade.hcl
#   consul acl token create -description 'facades' -policy-name mcp-facade
#   MCP_DISCOVERY_STORE_TOKEN=<SecretID> mcp-discovery facade --store consul://127.0.0.1:8500
#
# With ?mode=service-per-server: service_prefix "mcp-" in place of service "mcp".
# A facade that also keeps servers which are POSTed to it registers them as a sidecar does: give its
# token the sidecar's policy beside this one. One that also sweeps: the sweeper's. One that also keeps
# named queries: queries.hcl. Where the agents have acl.enable_key_list_policy, the key rules say "list" in place of "read".

# Who is alive.
service "mcp" {
  policy = "read"
}

# What they are.
key_prefix "mcp/servers/" {
  policy = "read"
}

# What they offer.
key_prefix "mcp/documents/" {
  policy = "read"
}

# What is asked by name (GET /queries/{name}).
key_prefix "mcp/queries/" {
  policy = "read"
}

# Consul shows a service only to those who may read its node; a dead node's instances are down.
node_prefix "" {
  policy = "read"
}
