# An MCP server with its sidecar in Nomad, for a cluster whose nodes run a Consul agent:
#
#   nomad job validate mcp-server.nomad.hcl
#   nomad job run -var image=mcp-discovery:0.2.0.dev0 mcp-server.nomad.hcl
#
# The server is the product catalog that comes in the image of mcp-discovery: put your own image,
# command and port in its place. The sidecar registers it at the address that Nomad gave the group,
# so it needs neither a `service` block nor Nomad's own checks. Wants Nomad 1.0 or later, and Docker.

variable "image" {
  type        = string
  description = "The image of mcp-discovery."
  default     = "mcp-discovery:0.2.0.dev0"
}

variable "datacenters" {
  type    = list(string)
  default = ["dc1"]
}

variable "store" {
  type        = string
  description = "Where the sidecar registers: the node's own Consul agent, unless told otherwise."
  default     = "consul://127.0.0.1:8500"
}

variable "count" {
  type    = number
  default = 2
}

job "product-catalog" {
  datacenters = var.datacenters
  type        = "service"

  # One replica after the other, and the next only when the one before stayed up for a while.
  update {
    max_parallel     = 1
    health_check     = "task_states"
    min_healthy_time = "15s"
  }

  group "product-catalog" {
    count = var.count

    network {
      port "mcp" {}
      port "health" {}
    }

    # Not a lifecycle hook: Nomad stops the tasks of hooks *after* the main ones, and a sidecar has
    # to drain *before* its server ends. The leader is stopped first and waited for, which is that
    # order. It needs no start order: the sidecar waits for its server itself.
    task "sidecar" {
      driver = "docker"
      leader = true

      config {
        image        = var.image
        network_mode = "host"
        command      = "sidecar"
        args = [
          "--store", var.store,
          "--url", "http://127.0.0.1:${NOMAD_PORT_mcp}/mcp",
          "--advertise-url", "http://${NOMAD_ADDR_mcp}/mcp",
          "--tag", "products",
          "--drain", "5s",
          "--health-port", "${NOMAD_PORT_health}",
        ]
        readonly_rootfs = true
        cap_drop        = ["all"]
        security_opt    = ["no-new-privileges"]
      }

      # Longer than --drain; a client's max_kill_timeout (30s) is the limit.
      kill_timeout = "20s"

      resources {
        cpu    = 50
        memory = 128
      }

      # Where Consul has ACLs: a token from Vault, in a file that the sidecar reads.
      #
      # template {
      #   data        = "{{ with secret \"consul/creds/mcp-sidecar\" }}{{ .Data.token }}{{ end }}"
      #   destination = "secrets/store-token"
      #   change_mode = "noop" # the sidecar follows the file
      # }
      # env {
      #   MCP_DISCOVERY_STORE_TOKEN_FILE = "${NOMAD_SECRETS_DIR}/store-token"
      # }
    }

    task "server" {
      driver = "docker"

      config {
        image        = var.image
        network_mode = "host"
        entrypoint   = ["/opt/mcp-discovery/bin/python", "-m", "mcp_discovery.examples.product_catalog"]
        args         = ["--host", "0.0.0.0", "--port", "${NOMAD_PORT_mcp}"]

        readonly_rootfs = true
        cap_drop        = ["all"]
        security_opt    = ["no-new-privileges"]
      }

      kill_timeout = "10s"

      resources {
        cpu    = 100
        memory = 256
      }
    }
  }
}
