#!lua
-- claim: make somebody else the owner of one session, and let go what contradicts its caller.
--
-- KEYS  1 meta (hash)   2 log (stream, ids seq-epoch)
-- ARGV  1 epoch of the caller's token   2 the last number that it has applied   3 life of both keys, ms
--       then for each epoch that the caller has seen, by its first number: epoch, first number
--
-- Returns:
--   NOTHING   0                  nothing is stored of the session, or it has ended
--   OK        epoch, seq, cseq   the new owner's number; the last number that counts; the highest control
--
-- A fail-over may have forgotten what the caller has seen: owners, entries, or both. Hence the rules.
--   token_epoch       the new owner's number is above what is stored, what any entry has, and the token's
--   later_epoch       … and a moment: a claim that nobody remembers, its caller neither, had another one
--   drop_stale_tail   beyond what was applied, what the caller's newest owner cannot have told it: all that older
--                     ones wrote, if that owner is forgotten; else what does not fit between two known beginnings
--   epoch_table       of what was applied, what another owner wrote than the caller had it from
--   seq_floor         no number is used again that the caller has applied, or knows to be taken

local meta, log = KEYS[1], KEYS[2]
local token_epoch, last_seq, life_ms = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local STARTS_AT = 4

local stored = redis.call('HMGET', meta, 'epoch', 'seq', 'cseq', 'state')
local stored_epoch, stored_seq = tonumber(stored[1]) or 0, tonumber(stored[2]) or 0
if stored[4] == 'finished' or redis.call('EXISTS', meta, log) == 0 then
  return {'NOTHING', '0'}
end

local starts = {}
for at = STARTS_AT, #ARGV, 2 do
  starts[#starts + 1] = {epoch = tonumber(ARGV[at]), first_seq = tonumber(ARGV[at + 1])}
end

-- Which epoch the caller has, or expects, at a number, nil = older than its table; and which one begins behind it.
local function seen_at(seq)
  for at = #starts, 1, -1 do
    if starts[at].first_seq <= seq then return starts[at].epoch, (starts[at + 1] or {}).epoch end
  end
end

local function is_stale(seq, epoch)
  -- The token's owner is forgotten: an older one may have written since, also under numbers that it announced.
  if stored_epoch < token_epoch then return epoch < token_epoch end
  local from, to = seen_at(seq)
  return epoch < (from or 0) or epoch > (to or math.huge)
end

local function counts(seq, epoch)
  if seq > last_seq then return not is_stale(seq, epoch) end
  local seen = seen_at(seq)
  return seen == nil or seen == epoch
end

local left = sift(log, counts)
local cseq = left.cseq_after(tonumber(stored[3]) or 0)
local seq = left.seq
if left.dropped == 0 then seq = math.max(stored_seq, seq) end
seq = math.max(seq, last_seq, #starts > 0 and starts[#starts].first_seq - 1 or 0)

local now = redis.call('TIME')
local microseconds = tonumber(now[2])
local moment = tonumber(now[1]) * 1000000 + microseconds
local above = math.max(stored_epoch, left.epoch, token_epoch) + 1
-- Also where this server's clock is behind, two claims hardly ever get the same.
local epoch = moment >= above and moment or above + microseconds

redis.call(
  'HSET', meta, 'epoch', text(epoch), 'since', text(seq + 1),
  'seq', text(seq), 'cseq', text(cseq), 'bytes', text(left.bytes)
)
redis.call('PEXPIRE', meta, life_ms)
redis.call('PEXPIRE', log, life_ms)
return {'OK', text(epoch), text(seq), text(cseq)}
