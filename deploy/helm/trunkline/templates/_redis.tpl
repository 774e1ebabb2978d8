{{- /*
What redis.url says: JSON {tls, isLocal, hasPassword, user, ports}. The userinfo ends at the last @, whatever a
password holds. Empty ports = nothing is reached by TCP.
*/ -}}
{{- define "trunkline.redisParts" -}}
{{- $url := include "trunkline.redisUrl" . -}}
{{- $scheme := regexFind "^[a-z+]+" $url -}}
{{- $rest := regexReplaceAll "^[a-z+]+://" $url "" -}}
{{- $userinfo := regexFind "^.*@" $rest | trimSuffix "@" -}}
{{- $places := regexReplaceAll "^.*@" $rest "" | splitList "/" | first | splitList "," -}}
{{- $ports := list -}}
{{- $local := or (eq $scheme "unix") (eq $url "embedded") -}}
{{- if not $local -}}
{{- $local = true -}}
{{- range $places -}}
{{- $port := regexFind ":[0-9]+$" . | trimPrefix ":" -}}
{{- $ports = append $ports ($port | default (ternary "26379" "6379" (hasSuffix "sentinel" $scheme)) | int) -}}
{{- if not (regexMatch "^(localhost|127\\.[0-9.]+|\\[::1\\])(:[0-9]+)?$" .) -}}{{- $local = false -}}{{- end -}}
{{- end -}}
{{- /* The Sentinels name a primary, which has a port of its own. */ -}}
{{- if hasSuffix "sentinel" $scheme -}}{{- $ports = append $ports 6379 -}}{{- end -}}
{{- end -}}
{{- dict
  "tls" (hasPrefix "rediss" $scheme)
  "isLocal" $local
  "hasPassword" (contains ":" $userinfo)
  "user" (splitList ":" $userinfo | first)
  "ports" (ternary (list) (uniq $ports) $local)
| toJson -}}
{{- end -}}

{{- define "trunkline.redisPorts" -}}
{{- $given := .Values.networkPolicy.redisPorts -}}
{{- dict "ports" ($given | default (include "trunkline.redisParts" . | fromJson).ports) | toJson -}}
{{- end -}}

{{- /* The ports of the targets' addresses; JSON {ports}. */ -}}
{{- define "trunkline.providerPorts" -}}
{{- $ports := list -}}
{{- range (include "trunkline.targets" . | fromJson) -}}
{{- $url := dig "url" "wss://api.openai.com/v1/realtime" (default dict .) -}}
{{- $place := regexReplaceAll "^wss?://" $url "" | splitList "/" | first -}}
{{- $ports = append $ports (regexFind ":[0-9]+$" $place | trimPrefix ":" | default "443" | int) -}}
{{- end -}}
{{- dict "ports" (uniq $ports) | toJson -}}
{{- end -}}
