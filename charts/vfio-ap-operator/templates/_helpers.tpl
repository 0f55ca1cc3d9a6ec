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

{{- /* KubeVirt's own name for it, in every version that was looked at (components/serviceaccountnames.go) */}}
{{- define "vfio-ap.kubevirt-controller" -}}
system:serviceaccount:{{ .Values.kubevirt.namespace }}:kubevirt-controller
{{- end }}

{{- /* The hook sidecar's image: by digest where sidecar.image has one, else with the product's tag */}}
{{- define "vfio-ap.sidecar" -}}
{{- if contains "@" .Values.sidecar.image -}}
{{- with .Values.image.registry }}{{ trimSuffix "/" . }}/{{ end }}{{ .Values.sidecar.image }}
{{- else -}}
{{- include "vfio-ap.image" (dict "root" . "name" .Values.sidecar.image) }}
{{- end }}
{{- end }}

{{- /* The same without digest and tag: running VMs keep the version that they started with */}}
{{- define "vfio-ap.sidecar-repository" -}}
{{- with .Values.image.registry }}{{ trimSuffix "/" . }}/{{ end }}{{ regexReplaceAll "@.*$" .Values.sidecar.image "" }}
{{- end }}

{{- /*
What adds to VMs and pods: the version of MutatingAdmissionPolicy, or "webhook". Before 1.36 an API server may serve
v1beta1 and not run what it stores: its feature gate is another switch, which nobody can see. So v1beta1 is taken only
where the administrator says policy.
*/}}
{{- define "vfio-ap.admission" -}}
{{- $group := "admissionregistration.k8s.io" -}}
{{- $has := .Capabilities.APIVersions -}}
{{- $v1 := or ($has.Has (print $group "/v1/MutatingAdmissionPolicy")) (semverCompare ">=1.36.0-0" .Capabilities.KubeVersion.Version) -}}
{{- $v1beta1 := $has.Has (print $group "/v1beta1/MutatingAdmissionPolicy") -}}
{{- if eq .Values.admission.mode "webhook" -}}
webhook
{{- else if $v1 -}}
v1
{{- else if and $v1beta1 (eq .Values.admission.mode "policy") -}}
v1beta1
{{- else if eq .Values.admission.mode "policy" -}}
{{- fail (print "admission.mode is policy, but Kubernetes " .Capabilities.KubeVersion.Version " has no MutatingAdmissionPolicy: set it to auto or webhook") }}
{{- else -}}
webhook
{{- end }}
{{- end }}

{{- /* Whether the operator serves HTTPS to the API server: for injection by webhook, or for the early word on migrations */}}
{{- define "vfio-ap.serves" -}}
{{- if or .Values.admission.earlyRefusal (eq (include "vfio-ap.admission" .) "webhook") -}}
yes
{{- end }}
{{- end }}

{{- /* CEL: whether the containers' element c has our sidecar's image, of whatever version */}}
{{- define "vfio-ap.is-sidecar" -}}
has(c.image) && (c.image.startsWith('{{ include "vfio-ap.sidecar-repository" . }}@') || c.image.startsWith('{{ include "vfio-ap.sidecar-repository" . }}:'))
{{- end }}

{{- /* CEL: whether the volumes' element v shows the pod's annotations and nothing else */}}
{{- define "vfio-ap.is-hold-volume" -}}
v.name == 'vfio-ap-hold' && has(v.downwardAPI) && has(v.downwardAPI.items) && v.downwardAPI.items.size() == 1 && v.downwardAPI.items[0].path == 'annotations' && has(v.downwardAPI.items[0].fieldRef) && v.downwardAPI.items[0].fieldRef.fieldPath == 'metadata.annotations'
{{- end }}

{{- /* The element that is added to a VM's list of hook sidecars; the operator's webhook writes the same text */}}
{{- define "vfio-ap.hook-entry" -}}
{"image":"{{ include "vfio-ap.sidecar" . }}"}
{{- end }}
