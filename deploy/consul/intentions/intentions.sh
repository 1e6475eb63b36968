#!/bin/sh
# Who may call the MCP server product-catalog through the mesh: Consul 1.8, and later versions, which
# still take these commands. From 1.9 on service-intentions.hcl says the same as a config entry.
#
# Use, with a token that has service "mcp-product-catalog" { policy = "read" intentions = "write" }
# (and the same for each further server):
#   CONSUL_HTTP_TOKEN=<SecretID> ./intentions.sh agents product-catalog weather
#   consul intention check agents mcp-product-catalog
#
# The first word is the Consul service of the callers, the others are names of MCP servers. Each server
# needs a Consul service of its own for this: ?mode=service-per-server.
set -eu

callers=$1
shift
for server in "$@"; do
    consul intention create -replace -allow "$callers" "mcp-$server"
    consul intention create -replace -deny '*' "mcp-$server"
done
