{{/* Names and labels that every template of this chart uses. */}}

{{- define "mcp-discovery.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{- define "mcp-discovery.fullname" -}}
{{- $name := include "mcp-discovery.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "mcp-discovery.selectorLabels" -}}
app.kubernetes.io/name: {{ include "mcp-discovery.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "mcp-discovery.labels" -}}
{{ include "mcp-discovery.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "mcp-discovery.image" -}}
{{ .Values.image.repository }}{{ with .Values.image.digest }}@{{ . }}{{ else }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "mcp-discovery.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "mcp-discovery.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end }}

{{/* "true" where the list is kept inside the facade. */}}
{{- define "mcp-discovery.embedded" -}}
{{- if hasPrefix "embedded:" .Values.store.url -}}true{{- end -}}
{{- end }}

{{/* "true" where that list is on a volume. */}}
{{- define "mcp-discovery.kept" -}}
{{- if and .Values.facade.enabled .Values.facade.persistence.enabled (include "mcp-discovery.embedded" .) -}}true{{- end -}}
{{- end }}

{{/* How many facades; fails where there cannot be so many. */}}
{{- define "mcp-discovery.replicas" -}}
{{- $embedded := include "mcp-discovery.embedded" . -}}
{{- $replicas := .Values.facade.replicas -}}
{{- if kindIs "invalid" $replicas -}}
{{- ternary 1 2 (eq $embedded "true") -}}
{{- else -}}
{{- if and $embedded (gt (int $replicas) 1) -}}
{{- fail (printf "facade.replicas is %d, but with store.url embedded: each facade would keep a list of its own; set facade.replicas to 1, or store.url to Consul or etcd" (int $replicas)) -}}
{{- end -}}
{{- $replicas -}}
{{- end -}}
{{- end }}

{{/* What clients call the facades: the names of their Service, and those of the values. */}}
{{- define "mcp-discovery.allowedHosts" -}}
{{- $name := include "mcp-discovery.fullname" . -}}
{{- $service := printf "%s.%s" $name .Release.Namespace -}}
{{- $hosts := list $name $service (printf "%s.svc" $service) (printf "%s.svc.%s" $service .Values.clusterDomain) -}}
{{- if .Values.ingress.enabled -}}
{{- $hosts = append $hosts .Values.ingress.host -}}
{{- end -}}
{{- concat $hosts .Values.facade.allowedHosts | uniq | join "\n" -}}
{{- end }}

{{/* "true" where everybody who reaches a facade may change its list. */}}
{{- define "mcp-discovery.openWrites" -}}
{{- $open := .Values.facade.openWrites -}}
{{- if or .Values.facade.readOnly .Values.facade.auth.secretName -}}
{{- else if kindIs "invalid" $open -}}
{{- include "mcp-discovery.embedded" . -}}
{{- else if $open -}}
true
{{- end -}}
{{- end }}

{{/* Where the facades are reached inside the cluster. */}}
{{- define "mcp-discovery.url" -}}
http://{{ include "mcp-discovery.fullname" . }}.{{ .Release.Namespace }}.svc:{{ .Values.service.port }}
{{- end }}

{{/* What a container may do: the rules of the restricted Pod Security Standard, and a read-only root. */}}
{{- define "mcp-discovery.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* The variables of OpenTelemetry; given: otlpEndpoint, env. */}}
{{- define "mcp-discovery.telemetryEnv" -}}
{{- with .otlpEndpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ . | quote }}
{{- end }}
{{- range $name, $value := .env }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}
