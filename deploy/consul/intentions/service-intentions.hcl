# Who may call the MCP server product-catalog through the mesh: Consul 1.9 and later. For 1.8, whose
# intentions are no config entries yet, intentions.sh does the same.
#
# Use, with a token that has service "mcp-product-catalog" { policy = "read" intentions = "write" }:
#   consul config write service-intentions.hcl
#   consul intention check agents mcp-product-catalog
#
# Each server needs a Consul service of its own for this: ?mode=service-per-server.

Kind = "service-intentions"
Name = "mcp-product-catalog"
Sources = [
  {
    Name   = "agents"
    Action = "allow"
  },
  {
    Name   = "*"
    Action = "deny"
  }
]
