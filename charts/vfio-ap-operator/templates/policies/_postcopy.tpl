{{- /* Match conditions: a VM with a matrix is about to be moved by post-copy */}}
{{- define "vfio-ap.asks-for-postcopy" -}}
- name: has-a-matrix
  expression: "object.metadata.?annotations[?'ap.s390x.io/matrix'].hasValue()"
- name: by-post-copy
  expression: "object.?status.?migrationState.?migrationConfiguration.?allowPostCopy.orValue(false) == true"
{{- end }}
