# ACL policy for DNS, whose questions carry no token: an agent answers them with its default token.
#
# Use:
#   consul acl policy create -name mcp-dns -rules @dns.hcl
#   consul acl token create -description 'DNS' -policy-name mcp-dns
#   consul acl set-agent-token default <SecretID>      # on each agent that DNS asks
#
# That is so on Consul 1.8.7 and on 1.16.3: neither knows an agent token for DNS alone. The default
# token also stands in for HTTP requests without one, so it can do no more than this.

# <tag>.tag.mcp.service.consul, <name>.server.mcp.service.consul
service "mcp" {
  policy = "read"
}

# mcp-<name>.service.consul, with ?mode=service-per-server
service_prefix "mcp-" {
  policy = "read"
}

# Consul shows a service only to those who may read its node.
node_prefix "" {
  policy = "read"
}
