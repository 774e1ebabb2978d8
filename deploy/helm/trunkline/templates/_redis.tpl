{{- /*
What redis.url says: JSON {tls, hasPassword, user, ports}. The userinfo ends at the last @, whatever a password holds.
No ports: nothing is reached by TCP.
*/ -}}
{{- define "trunkline.redisParts" -}}
{{- $url := include "trunkline.redisUrl" . -}}
{{- $scheme := regexFind "^[a-z+]+" $url -}}
{{- $rest := regexReplaceAll "^[a-z+]+://" $url "" -}}
{{- $userinfo := regexFind "^.*@" $rest | trimSuffix "@" -}}
{{- $isSentinel := hasSuffix "sentinel" $scheme -}}
{{- $ports := list -}}
{{- if hasPrefix "redis" $scheme -}}
{{- range regexReplaceAll "^.*@" $rest "" | splitList "/" | first | splitList "," -}}
{{- $ports = append $ports (regexFind ":[0-9]+$" . | trimPrefix ":" | default (ternary "26379" "6379" $isSentinel) | int) -}}
{{- end -}}
{{- /* The Sentinels name a primary, which has a port of its own. */ -}}
{{- if $isSentinel -}}{{- $ports = append $ports 6379 -}}{{- end -}}
{{- end -}}
{{- dict
  "tls" (hasPrefix "rediss" $scheme)
  "hasPassword" (contains ":" $userinfo)
  "user" (splitList ":" $userinfo | first)
  "ports" (uniq $ports)
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
