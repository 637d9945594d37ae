{{/* The labels by which pods are selected. */}}
{{- define "spotter.selector" -}}
app.kubernetes.io/name: detect
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* The labels of every object. */}}
{{- define "spotter.labels" -}}
{{ include "spotter.selector" . }}
app.kubernetes.io/part-of: spotter
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* An image that was imported on each node is never pulled: a registry may have someone else's of that name. */}}
{{- define "spotter.pullPolicy" -}}
{{- if hasPrefix "localhost/" .Values.image }}Never{{ else }}IfNotPresent{{ end }}
{{- end }}
