{{- /*
What the gateway would refuse at its start, or what could not work, said before anything is installed.
Each takes {root, faults}, and appends sentences to `faults`: they say what to do instead.
A test holds the figures and rules of config against the gateway's own.
*/ -}}

{{- define "trunkline.faults.required" -}}
{{- $v := .root.Values -}}
{{- if not $v.image.repository -}}
{{- $_ := set . "faults" (append .faults "image.repository: name the registry and repository that you have pushed the gateway's image to") -}}
{{- end -}}
{{- if not $v.callers -}}
{{- $_ := set . "faults" (append .faults "callers: nobody may call. Name at least one caller: {name, tenant, tokenSha256: {existingSecret, key}}") -}}
{{- end -}}
{{- if not (or $v.redis.url $v.valkey.enabled) -}}
{{- $_ := set . "faults" (append .faults "redis.url: name your Redis, as rediss://USER@HOST:6379/0. To evaluate, set valkey.enabled, or redis.url: embedded with replicas: 1") -}}
{{- end -}}
{{- $url := include "trunkline.redisUrl" .root -}}
{{- if and $url (ne $url "embedded") (not $v.sealingKeys.existingSecret) -}}
{{- $_ := set . "faults" (append .faults "sealingKeys.existingSecret: a Redis that is not embedded needs a key that seals what is stored; name the Secret that holds it under the key k1") -}}
{{- end -}}
{{- end -}}

