{{- define "defender-sim.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 52 | trimSuffix "-" }}
{{- end }}

{{/* The name of a CronJob has at most 52 characters. */}}
{{- define "defender-sim.fullname" -}}
{{- $name := include "defender-sim.name" . }}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) }}
{{- .Values.fullnameOverride | default $full | trunc 52 | trimSuffix "-" }}
{{- end }}

{{- define "defender-sim.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (include "defender-sim.fullname" .) }}
{{- end }}

{{- define "defender-sim.selectorLabels" -}}
app.kubernetes.io/name: {{ include "defender-sim.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "defender-sim.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "defender-sim.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "defender-sim.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{- define "defender-sim.resourceId" -}}
{{- with .Values.verify -}}
{{- $aks := "/subscriptions/%s/resourceGroups/%s/providers/Microsoft.ContainerService/managedClusters/%s" }}
{{- .resourceId | default (printf $aks .subscription .resourceGroup .cluster) }}
{{- end }}
{{- end }}

{{/* Refuses what the schema cannot express. */}}
{{- define "defender-sim.validate" -}}
{{- if eq .Values.runNamespace.name .Release.Namespace }}
{{- fail (printf "runNamespace.name: %q is the namespace of the chart; attacks need their own" .Release.Namespace) }}
{{- end }}
{{- if not (or .Values.serviceAccount.create .Values.serviceAccount.name) }}
{{- fail "serviceAccount.name: needed unless serviceAccount.create is set" }}
{{- end }}
{{- $rights := .Files.Get "files/rights.json" | fromJson }}
{{- range $scenario := .Values.scenarios }}
{{- if and (has $scenario $rights.consent) (not (has $scenario $.Values.allow)) }}
{{- fail (printf "scenarios: %q affects or alarms others; to run it anyway, add it to allow" $scenario) }}
{{- end }}
{{- end }}
{{- if and (include "defender-sim.rules" (list . "cluster") | fromJsonArray) (not .Values.allowClusterRole) }}
{{- fail "scenarios: admission and rbac need a ClusterRole; to grant it, set allowClusterRole" }}
{{- end }}
{{- with .Values.verify }}
{{- if .enabled }}
{{- if not (or .resourceId (and .subscription .resourceGroup .cluster)) }}
{{- fail "verify: set subscription, resourceGroup and cluster, or resourceId" }}
{{- end }}
{{- if and (ne .identity.type "none") (not .identity.clientId) }}
{{- fail "verify.identity.clientId: needed unless verify.identity.type is none" }}
{{- end }}
{{- if and (eq .identity.type "projected") (not .identity.tenantId) }}
{{- fail "verify.identity.tenantId: needed if verify.identity.type is projected" }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* Returns the rules of the chosen scenarios as JSON: (list . SCOPE), SCOPE is "run", "cluster" or a namespace. */}}
{{- define "defender-sim.rules" -}}
{{- $top := index . 0 }}
{{- $scope := index . 1 }}
{{- $rules := list }}
{{- range ($top.Files.Get "files/rights.json" | fromJson).rights }}
{{- $group := . }}
{{- range $top.Values.scenarios }}
{{- if and (eq $group.scope $scope) (has . $group.scenarios) }}
{{- $rules = concat $rules $group.rules }}
{{- end }}
{{- end }}
{{- end }}
{{- uniq $rules | toJson }}
{{- end }}

{{/* The arguments that a run and its rehearsal have in common. */}}
{{- define "defender-sim.args" -}}
- run
{{- range .Values.scenarios }}
- {{ . }}
{{- end }}
- --namespace={{ .Values.runNamespace.name }}
- --deadline={{ int .Values.deadlineSeconds }}s
- --output=jsonl
- --quiet
{{- range .Values.allow }}
- --allow={{ . }}
{{- end }}
{{- with .Values.attack }}
{{- with .imageRegistry }}
- --image-registry={{ . }}
{{- end }}
{{- with .attackerImage }}
- --attacker-image={{ . }}
{{- end }}
{{- with .victimImage }}
- --victim-image={{ . }}
{{- end }}
{{- range .imagePullSecrets }}
- --image-pull-secret={{ . }}
{{- end }}
{{- range $key, $value := .nodeSelector }}
- {{ printf "--node-selector=%s=%s" $key $value | quote }}
{{- end }}
{{- range .tolerations }}
- {{ printf "--toleration=%s" . | quote }}
{{- end }}
{{- end }}
{{- range .Values.extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end }}

{{/* The pod of a run or a rehearsal: (list . ARGS). */}}
{{- define "defender-sim.podSpec" -}}
{{- $top := index . 0 }}
{{- $args := index . 1 }}
{{- with $top.Values }}
{{- $projected := and .verify.enabled (eq .verify.identity.type "projected") }}
serviceAccountName: {{ include "defender-sim.serviceAccountName" $top }}
automountServiceAccountToken: true
restartPolicy: Never
enableServiceLinks: false
# An interrupted run deletes its objects first.
terminationGracePeriodSeconds: 120
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- with .imagePullSecrets }}
imagePullSecrets: {{ toJson . }}
{{- end }}
containers:
- name: defender-sim
  image: {{ include "defender-sim.image" $top }}
  imagePullPolicy: {{ .image.pullPolicy }}
  command: [/kubectl-defender_sim]
  args:
  {{- $args | nindent 2 }}
  env:
  - {name: HOME, value: /state}
  - {name: TMPDIR, value: /state}
  {{- if $projected }}
  - {name: AZURE_CLIENT_ID, value: {{ quote .verify.identity.clientId }}}
  - {name: AZURE_TENANT_ID, value: {{ quote .verify.identity.tenantId }}}
  - {name: AZURE_FEDERATED_TOKEN_FILE, value: /var/run/secrets/azure/tokens/azure-identity-token}
  {{- end }}
  {{- with .extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  securityContext:
    allowPrivilegeEscalation: false
    capabilities: {drop: [ALL]}
    readOnlyRootFilesystem: true
  resources: {{ toJson .resources }}
  volumeMounts:
  - {name: state, mountPath: /state}
  {{- if $projected }}
  - {name: azure-identity-token, mountPath: /var/run/secrets/azure/tokens, readOnly: true}
  {{- end }}
  {{- with .extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
volumes:
- name: state
  emptyDir: {sizeLimit: 64Mi}
{{- if $projected }}
- name: azure-identity-token
  projected:
    sources:
    - serviceAccountToken:
        audience: api://AzureADTokenExchange
        expirationSeconds: 3600
        path: azure-identity-token
{{- end }}
{{- with .extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector: {{ toJson . }}
{{- end }}
{{- with .tolerations }}
tolerations: {{ toJson . }}
{{- end }}
{{- end }}
{{- end }}

{{/* The metadata of these pods. */}}
{{- define "defender-sim.podLabels" -}}
{{ include "defender-sim.labels" . }}
{{- if and .Values.verify.enabled (eq .Values.verify.identity.type "webhook") }}
azure.workload.identity/use: "true"
{{- end }}
{{- with .Values.podLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}
