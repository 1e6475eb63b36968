# ACL policy of whoever removes what is left behind: records without a service, documents that no
# record names, services on machines that are gone. Every facade tries to every five minutes; give this
# to the token of one or two of them, beside facade.hcl. Without, a facade sweeps nothing and serves
# all the same.
#
# Use:
#   consul acl policy create -name mcp-sweeper -rules @sweeper.hcl
#   consul acl token create -description 'facade that sweeps' -policy-name mcp-facade -policy-name mcp-sweeper
#
# With ?mode=service-per-server: service_prefix "mcp-" in place of service "mcp".

# Removes services of machines that are gone: they have no agent to do it.
service "mcp" {
  policy = "write"
}

# Removes records that no service belongs to any more.
key_prefix "mcp/servers/" {
  policy = "write"
}

# Removes documents that no record names any more.
key_prefix "mcp/documents/" {
  policy = "write"
}

# Without, every service looks gone; the sweep then refuses to begin.
node_prefix "" {
  policy = "read"
}
