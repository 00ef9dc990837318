{{- define "aadpool.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "aadpool.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains (include "aadpool.name" .) .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "aadpool.name" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "aadpool.selectorLabels" -}}
app.kubernetes.io/name: {{ include "aadpool.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "aadpool.labels" -}}
{{ include "aadpool.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "aadpool.serviceAccountName" -}}
{{- default (include "aadpool.fullname" .) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "aadpool.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{- define "aadpool.podLabels" -}}
{{- if .Values.workloadIdentity.enabled -}}
azure.workload.identity/use: "true"
{{- end -}}
{{- end -}}

{{/* What https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted asks of a container. */}}
{{- define "aadpool.securityContext" -}}
runAsNonRoot: true
readOnlyRootFilesystem: true
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* The port of an upstream, by its place in the list. */}}
{{- define "aadpool.port" -}}
{{- add 5432 . -}}
{{- end -}}

{{/* The proxy's file: the values, and where each server listens. */}}
{{- define "aadpool.config" -}}
{{- if not .Values.upstreams -}}
{{- fail "upstreams: name the servers, each with a name and a dsn" -}}
{{- end -}}
{{- $config := deepCopy .Values.config -}}
{{- $_ := set $config "http" (printf "0.0.0.0:%v" .Values.healthPort) -}}
{{- $upstreams := list -}}
{{- range $i, $upstream := .Values.upstreams -}}
{{- $upstream = deepCopy $upstream -}}
{{- if not $.Values.deployment.enabled -}}
{{- if not (or (hasKey $upstream "listen") (hasKey $upstream "socket-dir")) -}}
{{- $_ := set $upstream "listen" (printf "127.0.0.1:%s" (include "aadpool.port" $i)) -}}
{{- end -}}
{{- else if or (hasKey $upstream "listen") (hasKey $upstream "socket-dir") (hasKey $upstream "tcp") -}}
{{- fail (printf "upstreams: where %s listens is the chart's affair" $upstream.name) -}}
{{- else if $.Values.pgbouncer.enabled -}}
{{- $_ := set $upstream "socket-dir" (include "aadpool.socketDir" (list $i $upstream.name)) -}}
{{- else -}}
{{- $_ := set $upstream "listen" (printf "0.0.0.0:%s" (include "aadpool.port" $i)) -}}
{{- $_ := set $upstream "tls-cert" "/etc/aadpool/tls/tls.crt" -}}
{{- $_ := set $upstream "tls-key" "/etc/aadpool/tls/tls.key" -}}
{{- $_ := set $upstream "password-file" "/etc/aadpool/password/password" -}}
{{- end -}}
{{- $upstreams = append $upstreams $upstream -}}
{{- end -}}
{{- $_ := set $config "upstreams" $upstreams -}}
{{- toYaml $config -}}
{{- end -}}

{{/* Where PgBouncer finds a server's socket. The proxy makes the directory, which is its user's alone. */}}
{{- define "aadpool.socketDir" -}}
/run/aadpool/{{ if eq (index . 0) 0 }}sockets{{ else }}{{ index . 1 }}{{ end }}
{{- end -}}

{{/* The recipe's file, TLS to the clients, and the values' lines: of a line that is there twice the last counts. */}}
{{- define "aadpool.pgbouncer.ini" -}}
{{ .Files.Get "files/pgbouncer.ini" | trim }}

client_tls_sslmode = require
client_tls_cert_file = /etc/pgbouncer/tls/tls.crt
client_tls_key_file = /etc/pgbouncer/tls/tls.key
{{- range $name, $value := .Values.pgbouncer.settings }}
{{ $name }} = {{ if kindIs "float64" $value }}{{ int64 $value }}{{ else }}{{ $value }}{{ end }}
{{- end }}
{{- if gt (len .Values.upstreams) 1 }}

; The first server has every database but these.
[databases]
{{- range $i, $upstream := .Values.upstreams }}
{{- if $i }}
{{ $upstream.name }} = host={{ include "aadpool.socketDir" (list $i $upstream.name) }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}
