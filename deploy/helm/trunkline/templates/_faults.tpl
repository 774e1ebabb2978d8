{{- /*
What the gateway would refuse at its start, or what could not work, said before anything is installed.
Each takes {root, faults}, and adds sentences to `faults`: they say what to do instead.
A test holds the figures and rules of config against the gateway's own.
*/ -}}

{{- /* Takes the dictionary with `faults`, and a sentence. */ -}}
{{- define "trunkline.fault" -}}
{{- $told := first . -}}
{{- $_ := set $told "faults" (append $told.faults (last .)) -}}
{{- end -}}

{{- define "trunkline.faults.required" -}}
{{- $v := .root.Values -}}
{{- if not $v.image.repository -}}
{{- include "trunkline.fault" (list . "image.repository: name the registry and repository that you have pushed the gateway's image to") -}}
{{- end -}}
{{- if not $v.callers -}}
{{- include "trunkline.fault" (list . "callers: nobody may call. Name at least one caller: {name, tenant, tokenSha256: {existingSecret, key}}") -}}
{{- end -}}
{{- $loopback := "^wss?://(localhost|127\\.[0-9.]+|\\[::1\\])[:/]" -}}
{{- $targets := include "trunkline.targets" .root | fromJson -}}
{{- range $account := include "trunkline.accounts" .root | fromJson | keys | sortAlpha -}}
{{- $needed := eq $v.profile "production" -}}
{{- range $targets -}}
{{- if and (has $account (dig "accounts" (list "main") .)) (not (regexMatch $loopback (dig "url" "wss://api.openai.com" . | printf "%s/"))) -}}
{{- $needed = true -}}
{{- end -}}
{{- end -}}
{{- if and $needed (not $v.simulator.enabled) (not (hasKey $v.providerKeys $account)) -}}
{{- include "trunkline.fault" (list $ (printf "providerKeys.%s: the account needs the provider's key; write {existingSecret: NAME, key: api-key}" $account)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "trunkline.faults.profile" -}}
{{- $v := .root.Values -}}
{{- if and $v.tls.clientCa.existingSecret (not $v.tls.existingSecret) -}}
{{- include "trunkline.fault" (list . "tls.clientCa: callers can show a certificate by TLS only; name the listener's own in tls.existingSecret") -}}
{{- end -}}
{{- if eq $v.profile "production" -}}
{{- if not $v.tls.existingSecret -}}
{{- include "trunkline.fault" (list . "tls.existingSecret: in production the listener needs a certificate; name a Secret of the type kubernetes.io/tls") -}}
{{- end -}}
{{- if $v.valkey.enabled -}}
{{- include "trunkline.fault" (list . "valkey.enabled: it has no TLS, no password and no disk, and production refuses that. Name your Redis in redis.url, or set profile: development to evaluate") -}}
{{- end -}}
{{- if $v.simulator.enabled -}}
{{- include "trunkline.fault" (list . "simulator.enabled: it answers calls in the provider's place. Leave it out, or set profile: development to evaluate") -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "trunkline.faults.redis" -}}
{{- $v := .root.Values -}}
{{- $secrets := or $v.redis.password.existingSecret $v.redis.ca.existingSecret $v.redis.sentinelPassword.existingSecret -}}
{{- if $v.valkey.enabled -}}
{{- if or $v.redis.url $secrets -}}
{{- include "trunkline.fault" (list . "valkey.enabled: the gateways then use the Valkey of this chart; leave redis empty, or valkey.enabled out") -}}
{{- end -}}
{{- else if not $v.redis.url -}}
{{- include "trunkline.fault" (list . "redis.url: name your Redis, as rediss://USER@HOST:6379/0. To evaluate, set profile: development and valkey.enabled") -}}
{{- else if eq $v.redis.url "embedded" -}}
{{- if or $v.autoscaling.enabled (gt (int $v.replicas) 1) -}}
{{- include "trunkline.fault" (list . "redis.url: embedded serves one gateway alone: several would not share the account's limits, nor resume each other's sessions. Name a Redis, or set replicas: 1 without autoscaling") -}}
{{- end -}}
{{- if $secrets -}}
{{- include "trunkline.fault" (list . "redis: embedded takes no password, sentinelPassword or ca; leave them out") -}}
{{- end -}}
{{- else -}}
{{- include "trunkline.faults.redisUrl" . -}}
{{- end -}}
{{- if and (ne $v.redis.url "embedded") (or $v.redis.url $v.valkey.enabled) (not $v.sealingKeys.existingSecret) -}}
{{- include "trunkline.fault" (list . "sealingKeys.existingSecret: what is stored outside of the gateway is sealed; name the Secret with the key, which it holds under the name k1") -}}
{{- end -}}
{{- end -}}

{{- /* None of its sentences repeats the URL: it may hold a password. */ -}}
{{- define "trunkline.faults.redisUrl" -}}
{{- $v := .root.Values -}}
{{- $redis := include "trunkline.redisParts" .root | fromJson -}}
{{- $places := "[^/?#,@]+(,[^/?#,@]+)*" -}}
{{- $form := printf "^rediss?(://(.*@)?[^/?#,@]+(/[0-9]*)?|\\+sentinel://(.*@)?%s/[^/?#]+(/[0-9]*)?|\\+cluster://(.*@)?%s)$" $places $places -}}
{{- if not (regexMatch $form $v.redis.url) -}}
{{- include "trunkline.fault" (list . "redis.url: must be one of rediss://USER@HOST:6379/0, rediss+sentinel://USER@HOST:26379,HOST:26379/NAME/0, rediss+cluster://USER@HOST:6379,HOST:6379, and embedded") -}}
{{- else -}}
{{- if $redis.hasPassword -}}
{{- include "trunkline.fault" (list . "redis.url: holds a password, and would stand in a ConfigMap; put it into a Secret, and name that in redis.password.existingSecret") -}}
{{- end -}}
{{- if and $v.redis.ca.existingSecret (not $redis.tls) -}}
{{- include "trunkline.fault" (list . "redis.ca: is for TLS; begin redis.url with rediss") -}}
{{- end -}}
{{- if eq $v.profile "production" -}}
{{- if has $redis.user (list "" "default") -}}
{{- include "trunkline.fault" (list . "redis.url: in production it names a user of its own, not default: rediss://USER@HOST") -}}
{{- end -}}
{{- if not $redis.tls -}}
{{- include "trunkline.fault" (list . "redis.url: in production Redis is reached by TLS alone; begin with rediss") -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "trunkline.faults.pod" -}}
{{- $v := .root.Values -}}
{{- $full := include "trunkline.fullname" .root -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $full) -}}
{{- include "trunkline.fault" (list . (printf "fullnameOverride: the release gives Services the name %s, and a Service's begins with a letter and has no dot; set another" $full)) -}}
{{- end -}}
{{- if not (kindIs "invalid" $v.terminationGracePeriodSeconds) -}}
{{- $given := int $v.terminationGracePeriodSeconds -}}
{{- $needed := int (include "trunkline.graceNeededSeconds" .root) -}}
{{- if lt $given $needed -}}
{{- include "trunkline.fault" (list . (printf "terminationGracePeriodSeconds: %d would cut calls off. It must be at least %d = preStopSeconds %d + config.limits.drain_seconds %s + 10; it is, if you leave it out" $given $needed (int $v.preStopSeconds) (include "trunkline.drainSeconds" .root))) -}}
{{- end -}}
{{- end -}}
{{- if and $v.autoscaling.enabled (lt (int $v.autoscaling.maxReplicas) (int $v.autoscaling.minReplicas)) -}}
{{- include "trunkline.fault" (list . (printf "autoscaling.maxReplicas: %d is less than autoscaling.minReplicas, %d" (int $v.autoscaling.maxReplicas) (int $v.autoscaling.minReplicas))) -}}
{{- end -}}
{{- range $v.extraEnv -}}
{{- if hasPrefix "TRUNKLINE_" (upper .name) -}}
{{- include "trunkline.fault" (list $ (printf "extraEnv: %s would win over the configuration; write the setting into config" .name)) -}}
{{- else if or (eq .name "OPENAI_API_KEY") (dig "valueFrom" "secretKeyRef" "" .) -}}
{{- include "trunkline.fault" (list $ (printf "extraEnv: %s would put a secret into the environment, where every process of the pod can read it. The gateway takes its secrets from files: providerKeys, callers, tls, redis, sealingKeys" .name)) -}}
{{- else if eq .name "POD_IP" -}}
{{- include "trunkline.fault" (list $ "extraEnv: POD_IP is set by the chart; leave it out") -}}
{{- end -}}
{{- end -}}
{{- $labels := dict "commonLabels" $v.commonLabels "podLabels" $v.podLabels "serviceMonitor.labels" $v.serviceMonitor.labels "prometheusRule.labels" $v.prometheusRule.labels "dashboard.labels" $v.dashboard.labels -}}
{{- range $where := keys $labels | sortAlpha -}}
{{- range $label, $_ := get $labels $where -}}
{{- if or (hasPrefix "app.kubernetes.io/" $label) (eq $label "helm.sh/chart") -}}
{{- include "trunkline.fault" (list $ (printf "%s: %s is set by the chart; leave it out, or use nameOverride" $where $label)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "trunkline.faults.taken" -}}
{{- $config := .root.Values.config -}}
{{- $instead := dict
  "profile" "use the chart's own value profile"
  "grpc" "the chart sets the listener; for TLS use its own value tls"
  "ops" "the chart sets the listener; leave it out"
  "door" "it is not served yet; leave it out"
  "redis" "use the chart's own value redis"
  "callers" "use the chart's own value callers"
-}}
{{- range $section := keys $instead | sortAlpha -}}
{{- if hasKey $config $section -}}
{{- include "trunkline.fault" (list $ (printf "config.%s: %s" $section (get $instead $section))) -}}
{{- end -}}
{{- end -}}
{{- if hasKey (default dict $config.store) "sealing_keys" -}}
{{- include "trunkline.fault" (list . "config.store.sealing_keys: use the chart's own value sealingKeys") -}}
{{- end -}}
{{- $tracing := default dict $config.tracing -}}
{{- if hasKey $tracing "ca_file" -}}
{{- include "trunkline.fault" (list . "config.tracing.ca_file: use the chart's own value tracing.ca") -}}
{{- end -}}
{{- $endpoint := default "" $tracing.endpoint -}}
{{- $port := regexFind ":[0-9]+/?$" $endpoint | trimPrefix ":" | trimSuffix "/" | int -}}
{{- if not (regexMatch "^(https?://([^][@?#/:\\s]+|\\[[0-9a-fA-F:.]+\\]):[0-9]+/?)?$" $endpoint) -}}
{{- include "trunkline.fault" (list . "config.tracing.endpoint: must be http://HOST:PORT or https://HOST:PORT, and nothing more") -}}
{{- else if and $endpoint (or (lt $port 1) (gt $port 65535)) -}}
{{- include "trunkline.fault" (list . (printf "config.tracing.endpoint: %d is no port" $port)) -}}
{{- end -}}
{{- if and .root.Values.tracing.ca.existingSecret (not (hasPrefix "https:" $endpoint)) -}}
{{- include "trunkline.fault" (list . "tracing.ca: is for TLS; begin config.tracing.endpoint with https") -}}
{{- end -}}
{{- range $name, $account := $config.accounts -}}
{{- if hasKey $account "key_file" -}}
{{- include "trunkline.fault" (list $ (printf "config.accounts.%s.key_file: use the chart's own value providerKeys.%s" $name $name)) -}}
{{- end -}}
{{- end -}}
{{- if and .root.Values.simulator.enabled (hasKey $config "targets") -}}
{{- include "trunkline.fault" (list . "config.targets: with simulator.enabled the chart sets the target; leave it out") -}}
{{- end -}}
{{- range $name, $target := $config.targets -}}
{{- $url := dig "url" "wss://api.openai.com/v1/realtime" $target -}}
{{- $port := regexFind "^wss?://[^/]*:[0-9]+" $url | regexFind "[0-9]+$" | default "443" | int -}}
{{- if or (lt $port 1) (gt $port 65535) -}}
{{- include "trunkline.fault" (list $ (printf "config.targets.%s.url: %d is no port" $name $port)) -}}
{{- else if not (or (regexMatch "^wss://[^@?#/:]+(:[0-9]+)?(/[^?#]*)?$" $url) (regexMatch "^wss?://(localhost|127\\.[0-9.]+|\\[[0-9a-fA-F:]+\\])(:[0-9]+)?(/[^?#]*)?$" $url)) -}}
{{- include "trunkline.fault" (list $ (printf "config.targets.%s.url: must be wss://HOST[:PORT]/PATH, without a user, a query or a fragment" $name)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
