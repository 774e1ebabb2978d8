#!lua flags=allow-oom
-- slots: one gateway says what it holds of one account, and may ask for more places and turns to dial.
-- Runs also when memory is full: it needs little, and a report that is refused looks like a death.
--
-- KEYS  1 counts (hash: gateway → "leased warm spare turn")   2 expiries (sorted set: gateway → ms)
--       3 tat (µs)   4 wants (sorted set: want → ms)   5 recalls (hash: gateway → number)
--       6 seen       7 rejoin
-- ARGV  1 gateway   2 turn: the number of this call   3-5 leased, warm and spare places held
--       6 life of the gateway's entry, ms; 0 = it leaves   7 cap   8 places kept for spare
--       9 what this gateway may hold without asking   10 length of a rejoin window, ms
--       11 life of a want, ms   12 µs between two dials (T)   13 this gateway's dials on its own: tat - now, µs
--       14 what to assume of the others' dials where nothing is known, µs
--       15-17 reach of leased, warm and spare, µs   18-20 their longest delay, µs
--       then for each ask: kind (L, W, S), name of its want
--
-- Returns STALE alone for a call that a later one has overtaken (nothing is touched), or
--   OK, recalled, gateways alive, leased, warm, spare (all of them), rejoining (0, 1), tat - now,
--   the others' totals (list), and for each ask two parts (list):
--     OK    µs until it may dial       one place more is in the counts
--     FULL  1 = a want stands for it   nothing was taken
--     RATE  µs until a turn is free    nothing was taken
--
-- What is held is a fact and always taken as it is, more or less than before; only an ask can be
-- refused. A place fits when total + 1 ≤ cap; for leased and warm also when leased + warm + 1 ≤
-- cap - kept, so that recovery finds room. Warm waits while somebody's want stands open.
--
-- A leased ask that finds no place leaves a want, and the gateway with most warm lines that were
-- not called back yet hears of it with its next report. A retry names the same want: no second
-- line is called back for it. A want ends when its ask is served, or by its age.
--
-- When nobody was heard of for the length of a window, the server was away or has forgotten
-- everything: until the window has passed, who holds what is not known. So an ask fits only within
-- what its gateway may hold without asking, and the sum of those is the cap.
--
-- The dial rate is GCRA. `tat` is when the bucket is full again; each turn moves it by T from
-- max(tat, now). An empty bucket of b turns means tat = now + b T, so a turn fits into it at once
-- while tat - now ≤ (b - 1) T. That is spare's reach; leased's is (0.8 b - 1) T and warm's
-- (0.5 b - 1) T: they leave the last fifth and the last half of the burst to those before them.
-- Beyond its reach an ask books its turn: it dials `tat - now - reach` later, when its part of the
-- bucket has room; no turn is booked beyond the longest delay. For n turns that start in a window
-- [x, x + 1 s) of any kinds: behind the first booked of them tat ≥ x + T, before the last booked
-- tat ≥ x + (n - 1) T, and that one starts at tat - (b - 1) T or later: n < r + b.
-- When a window opens nobody knows tat: the bucket begins with what the asker assumes, and until
-- the window has passed each report may raise it to what its gateway dialled on its own.

local counts, expiries, tat_key, wants, recalls, seen, rejoin = unpack(KEYS)
local gateway, turn = ARGV[1], tonumber(ARGV[2])
local own = {L = tonumber(ARGV[3]), W = tonumber(ARGV[4]), S = tonumber(ARGV[5])}
local life_ms, cap, kept, allowed = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local rejoin_ms, want_ms = tonumber(ARGV[10]), tonumber(ARGV[11])
local interval_us, debt_us = tonumber(ARGV[12]), tonumber(ARGV[13])
local assumed_us = tonumber(ARGV[14])
local reach_us = {L = tonumber(ARGV[15]), W = tonumber(ARGV[16]), S = tonumber(ARGV[17])}
local delay_max_us = {L = tonumber(ARGV[18]), W = tonumber(ARGV[19]), S = tonumber(ARGV[20])}
local ASKS_AT = 21

local clock = redis.call('TIME')
local now_us = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local now_ms = math.floor(now_us / 1000)

local function text(number)
  return string.format('%.0f', number)
end

local function parsed(entry)
  local leased, warm, spare, last = string.match(entry, '^(%d+) (%d+) (%d+) (%d+)$')
  return {L = tonumber(leased), W = tonumber(warm), S = tonumber(spare)}, tonumber(last)