{{- define "trunkline.faults.production" -}}
{{- $v := .root.Values -}}
{{- if not $v.tls.existingSecret -}}
{{- $_ := set . "faults" (append .faults "tls.existingSecret: in production the listener needs a certificate; name a Secret of the type kubernetes.io/tls") -}}
{{- end -}}
{{- range $account := include "trunkline.accounts" .root | fromJson | keys | sortAlpha -}}
{{- if not (hasKey $v.providerKeys $account) -}}
{{- $_ := set $ "faults" (append $.faults (printf "providerKeys.%s: in production each account needs a key; write {existingSecret: NAME, key: api-key}" $account)) -}}
{{- end -}}
{{- end -}}
{{- if and $v.redis.url (ne $v.redis.url "embedded") (not $v.valkey.enabled) -}}
{{- $redis := include "trunkline.redisParts" .root | fromJson -}}
{{- if $redis.hasPassword -}}
{{- $_ := set . "faults" (append .faults "redis.url: holds a password; put it into a Secret, and name that in redis.password.existingSecret") -}}
{{- end -}}
{{- if has $redis.user (list "" "default") -}}
{{- $_ := set . "faults" (append .faults "redis.url: in production it names a user of its own, not default: rediss://USER@HOST") -}}
{{- end -}}
{{- if not (or $redis.tls $redis.isLocal) -}}
{{- $_ := set . "faults" (append .faults "redis.url: in production Redis is reached by TLS alone: begin with rediss") -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "trunkline.faults.redis" -}}
{{- $v := .root.Values -}}
{{- if and $v.valkey.enabled (or $v.redis.url $v.redis.password.existingSecret $v.redis.ca.existingSecret $v.redis.sentinelPassword.existingSecret) -}}
{{- $_ := set . "faults" (append .faults "valkey.enabled: the gateways then use the Valkey of this chart; leave redis empty") -}}
{{- end -}}
{{- if eq $v.redis.url "embedded" -}}
{{- if or $v.autoscaling.enabled (gt (int $v.replicas) 1) -}}
{{- $_ := set . "faults" (append .faults "redis.url: embedded serves one gateway alone: several would not share the account's limits, nor resume each other's sessions. Name a Redis, or set replicas: 1 without autoscaling") -}}
{{- end -}}
{{- if or $v.redis.password.existingSecret $v.redis.ca.existingSecret $v.redis.sentinelPassword.existingSecret -}}
{{- $_ := set . "faults" (append .faults "redis: embedded takes no password, sentinelPassword or ca") -}}
{{- end -}}
{{- else if $v.redis.url -}}
{{- $redis := include "trunkline.redisParts" .root | fromJson -}}
{{- if and $redis.hasPassword $v.redis.password.existingSecret -}}
{{- $_ := set . "faults" (append .faults "redis.url: holds a password, and redis.password names another one; leave it out of the URL") -}}
{{- end -}}
{{- if and $v.redis.ca.existingSecret (not $redis.tls) -}}
{{- $_ := set . "faults" (append .faults "redis.ca: needs a redis.url that begins with rediss") -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "trunkline.faults.pod" -}}
{{- $v := .root.Values -}}
{{- if not (kindIs "invalid" $v.terminationGracePeriodSeconds) -}}
{{- $needed := int (include "trunkline.graceNeededSeconds" .root) -}}
{{- if lt (int $v.terminationGracePeriodSeconds) $needed -}}
{{- $drain := include "trunkline.drainSeconds" .root -}}
{{- $_ := set . "faults" (append .faults (printf "terminationGracePeriodSeconds: %d would cut calls off; it must be at least %d = preStopSeconds %d + config.limits.drain_seconds %s + 10. Leave it out, and it is" (int $v.terminationGracePeriodSeconds) $needed (int $v.preStopSeconds) $drain)) -}}
{{- end -}}
{{- end -}}
{{- if and $v.autoscaling.enabled (lt (int $v.autoscaling.maxReplicas) (int $v.autoscaling.minReplicas)) -}}
{{- $_ := set . "faults" (append .faults (printf "autoscaling.maxReplicas: %d is less than minReplicas %d" (int $v.autoscaling.maxReplicas) (int $v.autoscaling.minReplicas))) -}}
{{- end -}}
{{- range $v.extraEnv -}}
{{- if hasPrefix "TRUNKLINE_" (upper .name) -}}
{{- $_ := set $ "faults" (append $.faults (printf "extraEnv: %s would win over the configuration behind the chart's back; write the setting into config" .name)) -}}
{{- else if eq .name "OPENAI_API_KEY" -}}
{{- $_ := set $ "faults" (append $.faults "extraEnv: OPENAI_API_KEY could be read by every process of the pod; name a Secret in providerKeys") -}}
{{- else if eq .name "POD_IP" -}}
{{- $_ := set $ "faults" (append $.faults "extraEnv: POD_IP is set by the chart") -}}
{{- end -}}
{{- end -}}
{{- range $where, $labels := dict "podLabels" $v.podLabels "commonLabels" $v.commonLabels -}}
{{- range $label, $_ := $labels -}}
{{- if or (hasPrefix "app.kubernetes.io/" $label) (eq $label "helm.sh/chart") -}}
{{- $_ := set $ "faults" (append $.faults (printf "%s: %s is set by the chart; nameOverride changes the name" $where $label)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "trunkline.faults.taken" -}}
{{- $config := .root.Values.config -}}
{{- $instead := dict
  "profile" "use profile"
  "grpc" "the chart sets the listener; use tls and ipFamily"
  "ops" "the chart sets the listener; use ipFamily"
  "door" "it is not served yet"
  "redis" "use redis"
  "callers" "use callers"
-}}
{{- range $section := keys $instead | sortAlpha -}}
{{- if hasKey $config $section -}}
{{- $_ := set $ "faults" (append $.faults (printf "config.%s: %s, beside config" $section (get $instead $section))) -}}
{{- end -}}
{{- end -}}
{{- if hasKey (default dict $config.store) "sealing_keys" -}}
{{- $_ := set . "faults" (append .faults "config.store.sealing_keys: use sealingKeys, beside config") -}}
{{- end -}}
{{- range $name, $account := $config.accounts -}}
{{- if hasKey (default dict $account) "key_file" -}}
{{- $_ := set $ "faults" (append $.faults (printf "config.accounts.%s.key_file: use providerKeys.%s, beside config" $name $name)) -}}
{{- end -}}
{{- end -}}
{{- if and .root.Values.simulator.enabled (hasKey $config "targets") -}}
{{- $_ := set . "faults" (append .faults "config.targets: with simulator.enabled the chart sets the target; leave it out") -}}
{{- end -}}
{{- end -}}
