-- Sums of figures over days. The caller names as many jobs and days as don't keep the server busy for long.

-- Longer numbers are left to Python: their sums would not be exact here.
local MOST_DIGITS = 12

-- Add the figures of a day, which counting.lua explains, to a sum; returns whether they can be read. What is in the sketches Python
-- adds up, and reads.
local function add(sum, text)
  local runs, failed, missed, longest, sketch = string.match(text, '^(%d+) (%d+) (%d+) (%d+%.?%d*)(.*)$')
  if not runs or math.max(#runs, #failed, #missed) > MOST_DIGITS then
    return false
  end
  sum.runs, sum.failed, sum.missed = sum.runs + runs, sum.failed + failed, sum.missed + missed
  if tonumber(longest) > tonumber(sum.longest) then
    sum.longest = longest
  end
  sum.sketches[#sum.sketches + 1] = sketch
  return true
end

local function as_text(sum)
  local numbers = string.format('%.0f %.0f %.0f %s', sum.runs, sum.failed, sum.missed, sum.longest)
  return numbers .. ' ' .. table.concat(sum.sketches, ' ')
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
            sums[job] = sums[job] or {runs = 0, failed = 0, missed = 0, longest = '0', sketches = {}}
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

-- The jobs that have figures of a day.
function operations.figured_jobs()
  return is_kind(FIGURES .. batch, 'hash') and redis.call('HKEYS', FIGURES .. batch) or {}
end
