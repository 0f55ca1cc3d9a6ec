{{- /*
CEL variables about the CPU of the field path given: whether it has what a guest needs to see its adapters. The host's
own models bring the features along unless they are turned off, a named one has to ask for each (QEMU
docs/system/s390x/vfio-ap.rst).
*/}}
{{- define "vfio-ap.cpu-variables" -}}
- name: model
  expression: "{{ . }}.?cpu.?model.orValue('')"
- name: features
  expression: "{{ . }}.?cpu.?features.orValue([])"
- name: needed
  expression: "['ap', 'apqci', 'apft', 'apqi']"
- name: disabled
  expression: >-
    variables.needed.filter(n, variables.features.exists(f, f.name == n && f.?policy.orValue('') in ['disable', 'forbid']))
- name: absent
  expression: >-
    variables.model in ['', 'host-model', 'host-passthrough'] ? []
    : variables.needed.filter(n, !variables.features.exists(f, f.name == n))
{{- end }}

{{- /* CEL validations by these variables, where the condition given holds */}}
{{- define "vfio-ap.cpu-validations" -}}
- expression: "!({{ . }}) || variables.disabled.size() == 0"
  messageExpression: >-
    'the CPU features ' + variables.disabled.join(', ') + ' are turned off, and a guest with an AP matrix needs them: take them '
    + 'out of spec.domain.cpu.features, or give them the policy require'
  reason: Forbidden
- expression: "!({{ . }}) || variables.absent.size() == 0"
  messageExpression: >-
    'CPU model ' + variables.model + ' comes without the features ' + variables.absent.join(', ')
    + ', which a guest with an AP matrix needs: add them to spec.domain.cpu.features with the policy require, or use the model host-model'
  reason: Forbidden
{{- end }}
