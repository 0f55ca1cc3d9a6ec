{{- define "vfio-ap.labels" -}}
app.kubernetes.io/name: vfio-ap-operator
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "vfio-ap.image" -}}
{{- $tag := default .root.Chart.AppVersion .root.Values.image.tag -}}
{{- with .root.Values.image.registry }}{{ trimSuffix "/" . }}/{{ end }}{{ .name }}:{{ $tag }}
{{- end }}

{{- define "vfio-ap.operator-user" -}}
system:serviceaccount:{{ .Release.Namespace }}:vfio-ap-operator
{{- end }}

{{- define "vfio-ap.agent-user" -}}
system:serviceaccount:{{ .Release.Namespace }}:vfio-ap-agent
{{- end }}
