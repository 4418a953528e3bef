-- Counting: figures of jobs and days, and what the last success of a job was. Each run once: when it is first on record as ended.
--
-- Figures are a text: "<runs> <failed> <missed> <longest> <bucket>:<number> …", without the last where no run completed.

local NO_FIGURES = '0 0 0 0'
local A_DAY = 86400
local IS_FAILURE = {failed = true, timed_out = true, interrupted = true}

-- The figures that a text holds, with more of each; took and bucket of a run that completed.
local function plus(text, runs, failed, missed, took, bucket)
  local had_runs, had_failed, had_missed, longest, sketch = string.match(text, '^(%d+) (%d+) (%d+) ([%d.]+)([ %d:]*)$')
  if not had_runs then
    note('figures of a job')
    return plus(NO_FIGURES, runs, failed, missed, took, bucket)
  end
  if bucket then
    if tonumber(took) > (tonumber(longest) or 0) then
      longest = took
    end
    local own = ' ' .. bucket .. ':'
    local from, to, number = string.find(sketch, own .. '(%d+)')
    if from then
      sketch = string.sub(sketch, 1, from - 1) .. own .. number + 1 .. string.sub(sketch, to + 1)
    else
      sketch = sketch .. own .. '1'
    end
  end
  failed = failed == 0 and had_failed or had_failed + failed
  missed = missed == 0 and had_missed or math.max(had_missed + missed, 0)
  return had_runs + runs .. ' ' .. failed .. ' ' .. missed .. ' ' .. longest .. sketch
end

-- What a hash holds of the jobs of some records, by job.
local function texts_of(key, records, otherwise)
  local jobs, texts = {}, {}
  for _, record in ipairs(records) do
    if not texts[record.job] then
      texts[record.job] = otherwise
      jobs[#jobs + 1] = record.job
    end
  end
  local function ask(...)
    local part = {...}
    for place, text in ipairs(redis.call('HMGET', key, ...)) do
      texts[part[place]] = text or otherwise
    end
  end
  in_parts(jobs, ask)
  return texts
end

local function write_texts(key, texts)
  local flat = {}
  for job, text in pairs(texts) do
    flat[#flat + 1], flat[#flat + 2] = job, text
  end
  local added = 0
  in_parts(flat, function(...) added = added + redis.call('HSET', key, ...) end)
  return added
end

-- What is to be counted, by day: the runs that end, and by job how many more ticks were missed, or below zero, are not any more.
local function by_day(ended, missed_on)
  local found = {}
  local function add(day, counted)
    found[day] = found[day] or {}
    found[day][#found[day] + 1] = counted
  end
  for _, record in ipairs(ended) do
    add(record.day, record)
  end
  for day, jobs in pairs(missed_on) do
    for job, missed in pairs(jobs) do
      if missed ~= 0 then
        add(day, {job = job, missed = missed})
      end
    end
  end
  return found
end

local function count(found)
  for day, records in pairs(found) do
    local key = FIGURES .. day
    make_kind(key, 'hash')
    local texts = texts_of(key, records, NO_FIGURES)
    for _, record in ipairs(records) do
      local text = texts[record.job]
      if record.missed then
        texts[record.job] = plus(text, 0, 0, record.missed)
      else
        texts[record.job] = plus(text, 1, IS_FAILURE[record.status] and 1 or 0, 0, record.took, record.bucket)
      end
    end
    if write_texts(key, texts) > 0 then
      make_kind(DAYS, 'zset')
      redis.call('EXPIRE', key, figures_lifetime)
      redis.call('ZADD', DAYS, day, day)
    end
  end
end

local function is_number(value)
  return type(value) == 'number' and math.abs(value) < 1e15
end

-- Count the missed ticks of a record on each of their days, as `figures.of_missed` in Python does it.
local function spread(missed_on, job, first_tick, last_tick, number, sign)
  if not (is_number(first_tick) and is_number(last_tick) and is_number(number)) then
    return
  end
  local last, span, counted = math.floor(last_tick / A_DAY), last_tick - first_tick, 0
  for day = math.max(math.floor(first_tick / A_DAY), last - MOST_DAYS), last do
    local stop = math.min((day + 1) * A_DAY - 1, last_tick)
    local upto = day == last and number or math.floor(number * (stop - first_tick) / span)
    if upto > counted then
      missed_on[day] = missed_on[day] or {}
      missed_on[day][job] = (missed_on[day][job] or 0) + sign * (upto - counted)
    end
    counted = math.max(counted, upto)
  end
end

-- Keep for each job its last success, and how many runs have failed since, of runs that end now.
local function write_successes(ended)
  if #ended > 0 then
    make_kind(SUCCESSES, 'hash')
  end
  local texts = texts_of(SUCCESSES, ended, '0')
  for _, record in ipairs(ended) do
    local failures, _, stop = string.match(texts[record.job], '^(%d+) ?(%S*) ?(%S*)')
    if not failures then
      note('the last success of a job')
      texts[record.job], failures = '0', 0
    end
    local known, now = tonumber(stop) or 0, tonumber(record.stop)
    -- One that lies in the future is damaged.
    if known <= now or known > now + A_DAY then
      if record.status == 'completed' then
        texts[record.job] = '0 ' .. record.id .. ' ' .. record.stop .. ' ' .. record.took
      elseif IS_FAILURE[record.status] then
        texts[record.job] = string.gsub(texts[record.job], '^%d*', string.format('%d', failures + 1))
      end
    end
  end
  write_texts(SUCCESSES, texts)
end
