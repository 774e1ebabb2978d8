#!lua
-- tenants: one gateway says how many lines each tenant has at it, and hears what the others said last.
--
-- KEYS  1 what each gateway said (hash: gateway -> "<ms>:<text>")
-- ARGV  1 gateway   2 its text; empty = no tenant has a line here   3 how long a word counts, ms
--
-- Returns the texts of the others that still count. What does not is dropped.

local key, gateway, text, life_ms = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

if text == '' then
  redis.call('HDEL', key, gateway)
else
  redis.call('HSET', key, gateway, string.format('%.0f', now) .. ':' .. text)
  redis.call('PEXPIRE', key, life_ms)
end

local others = {}
local all = redis.call('HGETALL', key)
for i = 1, #all, 2 do
  local said_at, said = string.match(all[i + 1], '^(%d+):(.*)$')
  if not said_at or now - tonumber(said_at) > life_ms then
    redis.call('HDEL', key, all[i])
  elseif all[i] ~= gateway then
    table.insert(others, said)
  end
end
return others
