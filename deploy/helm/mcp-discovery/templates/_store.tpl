{{/*
How a container reaches the store: environment, mounts and volumes, the same for facade and sidecar.
Each takes a dict with `secret` (name, keys) and `tls` (secretName, clientCertificate), as .Values.store
has them. Token, password and certificates are files, which the programs follow: they may be rotated
without a restart. A user's name is in the environment.
*/}}

{{- define "mcp-discovery.storeEnv" -}}
{{- with .secret }}
{{- if .name }}
{{- range .keys }}
{{- if eq . "user" }}
- name: MCP_DISCOVERY_STORE_USER
  valueFrom:
    secretKeyRef:
      name: {{ $.secret.name }}
      key: user
{{- else }}
- name: MCP_DISCOVERY_STORE_{{ upper . }}_FILE
  value: /etc/mcp-discovery/store-secret/{{ . }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- with .tls }}
{{- if .secretName }}
- name: MCP_DISCOVERY_STORE_CA
  value: /etc/mcp-discovery/store-tls/ca.crt
{{- if .clientCertificate }}
- name: MCP_DISCOVERY_STORE_CERT
  value: /etc/mcp-discovery/store-tls/tls.crt
- name: MCP_DISCOVERY_STORE_KEY
  value: /etc/mcp-discovery/store-tls/tls.key
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "mcp-discovery.storeMounts" -}}
{{- if (.secret).name }}
- name: store-secret
  mountPath: /etc/mcp-discovery/store-secret
  readOnly: true
{{- end }}
{{- if (.tls).secretName }}
- name: store-tls
  mountPath: /etc/mcp-discovery/store-tls
  readOnly: true
{{- end }}
{{- end }}

{{- define "mcp-discovery.storeVolumes" -}}
{{- if (.secret).name }}
- name: store-secret
  secret:
    secretName: {{ .secret.name }}
{{- end }}
{{- if (.tls).secretName }}
- name: store-tls
  secret:
    secretName: {{ .tls.secretName }}
{{- end }}
{{- end }}

{{/* The addresses of node and pod; the store's URL may name them as $(HOST_IP) and $(POD_IP). */}}
{{- define "mcp-discovery.addressEnv" -}}
- name: HOST_IP
  valueFrom:
    fieldRef:
      fieldPath: status.hostIP
- name: POD_IP
  valueFrom:
    fieldRef:
      fieldPath: status.podIP
{{- end }}

{{/* The ports of the store, one a line: what its URL names, else Consul's 8500 and etcd's 2379. */}}
{{- define "mcp-discovery.storePorts" -}}
{{- $rest := regexReplaceAll "^[a-z+]+://" .Values.store.url "" -}}
{{- $authority := first (splitList "/" (first (splitList "?" $rest))) -}}
{{- $usual := "80" -}}
{{- if hasPrefix "consul" .Values.store.url }}{{ $usual = "8500" }}{{ end -}}
{{- if hasPrefix "etcd" .Values.store.url }}{{ $usual = "2379" }}{{ end -}}
{{- if hasPrefix "https" .Values.store.url }}{{ $usual = "443" }}{{ end -}}
{{- $ports := list -}}
{{- range splitList "," $authority -}}
{{- $port := regexFind ":[0-9]+$" . | trimPrefix ":" -}}
{{- $ports = append $ports ($port | default $usual) -}}
{{- end -}}
{{- join "\n" (uniq $ports) -}}
{{- end }}
