{{/*
A native sidecar for the pods of another chart, which has this one as a dependency:

	dependencies:
	  - name: aadpool
	    version: 0.1.0
	    repository: oci://ghcr.io/aadpool/charts

	# values.yaml
	aadpool:
	  deployment: {enabled: false}
	  upstreams:
	    - name: orders
	      dsn: postgres://orders-api@orders.postgres.database.azure.com/orders

	# the pod's template
	metadata:
	  labels:
	    {{- include "aadpool.podLabels" .Subcharts.aadpool | nindent 4 }}
	  annotations:
	    checksum/aadpool: {{ include "aadpool.config" .Subcharts.aadpool | sha256sum }}
	spec:
	  serviceAccountName: {{ include "aadpool.serviceAccountName" .Subcharts.aadpool }}
	  initContainers:
	    {{- include "aadpool.sidecar" .Subcharts.aadpool | nindent 4 }}
	  volumes:
	    {{- include "aadpool.sidecar.volumes" .Subcharts.aadpool | nindent 4 }}

The service connects to 127.0.0.1:5432, without a password and without TLS.
*/}}
{{- define "aadpool.sidecar" -}}
- name: aadpool-proxy
  restartPolicy: Always
  {{- include "aadpool.proxyContainer" . | nindent 2 }}
{{- end -}}

{{- define "aadpool.sidecar.volumes" -}}
- name: aadpool-config
  configMap:
    name: {{ include "aadpool.fullname" . }}
{{- end -}}

{{- define "aadpool.proxyContainer" -}}
image: {{ include "aadpool.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args: [proxy, --config=/etc/aadpool/proxy.yaml]
{{- with .Values.env }}
env:
  {{- toYaml . | nindent 2 }}
{{- end }}
ports:
  - name: health
    containerPort: {{ .Values.healthPort }}
  {{- if and .Values.deployment.enabled (not .Values.pgbouncer.enabled) }}
  {{- range $i, $upstream := .Values.upstreams }}
  - name: postgres{{ if $i }}-{{ $i }}{{ end }}
    containerPort: {{ include "aadpool.port" $i }}
  {{- end }}
  {{- end }}
# The containers after it start when a server can be reached.
startupProbe:
  httpGet: {path: /readyz, port: health}
  periodSeconds: 1
  failureThreshold: 120
livenessProbe:
  httpGet: {path: /livez, port: health}
{{- if .Values.deployment.enabled }}
readinessProbe:
  httpGet: {path: /livez, port: health}
{{- end }}
# Not /readyz from then on: while the database fails over, it would take every pod out of its service at once. The proxy
# tells the clients what is the matter, and so does a service that has answers without a database.
resources:
  {{- toYaml .Values.resources | nindent 2 }}
securityContext:
  {{- include "aadpool.securityContext" . | nindent 2 }}
  runAsUser: 65532
volumeMounts:
  - name: aadpool-config
    mountPath: /etc/aadpool/proxy.yaml
    subPath: proxy.yaml
    readOnly: true
  {{- if and .Values.deployment.enabled .Values.pgbouncer.enabled }}
  - name: sockets
    mountPath: /run/aadpool
  {{- else if .Values.deployment.enabled }}
  - name: tls
    mountPath: /etc/aadpool/tls
    readOnly: true
  - name: password
    mountPath: /etc/aadpool/password
    readOnly: true
  {{- end }}
{{- end -}}
