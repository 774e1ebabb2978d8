-- What append and claim share: reading the entries of a log, and letting some of them go.

local function text(number)
  return string.format('%.0f', number)
end

local function numbers_of(id)
  local seq, epoch = string.match(id, '^(%d+)%-(%d+)$')
  return tonumber(seq), tonumber(epoch)
end

local function field_of(fields, name)
  for at = 1, #fields, 2 do
    if fields[at] == name then return fields[at + 1] end
  end
  return nil
end

local function cseq_in(fields)
  return tonumber(field_of(fields, 'c')) or 0
end

-- Keep the entries of which `counts(seq, epoch, cseq)` says so, asked in order, and sum up what is left.
local function sift(log, counts)
  local left, kept, lowest_dropped = {seq = 0, epoch = 0, cseq = 0, bytes = 0, dropped = 0}, {}, nil
  for _, entry in ipairs(redis.call('XRANGE', log, '-', '+')) do
    local seq, epoch = numbers_of(entry[1])
    local cseq = cseq_in(entry[2])
    -- Also of one that goes: no owner may have its number again.
    left.epoch = math.max(left.epoch, epoch)
    if counts(seq, epoch, cseq) then
      kept[#kept + 1] = entry
      left.seq, left.cseq = seq, math.max(left.cseq, cseq)
      left.bytes = left.bytes + #field_of(entry[2], 'b')
    else
      left.dropped = left.dropped + 1
      if cseq > 0 then lowest_dropped = math.min(lowest_dropped or cseq, cseq) end
    end
  end
  if left.dropped > 0 then
    -- A stream takes no id below one that it has had: it is written once more, without those.
    redis.call('UNLINK', log)
    for _, entry in ipairs(kept) do
      redis.call('XADD', log, entry[1], unpack(entry[2]))
    end
  end
  -- A control counts as taken as long as its entry is there. Where none is left, older ones were trimmed.
  function left.cseq_after(stored)
    if not lowest_dropped then return math.max(stored, left.cseq) end
    return left.cseq > 0 and left.cseq or lowest_dropped - 1
  end
  return left
end
