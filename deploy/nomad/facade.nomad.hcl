# Facades of mcp-discovery in Nomad, for a cluster whose nodes run a Consul agent:
#
#   nomad job validate facade.nomad.hcl
#   nomad job run -var image=mcp-discovery:0.2.0.dev0 facade.nomad.hcl
#   curl http://mcp-facade.service.consul:4000/servers
#
# All facades over one Consul are equal, so there is one on each of two nodes, at the same port of
# each. Everybody who reaches it may read the list, and nobody change it: sidecars write to Consul. Wants Nomad 1.0 or later, and Docker.

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
  description = "What the facade watches: the node's own Consul agent, unless told otherwise."
  default     = "consul://127.0.0.1:8500"
}

variable "count" {
  type    = number
  default = 2
}

variable "port" {
  type    = number
  default = 4000
}

job "mcp-facade" {
  datacenters = var.datacenters
  type        = "service"

  # The next one is replaced when the one before has read its list.
  update {
    max_parallel     = 1
    health_check     = "checks"
    min_healthy_time = "10s"
  }

  group "facade" {
    count = var.count

    constraint {
      operator = "distinct_hosts"
      value    = "true"
    }

    network {
      port "http" {
        static = var.port
      }
    }

    # Out of DNS first, then stopped: readers have let go by then.
    shutdown_delay = "5s"

    service {
      name = "mcp-facade"
      port = "http"

      check {
        type     = "http"
        path     = "/ready"
        interval = "10s"
        timeout  = "2s"
      }

      # A list that cannot be read is the store's trouble; a process that does not answer is ours.
      check {
        type     = "http"
        path     = "/health"
        interval = "10s"
        timeout  = "2s"

        check_restart {
          limit = 3
          grace = "30s"
        }
      }
    }

    task "facade" {
      driver = "docker"

      config {
        image           = var.image
        network_mode    = "host"
        command         = "facade"
        args            = ["--store", var.store]
        readonly_rootfs = true
        cap_drop        = ["all"]
        security_opt    = ["no-new-privileges"]
      }

      env {
        # Variables and not options, so that the image's health check finds them too.
        MCP_DISCOVERY_HOST = "${NOMAD_IP_http}"
        MCP_DISCOVERY_PORT = "${NOMAD_PORT_http}"
        # Names that Consul's DNS gives it; others than these and addresses are refused (421).
        MCP_DISCOVERY_ALLOWED_HOST = "*.consul"
      }

      # Where Consul has ACLs: a token from Vault, in a file that the facade reads.
      #
      # template {
      #   data        = "{{ with secret \"consul/creds/mcp-facade\" }}{{ .Data.token }}{{ end }}"
      #   destination = "secrets/store-token"
      #   change_mode = "noop" # the facade follows the file
      # }
      #
      # and in env: MCP_DISCOVERY_STORE_TOKEN_FILE = "${NOMAD_SECRETS_DIR}/store-token"

      kill_timeout = "20s"

      resources {
        cpu    = 200
        memory = 512
      }
    }
  }
}
