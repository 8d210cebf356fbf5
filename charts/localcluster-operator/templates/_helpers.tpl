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

{{/* Changes the Pod of a Deployment or DaemonSet as the values say. */}}
{{- define "localcluster-operator.pod" -}}
{{- $pod := .object.spec.template.spec }}
{{- $container := index $pod.containers 0 }}
{{- $values := .root.Values }}
{{- $docker := $values.docker }}

{{- $_ := set $container "image" (include "localcluster-operator.image" .root) }}
{{- $_ := set $container "imagePullPolicy" $values.image.pullPolicy }}
{{- $_ := set $container "resources" $values.resources }}
{{- $_ := set $container "env" (concat $container.env (include "localcluster-operator.env" .root | fromYamlArray)) }}

{{- $security := $pod.securityContext }}
{{- if kindIs "invalid" $docker.group }}
{{- $user := kindIs "invalid" $docker.user | ternary 0 $docker.user | int64 }}
{{- $_ := unset $security "supplementalGroups" }}
{{- $_ := set $security "runAsUser" $user }}
{{- $_ := set $security "runAsGroup" $user }}
{{- $_ := set $security "runAsNonRoot" (ne $user 0) }}
{{- else }}
{{- $_ := set $security "supplementalGroups" (list (int64 $docker.group)) }}
{{- if not (kindIs "invalid" $docker.user) }}{{ $_ := set $security "runAsUser" (int64 $docker.user) }}{{ end }}
{{- end }}
{{- $volume := index $pod.volumes 0 }}
{{- $_ := set $volume.hostPath "path" $docker.socket }}

{{- if $values.hostNetwork }}
{{- $_ := set $pod "hostNetwork" true }}
{{- $_ := set $pod "dnsPolicy" "ClusterFirstWithHostNet" }}
{{- end }}
{{- with $values.imagePullSecrets }}{{ $_ := set $pod "imagePullSecrets" . }}{{ end }}
{{- $metadata := .object.spec.template.metadata }}
{{- $_ := set $metadata "labels" (merge $metadata.labels $values.podLabels) }}
{{- $_ := set $metadata "annotations" (merge $metadata.annotations $values.podAnnotations) }}
{{- end }}
