{{/* Name of all that this release makes: ringfence, or ringfence-<revision>. */}}
{{- define "ringfence.name" -}}
{{- if .Values.revision }}ringfence-{{ .Values.revision }}{{ else }}ringfence{{ end }}
{{- end }}

{{/* Names of objects of the whole cluster: two releases in two namespaces must not meet. */}}
{{- define "ringfence.clusterName" -}}
{{- if eq .Release.Namespace "ringfence-system" }}{{ include "ringfence.name" . }}{{ else }}{{ include "ringfence.name" . }}-{{ .Release.Namespace }}{{ end }}
{{- end }}

{{- define "ringfence.labels" -}}
{{ include "ringfence.selector" . }}
app.kubernetes.io/part-of: ringfence
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "ringfence.cniLabels" -}}
app.kubernetes.io/name: ringfence
app.kubernetes.io/component: cni
app.kubernetes.io/part-of: ringfence
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "ringfence.selector" -}}
app.kubernetes.io/name: ringfence
app.kubernetes.io/component: control-plane
app.kubernetes.io/instance: {{ include "ringfence.name" . }}
{{- end }}

{{- define "ringfence.image" -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else }}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "ringfence.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{/* Whether the authority comes from a Secret. */}}
{{- define "ringfence.shared" -}}
{{- if .Values.ca.existingSecret }}true{{ end }}
{{- end }}

{{/* What cannot work is refused before anything is installed. */}}
{{- define "ringfence.check" -}}
{{- $shared := include "ringfence.shared" . -}}
{{- if and (gt (int .Values.replicas) 1) (not (and $shared .Values.database.existingSecret)) }}
{{- fail "replicas: more than one needs ca.existingSecret and database.existingSecret (docs/kubernetes.md, two control planes)" }}
{{- end }}
{{- if and .Values.revision (not (and $shared .Values.database.existingSecret)) }}
{{- fail "revision: a second control plane needs the authority and the database of the first: set ca.existingSecret and database.existingSecret" }}
{{- end }}
{{- if and (eq .Values.persistence.type "existingClaim") (not .Values.persistence.claim) }}
{{- fail "persistence.claim: name the claim that is there" }}
{{- end }}
{{- if and (eq .Values.persistence.type "hostPath") (not .Values.persistence.path) }}
{{- fail "persistence.path: name the folder on the node" }}
{{- end }}
{{- end }}

{{/* Namespaces that no webhook ever sees: the cluster, or we ourselves, would wait for ourselves. */}}
{{- define "ringfence.seenNamespaces" -}}
- key: kubernetes.io/metadata.name
  operator: NotIn
  values: [kube-system, kube-public, kube-node-lease, {{ .Release.Namespace }}{{ range .Values.webhooks.excludeNamespaces }}, {{ . }}{{ end }}]
{{- end }}

{{/* Of these, those of this revision. */}}
{{- define "ringfence.namespaceExpressions" -}}
{{- include "ringfence.seenNamespaces" . }}
{{- if .Values.revision }}
- key: ringfence.io/rev
  operator: In
  values: [{{ .Values.revision }}]
{{- else }}
- key: ringfence.io/rev
  operator: DoesNotExist
{{- end }}
{{- end }}

{{/* And those of other revisions, in which a pod may yet name this one. */}}
{{- define "ringfence.otherNamespaces" -}}
{{- include "ringfence.seenNamespaces" . }}
{{- if .Values.revision }}
- key: ringfence.io/rev
  operator: NotIn
  values: [{{ .Values.revision }}]
{{- else }}
- key: ringfence.io/rev
  operator: Exists
{{- end }}
{{- end }}

{{/* What every container of ours but the redirect is held to: Pod Security `restricted`, and a read-only root. */}}
{{- define "ringfence.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* How pods are injected, as the injector reads it (k8s/inject/settings.py). */}}
{{- define "ringfence.inject" -}}
{{- $sidecar := .Values.sidecar -}}
{{- $settings := dict
  "trust_domain" .Values.trustDomain
  "image" (include "ringfence.image" .)
  "image_pull_policy" .Values.image.pullPolicy
  "image_pull_secrets" .Values.image.pullSecrets
  "revision" .Values.revision
  "default" (not .Values.revision)
  "system_namespace" .Release.Namespace
  "control_host" (printf "%s.%s.svc" (include "ringfence.name" .) .Release.Namespace)
  "cni" .Values.cni.enabled
  "sidecar_uid" (int $sidecar.uid)
  "signals_host" $sidecar.signalsHost
  "log_level" $sidecar.logLevel
  "access_log" $sidecar.accessLog
  "drain" $sidecar.drain
  "resources" (dict "cpu_request" $sidecar.resources.cpuRequest "cpu_limit" $sidecar.resources.cpuLimit "memory_request" $sidecar.resources.memoryRequest "memory_limit" $sidecar.resources.memoryLimit)
  "exclude_outbound_cidrs" $sidecar.excludeOutboundCidrs
-}}
{{ $settings | toJson }}
{{- end }}

{{/* The kinds of documents, as resources with a suffix, from the definitions that the chart carries. */}}
{{- define "ringfence.kinds" -}}
{{- $found := list }}
{{- range $path, $_ := .files.Glob "files/crds/*.yaml" }}
{{- $found = append $found (printf "%s%s" (base $path | trimPrefix "ringfence.io_" | trimSuffix ".yaml") $.suffix) }}
{{- end }}
{{- join ", " $found }}
{{- end }}

{{- define "ringfence.injectWebhook" -}}
rules:
  - apiGroups: [""]
    apiVersions: [v1]
    resources: [pods]
    operations: [CREATE]
    scope: Namespaced
# Pods of the node's own files are there already, and cannot be changed.
matchConditions:
  - name: no-static-pod
    expression: "!('kubernetes.io/config.mirror' in object.metadata.?annotations.orValue({}))"
admissionReviewVersions: [v1]
failurePolicy: Fail
matchPolicy: Equivalent
reinvocationPolicy: IfNeeded
# Whoever is refused is told by an event, but not in a trial run.
sideEffects: NoneOnDryRun
timeoutSeconds: {{ .Values.webhooks.timeoutSeconds }}
{{- end }}
