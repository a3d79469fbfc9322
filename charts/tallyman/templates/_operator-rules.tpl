{{- /* Written by crdgen from deploy/10-operator.yaml; do not edit. */}}
{{- define "tallyman.operator-rules" }}
  # Kinds that users write: read, status, finalizers.
  - apiGroups: [tallyman.dev]
    resources: [taskdefinitions, services, scheduledtasks, containerinstances]
    verbs: [get, list, watch, patch]
  # Users write it, and the operator for a host that joins.
  - apiGroups: [tallyman.dev]
    resources: [containerinstances]
    verbs: [create]
  # Users write it; a host asks by its status.
  - apiGroups: [tallyman.dev]
    resources: [hostjoins]
    verbs: [get, list, watch]
  # Users write it, and the operator for each due time of a schedule; it deletes what is to be kept no longer.
  - apiGroups: [tallyman.dev]
    resources: [runtasks]
    verbs: [get, list, watch, create, patch, delete]
  # Users write it; it goes with its service.
  - apiGroups: [tallyman.dev]
    resources: [tasksets]
    verbs: [get, list, watch, patch, delete]
  # Kinds that the operator writes itself.
  - apiGroups: [tallyman.dev]
    resources: [clusters, taskdefinitionrevisions, tasks, hostplans]
    verbs: [get, list, watch, create, patch, delete]
  - apiGroups: [tallyman.dev]
    resources:
      - clusters/status
      - containerinstances/status
      - hostjoins/status
      - runtasks/status
      - scheduledtasks/status
      - services/status
      - taskdefinitionrevisions/status
      - taskdefinitions/status
      - tasks/status
      - tasksets/status
    verbs: [get, patch]
  # Identity of each host, and what it grants to a host.
  - apiGroups: [""]
    resources: [serviceaccounts]
    verbs: [get, create]
  - apiGroups: [""]
    resources: [serviceaccounts/token]
    verbs: [create]
  # The Secret of each host; and what tasks take from Secrets and ConfigMaps, which it copies there.
  - apiGroups: [""]
    resources: [secrets]
    verbs: [get, list, watch, create, patch]
  - apiGroups: [""]
    resources: [configmaps]
    verbs: [get, list, watch]
  - apiGroups: [rbac.authorization.k8s.io]
    resources: [roles, rolebindings]
    verbs: [get, create]
  - apiGroups: [coordination.k8s.io]
    resources: [leases]
    verbs: [get, list, watch, create, update, patch]
  - apiGroups: [events.k8s.io]
    resources: [events]
    verbs: [create]
{{- end }}
