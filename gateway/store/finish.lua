#!lua flags=allow-oom
-- finish: let one session's state go, if its owner may. Runs also when memory is full: it frees some.
--
-- KEYS  1 meta (hash)   2 log (stream)
-- ARGV  1 epoch   2 how long both stay readable, ms; 0 = not at all
--
-- Returns:
--   FENCED  epoch   a newer owner wrote: nothing was touched
--   OK      0       gone, or marked finished and about to expire; also when nothing was there

local meta, log = KEYS[1], KEYS[2]
local epoch, retention_ms = tonumber(ARGV[1]), tonumber(ARGV[2])

local stored = redis.call('HGET', meta, 'epoch')
if stored and tonumber(stored) > epoch then
  return {'FENCED', stored}
end

if retention_ms == 0 then
  redis.call('UNLINK', meta, log)
elseif stored then
  redis.call('HSET', meta, 'state', 'finished')
  redis.call('PEXPIRE', meta, ARGV[2])
  redis.call('PEXPIRE', log, ARGV[2])
end
return {'OK', '0'}
