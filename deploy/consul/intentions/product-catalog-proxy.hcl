# The mesh proxy in front of the MCP server product-catalog, on the machine where it runs. The sidecar
# of mcp-discovery registers the server (mcp-product-catalog); this proxy is the operator's.
#
# Use, with a token made by: consul acl token create -service-identity=mcp-product-catalog
#   consul services register product-catalog-proxy.hcl
#   consul connect proxy -proxy-id=mcp-product-catalog-sidecar-proxy
# and beside the agents that call it, as the Consul service "agents":
#   consul connect proxy -service=agents -upstream=mcp-product-catalog:9001
#   # agents then call http://127.0.0.1:9001/mcp
#
# Let the MCP server listen on 127.0.0.1 alone, or whoever reaches its port passes the mesh by.

service {
  kind = "connect-proxy"
  name = "mcp-product-catalog-sidecar-proxy"
  id   = "mcp-product-catalog-sidecar-proxy"
  port = 20001

  proxy {
    destination_service_name = "mcp-product-catalog"
    local_service_address    = "127.0.0.1"
    local_service_port       = 8001
  }

  check {
    name     = "the proxy listens"
    tcp      = "127.0.0.1:20001"
    interval = "10s"
  }
}
