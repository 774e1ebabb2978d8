#!lua
-- living: which of these reservations still live.
--
-- KEYS  the reservations
--
-- Returns 1 or 0 for each, in order.

local living = {}
for at, key in ipairs(KEYS) do
  living[at] = redis.call('EXISTS', key)
end
return living
