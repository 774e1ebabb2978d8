{{- /* Where a key of a Secret is in the pod. Takes {existingSecret, key}. */ -}}
{{- define "trunkline.secretPath" -}}
{{- printf "/etc/trunkline/secrets/%s/%s" .existingSecret .key -}}
{{- end -}}

{{- /* All Secrets that are mounted, each once, in a fixed order; JSON {"names": [...]}. */ -}}
{{- define "trunkline.secrets" -}}
{{- $names := list -}}
{{- range .Values.providerKeys -}}{{- $names = append $names .existingSecret -}}{{- end -}}
{{- range .Values.callers -}}{{- $names = append $names .tokenSha256.existingSecret -}}{{- end -}}
{{- $more := list .Values.sealingKeys .Values.tls .Values.tls.clientCa .Values.redis.password .Values.redis.sentinelPassword .Values.redis.ca .Values.tracing.ca -}}
{{- range $more -}}{{- $names = append $names .existingSecret -}}{{- end -}}
{{- dict "names" (compact $names | uniq | sortAlpha) | toJson -}}
{{- end -}}

{{- define "trunkline.redisUrl" -}}
{{- if .Values.valkey.enabled -}}
{{- printf "redis://%s-valkey:6379/0" (include "trunkline.fullname" .) -}}
{{- else -}}
{{- .Values.redis.url -}}
{{- end -}}
{{- end -}}

{{- define "trunkline.anyAddress" -}}
{{- ternary "[::]" "0.0.0.0" (eq .Values.ipFamily "IPv6") -}}
{{- end -}}

{{- /* The gateway's configuration: `config` as it is given, and what the chart knows better. */ -}}
{{- define "trunkline.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- $any := include "trunkline.anyAddress" . -}}
{{- $_ := set $config "profile" .Values.profile -}}
{{- $grpc := dict "address" (printf "%s:50051" $any) -}}
{{- with .Values.tls -}}
{{- if .existingSecret -}}
{{- $tls := dict "cert_file" (include "trunkline.secretPath" (dict "existingSecret" .existingSecret "key" .certKey)) -}}
{{- $_ := set $tls "key_file" (include "trunkline.secretPath" (dict "existingSecret" .existingSecret "key" .keyKey)) -}}
{{- if .clientCa.existingSecret -}}
{{- $_ := set $tls "client_ca_file" (include "trunkline.secretPath" .clientCa) -}}
{{- end -}}
{{- $_ := set $grpc "tls" $tls -}}
{{- end -}}
{{- end -}}
{{- $_ := set $config "grpc" $grpc -}}
{{- $_ := set $config "ops" (dict "address" (printf "%s:9464" $any)) -}}
{{- $redis := dict "url" (include "trunkline.redisUrl" .) -}}
{{- range $setting, $from := dict "password_file" .Values.redis.password "sentinel_password_file" .Values.redis.sentinelPassword "ca_file" .Values.redis.ca -}}
{{- if $from.existingSecret -}}{{- $_ := set $redis $setting (include "trunkline.secretPath" $from) -}}{{- end -}}
{{- end -}}
{{- $_ := set $config "redis" $redis -}}
{{- if .Values.sealingKeys.existingSecret -}}
{{- $keys := list -}}
{{- range .Values.sealingKeys.ids -}}
{{- $keys = append $keys (dict "id" . "file" (include "trunkline.secretPath" (dict "existingSecret" $.Values.sealingKeys.existingSecret "key" .))) -}}
{{- end -}}
{{- $_ := set $config "store" (merge (dict "sealing_keys" $keys) (default dict $config.store)) -}}
{{- end -}}
{{- if .Values.tracing.ca.existingSecret -}}
{{- $_ := set $config "tracing" (merge (dict "ca_file" (include "trunkline.secretPath" .Values.tracing.ca)) (default dict $config.tracing)) -}}
{{- end -}}
{{- $callers := list -}}
{{- range .Values.callers -}}
{{- $callers = append $callers (dict "name" .name "tenant" .tenant "rights" (.rights | default (list "converse")) "token_sha256_file" (include "trunkline.secretPath" .tokenSha256)) -}}
{{- end -}}
{{- $_ := set $config "callers" $callers -}}
{{- $accounts := default dict $config.accounts -}}
{{- range $account, $from := .Values.providerKeys -}}
{{- $key := dict "key_file" (include "trunkline.secretPath" (dict "existingSecret" $from.existingSecret "key" ($from.key | default "api-key"))) -}}
{{- $_ := set $accounts $account (merge $key (default dict (get $accounts $account))) -}}
{{- end -}}
{{- if $accounts -}}{{- $_ := set $config "accounts" $accounts -}}{{- end -}}
{{- if .Values.simulator.enabled -}}
{{- $_ := set $config "targets" (dict "openai" (dict "provider" "openai" "url" "ws://127.0.0.1:9180/v1/realtime")) -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}

{{- /* What a running gateway does not follow. Only a change of this restarts the pods. */ -}}
{{- define "trunkline.fixedConfig" -}}
{{- $config := omit (include "trunkline.config" . | fromYaml) "callers" "pools" "targets" "templates" -}}
{{- with $config.store -}}{{- $_ := set $config "store" (omit . "sealing_keys") -}}{{- end -}}
{{- $accounts := dict -}}
{{- range $name, $account := $config.accounts -}}{{- $_ := set $accounts $name (omit $account "key_file") -}}{{- end -}}
{{- $_ := set $config "accounts" $accounts -}}
{{- toYaml $config -}}
{{- end -}}
