{{/*
The sidecar for the pod of an MCP server, for this chart and for yours. In your Chart.yaml:

  dependencies:
    - {name: mcp-discovery, version: 0.2.0-dev.0, repository: "file://…/deploy/helm/mcp-discovery"}

in your values `mcp-discovery: {facade: {enabled: false}}` unless you want facades as well, and in your
Deployment (examples: templates/example-server.yaml):

  metadata:
    labels: {mcp-discovery/sidecar: "true"}  # for the PodMonitor
  spec:
    enableServiceLinks: false
    terminationGracePeriodSeconds: 30       # more than the drain, 2 s, and what the server takes
    initContainers:
      {{- include "mcp-discovery.sidecar" (dict
            "store" "etcd://etcd.etcd.svc:2379" "url" "http://127.0.0.1:8000/mcp"
            "tags" (list "products")) | nindent 6 }}
    containers:
      - name: server
        lifecycle:
          preStop: {{- include "mcp-discovery.serverPreStop" dict | nindent 12 }}
    volumes:                                # with secret or tls only, given as to the sidecar
      {{- include "mcp-discovery.storeVolumes" (dict "secret" … "tls" …) | nindent 6 }}

Given: store and url (required), name, id (default: the pod's name), tags, advertiseUrl, version,
weight, zone, ttl, drain (seconds, 5), healthPort (4001), secret (name, keys), tls (secretName,
clientCertificate), telemetry (otlpEndpoint, env), image, pullPolicy, resources, extraArgs.

It is a native sidecar: an init container that stays. The server starts after it, and it ends after
the server. So that agents let go of a server before that is stopped, its preStop hook, which the
kubelet runs at the very start of the pod's end, lets it drain at once, and the server's own preStop
hook lets the server live on until then.
*/}}
{{- define "mcp-discovery.sidecar" -}}
{{- $healthPort := .healthPort | default 4001 -}}
{{- $drain := int (include "mcp-discovery.drain" .) -}}
- name: mcp-discovery
  image: {{ .image | default "mcp-discovery:0.2.0.dev0" }}
  imagePullPolicy: {{ .pullPolicy | default "IfNotPresent" }}
  restartPolicy: Always
  command: [mcp-discovery]
  args:
    - sidecar
    - {{ printf "--store=%v" (required "mcp-discovery.sidecar needs `store`, such as etcd://etcd.etcd.svc:2379" .store) | quote }}
    - {{ printf "--url=%v" (required "mcp-discovery.sidecar needs `url`, such as http://127.0.0.1:8000/mcp" .url) | quote }}
    - {{ printf "--id=%v" (.id | default "$(POD_NAME)") | quote }}
    {{- with .name }}
    - {{ printf "--name=%v" . | quote }}
    {{- end }}
    {{- range .tags }}
    - {{ printf "--tag=%v" . | quote }}
    {{- end }}
    {{- with .advertiseUrl }}
    - {{ printf "--advertise-url=%v" . | quote }}
    {{- end }}
    {{- with .version }}
    - {{ printf "--version=%v" . | quote }}
    {{- end }}
    {{- if hasKey . "weight" }}
    - {{ printf "--weight=%v" .weight | quote }}
    {{- end }}
    {{- with .zone }}
    - {{ printf "--zone=%v" . | quote }}
    {{- end }}
    {{- with .ttl }}
    - {{ printf "--ttl=%v" . | quote }}
    {{- end }}
    - {{ printf "--drain=%v" $drain | quote }}
    - --health-host=0.0.0.0
    - {{ printf "--health-port=%v" $healthPort | quote }}
    # Where Prometheus finds the sidecar's figures, if it follows the facade's /sd/prometheus.
    - {{ printf "--metadata=sidecar-port=%v" $healthPort | quote }}
    - --json
    {{- range .extraArgs }}
    - {{ . | quote }}
    {{- end }}
  env:
    {{- include "mcp-discovery.addressEnv" . | nindent 4 }}
    - name: POD_NAME
      valueFrom:
        fieldRef:
          fieldPath: metadata.name
    {{- with include "mcp-discovery.storeEnv" . | trim }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- with include "mcp-discovery.telemetryEnv" (.telemetry | default dict) | trim }}
    {{- . | nindent 4 }}
    {{- end }}
  ports:
    - name: mcp-sidecar
      containerPort: {{ $healthPort }}
  # Not /readyz: the server is started after this one only.
  startupProbe:
    httpGet: {path: /healthz, port: mcp-sidecar}
    periodSeconds: 1
    failureThreshold: 60
  # Registered, so that a rollout waits for it. The hour: a store that is away unreadies nobody.
  readinessProbe:
    httpGet: {path: /readyz, port: mcp-sidecar}
    periodSeconds: 5
    timeoutSeconds: 3
    failureThreshold: 720
  livenessProbe:
    httpGet: {path: /healthz, port: mcp-sidecar}
    periodSeconds: 10
    timeoutSeconds: 5
    failureThreshold: 3
  lifecycle:
    preStop:
      exec:
        command:
          - python
          - -c
          - import urllib.request as u; u.urlopen("http://127.0.0.1:{{ $healthPort }}/drain", b"").read()
  securityContext:
    {{- include "mcp-discovery.containerSecurityContext" . | nindent 4 }}
  {{- with .resources }}
  resources:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with include "mcp-discovery.storeMounts" . | trim }}
  volumeMounts:
    {{- . | nindent 4 }}
  {{- end }}
{{- end }}

{{/* Seconds to drain: 5 unless given; 0 is given, too. */}}
{{- define "mcp-discovery.drain" -}}
{{- if kindIs "invalid" .drain }}5{{ else }}{{ .drain }}{{ end -}}
{{- end }}

{{/* The preStop hook of an MCP server beside the sidecar; given: drain (seconds, 5). */}}
{{- define "mcp-discovery.serverPreStop" -}}
sleep:
  seconds: {{ add (int (include "mcp-discovery.drain" .)) 2 }}
{{- end }}
