-- Sums of figures over days. The caller names as many jobs and days as don't keep the server busy for long.

-- Longer numbers are left to Python: their sums would not be exact here.
local MOST_DIGITS = 12

-- Add the figures of a day, which counting.lua explains, to a sum; returns whether they can be read.
local function add(sum, text)
  local runs, failed, missed, longest, sketch = string.match(text, '^(%d+) (%d+) (%d+) (%d+%.?%d*)([ %d:]*)$')
  if not runs or math.max(#runs, #failed, #missed) > MOST_DIGITS then
    return false
  end
  sum.runs, sum.failed, sum.missed = sum.runs + runs, sum.failed + failed, sum.missed + missed
  if tonumber(longest) > tonumber(sum.longest) then
    sum.longest = longest
  end
  local read = 0
  for bucket, number in string.gmatch(sketch, ' (%d+):(%d+)') do
    if #number > MOST_DIGITS then
      return false
    end
    sum.buckets[bucket] = (sum.buckets[bucket] or 0) + number
    read = read + #bucket + #number + 2
  end
  return read == #sketch
end

local function as_text(sum)
  local parts = {string.format('%.0f %.0f %.0f %s', sum.runs, sum.failed, sum.missed, sum.longest)}
  for bucket, number in pairs(sum.buckets) do
    parts[#parts + 1] = string.format('%s:%.0f', bucket, number)
  end
  return table.concat(parts, ' ')
end

-- The sums of the figures of some jobs over some days: those jobs that have figures, each with its sum behind it, which is '' where
-- one of its days can't be read.
function operations.sums()
  local days, jobs = unpack(batch)
  local sums, damaged_jobs, found = {}, {}, {}
  for _, day in ipairs(days) do
    if is_kind(FIGURES .. day, 'hash') then
      local function ask(...)
        local part = {...}
        for place, text in ipairs(redis.call('HMGET', FIGURES .. day, ...)) do
          if text then
            local job = part[place]
            sums[job] = sums[job] or {runs = 0, failed = 0, missed = 0, longest = '0', buckets = {}}
            damaged_jobs[job] = not add(sums[job], text) or damaged_jobs[job]
          end
        end
      end
      in_parts(jobs, ask)
    end
  end
  for job, sum in pairs(sums) do
    found[#found + 1], found[#found + 2] = job, damaged_jobs[job] and '' or as_text(sum)
  end
  return found
end

-- The jobs that have figures of a day and none of the next one of these days, as far as one step goes; all those that have figures of
-- the last. Before them the cursor of the next step. Asked of one day after the other, each job comes up.
function operations.figured_jobs()
  local day, next_day, cursor = unpack(batch)
  if not is_kind(FIGURES .. day, 'hash') then
    return {'0'}
  end
  local next_cursor, texts = unpack(redis.call('HSCAN', FIGURES .. day, cursor, 'COUNT', AT_A_TIME))
  local jobs, found = {}, {next_cursor}
  for place = 1, #texts, 2 do
    jobs[#jobs + 1] = texts[place]
  end
  local has_next = next_day ~= null and is_kind(FIGURES .. next_day, 'hash')
  local function ask(...)
    local part = {...}
    for place, known in ipairs(has_next and redis.call('HMGET', FIGURES .. next_day, ...) or part) do
      if not (has_next and known) then
        found[#found + 1] = part[place]
      end
    end
  end
  in_parts(jobs, ask)
  return found
end
