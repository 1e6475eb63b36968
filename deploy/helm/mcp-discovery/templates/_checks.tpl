{{/*
What cannot work, refused with one sentence before anything is changed. values.schema.json says what
each value may be; here is what it cannot say: how two values go together, and what an object that
the cluster has already can no longer become. The cluster is asked by `lookup`, which finds nothing
in `helm template` and `helm lint`.
*/}}
{{- define "mcp-discovery.check" -}}
{{- $facade := .Values.facade -}}
{{- $name := include "mcp-discovery.fullname" . -}}
{{- $least := add $facade.preStopSeconds 5 -}}
{{- if le (int $facade.terminationGracePeriodSeconds) (int $least) -}}
{{- fail (printf "facade.terminationGracePeriodSeconds is %d, and facade.preStopSeconds %d: a facade would be killed while it answers; give it more than preStopSeconds and the 5 s for requests in progress" (int $facade.terminationGracePeriodSeconds) (int $facade.preStopSeconds)) -}}
{{- end -}}
{{- include "mcp-discovery.checkStore" . -}}
{{- if and .Values.ingress.enabled (include "mcp-discovery.openWrites" .) -}}
{{- fail "ingress.enabled, and whoever reaches a facade may change its list: everybody outside could register servers; give facade.auth.secretName, a store that sidecars write to themselves (Consul or etcd), or facade.readOnly" -}}
{{- end -}}
{{- if and $facade.openWrites $facade.auth.secretName -}}
{{- fail "facade.openWrites and facade.auth.secretName are both given: with auth the roles say who may change the list; leave out openWrites" -}}
{{- end -}}
{{- if and $facade.audit.passwordSecret.name (not $facade.audit.store) -}}
{{- fail "facade.audit.passwordSecret.name is given without facade.audit.store, the database that it is for" -}}
{{- end -}}
{{- $selector := (((lookup "apps/v1" "Deployment" .Release.Namespace $name).spec).selector).matchLabels | default dict -}}
{{- range $label, $value := include "mcp-discovery.selectorLabels" . | fromYaml -}}
{{- if ne $value (get $selector $label | default $value) -}}
{{- fail (printf "the Deployment %s selects pods by %s=%s, which cannot become %s: keep nameOverride and fullnameOverride as they were, or delete the Deployment first (agents are without it until the new one is ready)" $name $label (get $selector $label) $value) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Credentials that would be mounted and not used, or never be asked for. */}}
{{- define "mcp-discovery.checkStore" -}}
{{- $secret := .Values.store.secret -}}
{{- if ne (empty $secret.name) (empty $secret.keys) -}}
{{- fail "store.secret wants both `name`, of your Secret, and `keys`, which of token, user and password it has" -}}
{{- end -}}
{{- if and (hasPrefix "etcd" .Values.store.url) $secret.keys (or (has "token" $secret.keys) (not (has "user" $secret.keys)) (not (has "password" $secret.keys))) -}}
{{- fail (printf "store.secret.keys is %s, but etcd takes user and password" (toJson $secret.keys)) -}}
{{- end -}}
{{- if and (hasPrefix "consul" .Values.store.url) $secret.keys (ne (toJson $secret.keys) "[\"token\"]") -}}
{{- fail (printf "store.secret.keys is %s, but Consul takes a token alone" (toJson $secret.keys)) -}}
{{- end -}}
{{- if and .Values.store.tls.clientCertificate (not .Values.store.tls.secretName) -}}
{{- fail "store.tls.clientCertificate wants store.tls.secretName, a Secret with ca.crt, tls.crt and tls.key" -}}
{{- end -}}
{{- if and .Values.store.tls.secretName (not (contains "https://" .Values.store.url)) -}}
{{- fail (printf "store.tls.secretName is given, but store.url, %s, is without TLS: nothing would be encrypted; write it with https, as etcd+https://… or consul+https://…" .Values.store.url) -}}
{{- end -}}
{{- end }}

{{/* The claim that the cluster has by the name of this release's; an empty one where it has none. */}}
{{- define "mcp-discovery.claim" -}}
{{- lookup "v1" "PersistentVolumeClaim" .Release.Namespace (include "mcp-discovery.fullname" .) | toYaml -}}
{{- end }}

{{/* The class of the facade's claim; fails where the claim that there is has another. */}}
{{- define "mcp-discovery.storageClassName" -}}
{{- $wanted := .Values.facade.persistence.storageClassName -}}
{{- $there := ((include "mcp-discovery.claim" . | fromYaml).spec).storageClassName -}}
{{- if kindIs "invalid" $wanted -}}
{{- /* Without one the claim keeps what it has, the cluster's default class as a rule. */ -}}
{{- with $there }}{{ . | quote }}{{ end -}}
{{- else -}}
{{- if not (or (kindIs "invalid" $there) (eq $wanted $there)) -}}
{{- fail (printf "facade.persistence.storageClassName is %q, but the claim %s has %q, which cannot be changed: set it back to that or to null; or, for a new volume, export the list (mcp-discovery export), delete the Deployment and the claim, and import it afterwards" $wanted (include "mcp-discovery.fullname" .) $there) -}}
{{- end -}}
{{- $wanted | quote -}}
{{- end -}}
{{- end }}

{{/* The size of the facade's claim; fails where the claim that there is asks for more. */}}
{{- define "mcp-discovery.claimSize" -}}
{{- $wanted := .Values.facade.persistence.size -}}
{{- $there := ((((include "mcp-discovery.claim" . | fromYaml).spec).resources).requests).storage | default $wanted -}}
{{- if lt (float64 (include "mcp-discovery.bytes" $wanted)) (float64 (include "mcp-discovery.bytes" $there)) -}}
{{- fail (printf "facade.persistence.size is %s, but the claim %s has %s, and a claim only grows: give as much or more" $wanted (include "mcp-discovery.fullname" .) $there) -}}
{{- end -}}
{{- $wanted -}}
{{- end }}

{{/* A quantity such as 1Gi, in bytes. */}}
{{- define "mcp-discovery.bytes" -}}
{{- $unit := regexFind "[A-Za-z]*$" . -}}
{{- $factors := dict "" 1 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "Pi" 1125899906842624 -}}
{{- mulf (trimSuffix $unit .) (get $factors $unit) -}}
{{- end }}
