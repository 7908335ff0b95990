{{- define "orrery.fullname" -}}
{{- if contains "orrery" .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-orrery" .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "orrery.selectorLabels" -}}
app.kubernetes.io/name: orrery
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "orrery.labels" -}}
app.kubernetes.io/name: orrery
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* The account's name; "default" would give every Pod of the namespace the operator's rights. */}}
{{- define "orrery.serviceAccount" -}}
{{- required "serviceAccount.name is empty: write the name of the operator's account, such as orrery" .Values.serviceAccount.name -}}
{{- end -}}

{{/* Reference of an image: (list . .Values.image) */}}
{{- define "orrery.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository (default $root.Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{/* Namespaces whose probes are shut in, as a list in JSON. */}}
{{- define "orrery.probeNamespaces" -}}
{{- $namespaces := .Values.networkPolicy.probes.namespaces -}}
{{- if .Values.watchNamespace -}}
{{- $namespaces = append $namespaces .Values.watchNamespace -}}
{{- end -}}
{{- $namespaces | uniq | sortAlpha | toJson -}}
{{- end -}}
