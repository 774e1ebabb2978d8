#!lua
-- append: add a batch of entries to one session's log, if their owner may.
--
-- KEYS  1 meta (hash)   2 log (stream, ids seq-epoch)
-- ARGV  1 epoch   2 number of the first entry   3 life of both keys, ms
--       4 entries kept at most   5 bytes kept at most   6 anew: 1 = the log may begin, or go on, with a gap
--       7 the first number that this owner has written; 1 = it is the session's first owner
--       then for each entry: cseq, blob
--
-- Returns, in this order of judgement; nothing but OK writes entries, and OK writes all of them:
--   FENCED    epoch                 a newer owner wrote: stop
--   MISMATCH  seq, epoch of meta    the log does not end where this batch begins, or half of it is gone
--   DUP       seq                   a control of this batch is in the log already, at seq (0 = trimmed)
--   OK        seq, where it ended   the log now ends at seq
--
-- A lower stored epoch means that a fail-over forgot us: ours is installed again, whatever follows. What
-- an older owner has written meanwhile under numbers of ours goes, also whatever follows: a zombie's.
-- A claim may have left numbers without entries, and a trimmed log begins anywhere: what is in the log
-- and what meta says of it belong together as long as both say that there is something, or nothing.
-- `since` is the first number written under the stored epoch. One epoch has one owner, so a number
-- between `since` and the end of the log was written by this very owner: a retry, not stored twice.
-- With no entries it keeps the record alive. Oldest entries make room for new ones.
-- `anew` is how an owner stores again what a server has lost: after a flush, or a fail-over without WAIT.

local meta, log = KEYS[1], KEYS[2]
local epoch, first, life_ms = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local entries_max, bytes_max = tonumber(ARGV[4]), tonumber(ARGV[5])
local anew = ARGV[6] == '1'
local own_from = tonumber(ARGV[7])
local ENTRIES_AT = 8
local count = (#ARGV - ENTRIES_AT + 1) / 2

local function cseq_of(entry)
  return tonumber(ARGV[ENTRIES_AT + 2 * (entry - 1)])
end

local function blob_of(entry)
  return ARGV[ENTRIES_AT + 2 * (entry - 1) + 1]
end

local function answer(...)
  redis.call('PEXPIRE', meta, life_ms)
  redis.call('PEXPIRE', log, life_ms)
  return {...}
end

local function logged_at(cseq)
  for _, entry in ipairs(redis.call('XREVRANGE', log, '+', '-', 'COUNT', entries_max)) do
    if cseq_in(entry[2]) == cseq then return string.match(entry[1], '^%d+') end
  end
  return '0'
end

local function trimmed(bytes)
  while redis.call('XLEN', log) > entries_max or bytes > bytes_max do
    -- The first entry says whose session it is: it stays.
    local first_two = redis.call('XRANGE', log, '-', '+', 'COUNT', 2)
    local oldest = first_two[1] and string.match(first_two[1][1], '^1%-') and first_two[2] or first_two[1]
    if not oldest then return 0 end
    redis.call('XDEL', log, oldest[1])
    bytes = bytes - #field_of(oldest[2], 'b')
  end
  return bytes
end

local stored = redis.call('HMGET', meta, 'epoch', 'since', 'seq', 'cseq', 'bytes')
local stored_epoch, since = tonumber(stored[1]) or 0, tonumber(stored[2]) or 1
local seq, cseq, bytes = tonumber(stored[3]) or 0, tonumber(stored[4]) or 0, tonumber(stored[5]) or 0
local log_is_there = redis.call('EXISTS', log) == 1
local half_is_gone = log_is_there ~= (bytes > 0)

if stored_epoch > epoch then
  return {'FENCED', text(stored_epoch)}
end

-- A control that this owner stores was given to it after its claim: where it stands with an older owner, it
-- came there later, and so did what is behind it.
local function first_cseq()
  for entry = 1, count do
    if cseq_of(entry) > 0 then return cseq_of(entry) end
  end
  return math.huge
end

if own_from > 1 and (stored_epoch < epoch or anew) and not half_is_gone then
  local given_from, is_foreign = first_cseq(), false
  local left = sift(log, function(number, written, given)
    is_foreign = written < epoch and (is_foreign or number >= own_from or given >= given_from)
    return not is_foreign
  end)
  seq, cseq, bytes = left.seq, left.cseq_after(cseq), left.bytes
  redis.call('HSET', meta, 'seq', text(seq), 'cseq', text(cseq), 'bytes', text(bytes))
end

if stored_epoch < epoch then
  since = seq + 1
  redis.call('HSET', meta, 'epoch', text(epoch), 'since', text(since))
end

if count == 0 then
  return answer('OK', text(seq), text(seq))
end

local ended_at = seq
if anew and half_is_gone then
  ended_at = 0
  redis.call('UNLINK', log)
  -- The controls go with their entries: stored anew, these are no duplicates.
  seq, cseq, bytes, half_is_gone = 0, 0, 0, false
end
if anew and seq < first - 1 then
  seq, since = first - 1, first
  redis.call('HSET', meta, 'epoch', text(epoch), 'since', text(since))
end

-- How many of the batch carry a number that the log has reached.
local reached = seq - first + 1
if half_is_gone or reached < 0 or (reached > 0 and first < since) then
  return answer('MISMATCH', half_is_gone and '0' or text(seq), text(stored_epoch))
end
if reached >= count then
  return answer('OK', text(seq), text(ended_at))
end

for entry = reached + 1, count do
  if cseq_of(entry) > 0 and cseq_of(entry) <= cseq then
    return answer('DUP', logged_at(cseq_of(entry)))
  end
end

for entry = reached + 1, count do
  local fields = {'b', blob_of(entry)}
  if cseq_of(entry) > 0 then
    -- In the clear, so that DUP can find it; the sealed copy is the one that readers trust.
    fields[3], fields[4] = 'c', text(cseq_of(entry))
    cseq = math.max(cseq, cseq_of(entry))
  end
  redis.call('XADD', log, text(first + entry - 1) .. '-' .. text(epoch), unpack(fields))
  bytes = bytes + #blob_of(entry)
end

seq = first + count - 1
redis.call('HSET', meta, 'seq', text(seq), 'cseq', text(cseq), 'bytes', text(trimmed(bytes)))
return answer('OK', text(seq), text(ended_at))
