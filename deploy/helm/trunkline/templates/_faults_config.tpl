{{- /* What is in force of each part of config: what is given, or the gateway's default. JSON. */ -}}
{{- define "trunkline.accounts" -}}
{{- $given := deepCopy (default dict .Values.config.accounts) -}}
{{- range $name, $_ := .Values.providerKeys -}}{{- if not (get $given $name) -}}{{- $_ := set $given $name dict -}}{{- end -}}{{- end -}}
{{- if not $given -}}{{- $_ := set $given "main" dict -}}{{- end -}}
{{- toJson $given -}}
{{- end -}}

{{- define "trunkline.targets" -}}
{{- toJson (.Values.config.targets | default (dict "openai" dict)) -}}
{{- end -}}

{{- define "trunkline.templates" -}}
{{- toJson (.Values.config.templates | default (dict "default" dict)) -}}
{{- end -}}

{{- define "trunkline.pools" -}}
{{- toJson (.Values.config.pools | default (dict "default" dict)) -}}
{{- end -}}

{{- /* How many lines the pools of each account may have together in one gateway; JSON by account. */ -}}
{{- define "trunkline.ceilings" -}}
{{- $accounts := include "trunkline.accounts" . | fromJson -}}
{{- $targets := include "trunkline.targets" . | fromJson -}}
{{- $pools := include "trunkline.pools" . | fromJson -}}
{{- $tenants := list -}}
{{- range .Values.callers -}}{{- $tenants = append $tenants .tenant -}}{{- end -}}
{{- $used := dict -}}
{{- range $name, $template := include "trunkline.templates" . | fromJson -}}
{{- $target := get $targets (dig "target" "openai" (default dict $template)) | default dict -}}
{{- $account := first ($target.accounts | default (list "main")) -}}
{{- $ceiling := dig "ceiling" 16 (get $pools $name | default dict) | int -}}
{{- if eq "tenant" (dig "safety" "none" (get $accounts $account | default dict)) -}}
{{- $ceiling = mul $ceiling (max 1 (len (uniq $tenants))) -}}
{{- end -}}
{{- $_ := set $used $account (add (get $used $account | default 0 | int) $ceiling) -}}
{{- end -}}
{{- toJson $used -}}
{{- end -}}

{{- define "trunkline.faults.names" -}}
{{- $accounts := include "trunkline.accounts" .root | fromJson -}}
{{- $targets := include "trunkline.targets" .root | fromJson -}}
{{- $templates := include "trunkline.templates" .root | fromJson -}}
{{- range $name, $target := $targets -}}
{{- range dig "accounts" (list "main") (default dict $target) -}}
{{- if not (hasKey $accounts .) -}}
{{- include "trunkline.fault" (list $ (printf "config.targets.%s.accounts: %q is not among the accounts: %s" $name . (keys $accounts | sortAlpha | join ", "))) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $name, $template := $templates -}}
{{- $target := dig "target" "openai" (default dict $template) -}}
{{- if not (hasKey $targets $target) -}}
{{- include "trunkline.fault" (list $ (printf "config.templates.%s.target: %q is not among the targets: %s" $name $target (keys $targets | sortAlpha | join ", "))) -}}
{{- end -}}
{{- end -}}
{{- range $name, $_ := include "trunkline.pools" .root | fromJson -}}
{{- if not (hasKey $templates $name) -}}
{{- include "trunkline.fault" (list $ (printf "config.pools: %q is not among the templates: %s. Name a pool of yours instead" $name (keys $templates | sortAlpha | join ", "))) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "trunkline.faults.bounds" -}}
{{- range $name, $pool := include "trunkline.pools" .root | fromJson -}}
{{- $pool = default dict $pool -}}
{{- $floor := dig "floor" 2 $pool | int -}}
{{- $reserve := dig "reserve" 2 $pool | int -}}
{{- $ceiling := dig "ceiling" 16 $pool | int -}}
{{- if gt (add $floor $reserve) $ceiling -}}
{{- include "trunkline.fault" (list $ (printf "config.pools.%s: floor %d + reserve %d is over ceiling %d" $name $floor $reserve $ceiling)) -}}
{{- end -}}
{{- end -}}
{{- $accounts := include "trunkline.accounts" .root | fromJson -}}
{{- range $name, $total := include "trunkline.ceilings" .root | fromJson -}}
{{- $limit := dig "connections_max" 100 (get $accounts $name | default dict) | int -}}
{{- if gt (int $total) $limit -}}
{{- include "trunkline.fault" (list $ (printf "config.accounts.%s.connections_max is %d, but the ceilings of its pools sum up to %d in each gateway; lower the ceilings" $name $limit (int $total))) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "trunkline.faults.unserved" -}}
{{- if eq false (dig "store" "opens_without_redis" true .root.Values.config) -}}
{{- $_ := set . "faults" (append .faults "config.store.opens_without_redis: false is not served yet") -}}
{{- end -}}
{{- range $name, $template := include "trunkline.templates" .root | fromJson -}}
{{- $template = default dict $template -}}
{{- if ne "available" (dig "durability" "available" $template) -}}
{{- include "trunkline.fault" (list $ (printf "config.templates.%s.durability: strict is not served yet" $name)) -}}
{{- end -}}
{{- $turns := dig "recovery" "user_turns" "transcript" $template -}}
{{- if eq "audio" $turns -}}
{{- include "trunkline.fault" (list $ (printf "config.templates.%s.recovery.user_turns: audio is not served yet" $name)) -}}
{{- end -}}
{{- $session := default dict $template.session -}}
{{- $audio := default dict $session.audio -}}
{{- $input := dict -}}
{{- if kindIs "map" $audio -}}{{- $input = default dict $audio.input -}}{{- end -}}
{{- if not (kindIs "string" (default "" $session.type)) -}}
{{- include "trunkline.fault" (list $ (printf "config.templates.%s.session.type: must be a word, realtime or transcription" $name)) -}}
{{- end -}}
{{- if not (and (kindIs "map" $audio) (kindIs "map" $input)) -}}
{{- include "trunkline.fault" (list $ (printf "config.templates.%s.session: audio and audio.input must be mappings" $name)) -}}
{{- else if and (eq "transcript" $turns) (hasKey $template "session") (not $input.transcription) -}}
{{- include "trunkline.fault" (list $ (printf "config.templates.%s.session: audio.input.transcription must be set, or recovery.user_turns be none: from there a recovered conversation gets what its user has said" $name)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