end

-- Who is alive, and what they hold together.

for _, dead in ipairs(redis.call('ZRANGEBYSCORE', expiries, '-inf', now_ms)) do
  redis.call('HDEL', counts, dead)
  redis.call('HDEL', recalls, dead)
  redis.call('ZREM', expiries, dead)
end

local sums, others, totals = {L = own.L, W = own.W, S = own.S}, {}, {}
local entries = redis.call('HGETALL', counts)
for at = 1, #entries, 2 do
  local held, last = parsed(entries[at + 1])
  if entries[at] ~= gateway then
    others[entries[at]] = held
    totals[#totals + 1] = held.L + held.W + held.S
    for kind, number in pairs(held) do sums[kind] = sums[kind] + number end
  elseif last >= turn then
    return {'STALE'}
  end
end

local tat = math.max(tonumber(redis.call('GET', tat_key) or 0), now_us)
local tat_before = tat
if redis.call('EXISTS', seen) == 0 then
  redis.call('SET', rejoin, '1', 'PX', rejoin_ms)
  tat = math.max(tat, now_us + assumed_us)
end
redis.call('SET', seen, '1', 'PX', rejoin_ms)
local rejoining = redis.call('EXISTS', rejoin) == 1
if rejoining then
  tat = math.max(tat, now_us + debt_us)
end

redis.call('ZREMRANGEBYSCORE', wants, '-inf', now_ms)

-- Asks.

local function fits(kind)
  if sums.L + sums.W + sums.S + 1 > cap then return false end
  if rejoining then return own.L + own.W + own.S + 1 <= allowed end
  if kind == 'W' and redis.call('ZCARD', wants) > 0 then return false end
  return kind == 'S' or sums.L + sums.W + 1 <= cap - kept
end

local function call_back(want)
  if redis.call('ZSCORE', wants, want) then return 1 end
  local holder, most = nil, 0
  for name, held in pairs(others) do
    local warm = held.W - tonumber(redis.call('HGET', recalls, name) or 0)
    if warm > most then holder, most = name, warm end
  end
  -- Its own too: another template's lines may stand ready while this one's caller waits.
  local mine = own.W - tonumber(redis.call('HGET', recalls, gateway) or 0)
  if mine > most then holder, most = gateway, mine end
  if not holder then return 0 end
  redis.call('ZADD', wants, now_ms + want_ms, want)
  redis.call('HINCRBY', recalls, holder, 1)
  redis.call('PEXPIRE', wants, want_ms)
  redis.call('PEXPIRE', recalls, want_ms)
  return 1
end

local function answer(kind, want)
  if not fits(kind) then
    return 'FULL', kind == 'L' and call_back(want) or 0
  end
  local delay_us = math.max(0, tat - now_us - reach_us[kind])
  if delay_us > delay_max_us[kind] then
    return 'RATE', delay_us - delay_max_us[kind]
  end
  tat = tat + interval_us
  own[kind], sums[kind] = own[kind] + 1, sums[kind] + 1
  if kind == 'L' then redis.call('ZREM', wants, want) end
  return 'OK', delay_us
end

local answers = {}
for at = ASKS_AT, #ARGV, 2 do
  local verdict, number = answer(ARGV[at], ARGV[at + 1])
  answers[#answers + 1] = verdict
  answers[#answers + 1] = number
end

if tat ~= tat_before then
  redis.call('SET', tat_key, text(tat), 'PX', math.ceil((tat - now_us) / 1000) + 1)
end

-- What this gateway holds now.

local recalled = math.min(tonumber(redis.call('HGET', recalls, gateway) or 0), own.W)
redis.call('HDEL', recalls, gateway)

if life_ms == 0 then
  redis.call('HDEL', counts, gateway)
  redis.call('ZREM', expiries, gateway)
else
  redis.call('HSET', counts, gateway, string.format('%.0f %.0f %.0f %.0f', own.L, own.W, own.S, turn))
  redis.call('ZADD', expiries, now_ms + life_ms, gateway)
  redis.call('PEXPIRE', counts, life_ms)
  redis.call('PEXPIRE', expiries, life_ms)
end
return {'OK', recalled, #totals + 1, sums.L, sums.W, sums.S, rejoining and 1 or 0, tat - now_us, totals, answers}
