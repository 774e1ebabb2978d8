{{- define "trunkline.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- /* At most 52 characters, so that the longest suffix (-helm-test) stays a DNS label. */ -}}
{{- define "trunkline.fullname" -}}
{{- $name := include "trunkline.name" . -}}
{{- $full := printf "%s-%s" .Release.Name $name -}}
{{- if contains $name .Release.Name -}}{{- $full = .Release.Name -}}{{- end -}}
{{- .Values.fullnameOverride | default $full | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- /* Which nodes a pod may go to: every pod of the release to the same. */ -}}
{{- define "trunkline.placement" -}}
{{- $placement := dict -}}
{{- range $name := tuple "priorityClassName" "nodeSelector" "tolerations" -}}
{{- with index $.Values $name -}}{{- $_ := set $placement $name . -}}{{- end -}}
{{- end -}}
{{- if $placement -}}{{- toYaml $placement -}}{{- end -}}
{{- end -}}

{{- define "trunkline.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "trunkline.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- /* What never changes: a selector is fixed for the life of a Deployment. Takes {root, component}. */ -}}
{{- define "trunkline.selectorLabels" -}}
app.kubernetes.io/name: {{ include "trunkline.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- /* Takes {root, component}, and more labels if there are any. */ -}}
{{- define "trunkline.labels" -}}
{{ include "trunkline.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with merge (dict) (default dict .more) .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* Takes an image value and the tag to use where it has none. */ -}}
{{- define "trunkline.image" -}}
{{- if .image.digest -}}
{{- printf "%s@%s" .image.repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" .image.repository (.image.tag | default .tag) -}}
{{- end -}}
{{- end -}}

{{- /* How long sessions may finish: the gateway's own setting, or its default. */ -}}
{{- define "trunkline.drainSeconds" -}}
{{- dig "limits" "drain_seconds" 45 .Values.config | float64 | ceil | int -}}
{{- end -}}

{{- /* What the pod needs at its end: endpoints go, sessions finish, the process ends. */ -}}
{{- define "trunkline.graceNeededSeconds" -}}
{{- add (int .Values.preStopSeconds) (int (include "trunkline.drainSeconds" .)) 10 -}}
{{- end -}}

{{- define "trunkline.graceSeconds" -}}
{{- with .Values.terminationGracePeriodSeconds -}}
{{- int . -}}
{{- else -}}
{{- include "trunkline.graceNeededSeconds" . -}}
{{- end -}}
{{- end -}}

{{- define "trunkline.podSecurityContext" -}}
runAsNonRoot: true
{{- with .Values.runAsId }}
runAsUser: {{ int . }}
runAsGroup: {{ int . }}
fsGroup: {{ int . }}
{{- end }}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "trunkline.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
{{- end -}}
