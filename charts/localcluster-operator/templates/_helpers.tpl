{{/* The image of the operator. */}}
{{- define "localcluster-operator.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{/* The objects of a file of deploy/, in the namespace of the release, as a YAML list. */}}
{{- define "localcluster-operator.objects" -}}
{{- $text := .root.Files.Get (printf "files/%s.yaml" .file) | replace "localcluster-system" .root.Release.Namespace }}
{{- $objects := list }}
{{- range splitList "\n---\n" $text }}
{{- $object := fromYaml . }}
{{- $_ := set $object.metadata "labels" (merge ($object.metadata.labels | default dict) (include "localcluster-operator.labels" $.root | fromYaml)) }}
{{- $objects = append $objects $object }}
{{- end }}
{{- toYaml $objects }}
{{- end }}

{{- define "localcluster-operator.labels" -}}
app.kubernetes.io/name: localcluster-operator
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* The environment of the operator beyond that of deploy/: a variable for each of the settings. */}}
{{- define "localcluster-operator.env" -}}
{{- $settings := dict }}
{{- range $flag, $value := .Values.settings }}
{{- $name := printf "LOCALCLUSTER_%s" ($flag | upper | replace "-" "_") }}
{{- if eq $flag "log-filter" }}{{ $name = "RUST_LOG" }}{{ end }}
{{- $_ := set $settings $name (kindIs "slice" $value | ternary (join "," $value) (toString $value)) }}
{{- end }}
{{- with .Values.namespaces }}{{ $_ := set $settings "LOCALCLUSTER_NAMESPACES" (join "," .) }}{{ end }}
{{- range $name, $value := $settings }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}
