-- Cutting back: what is too much of a job, or too old, so many records at a call.

-- How many records this call may still look at, and how many it has deleted or set aside.
local may_cut, cut = 500, 0

-- How many more than the limit there may be: cut back in parts, they cost less.
local function spare(limit)
  return math.floor(limit / 20)
end

local function how_many_older(key, cutoff)
  return cutoff and redis.call('ZLEXCOUNT', key, '-', '(' .. id_before(cutoff)) or 0
end

-- The oldest so many of an index, as far as this call may go.
local function oldest_in(key, number)
  number = math.min(number, may_cut)
  may_cut = may_cut - math.max(number, 0)
  return number > 0 and redis.call('ZRANGE', key, 0, number - 1) or {}
end

local function with_job(ids, job)
  local members = {}
  for place, id in ipairs(ids) do
    members[place] = id .. ' ' .. job
  end
  return members
end

-- Delete runs of a job: from this index of its, and whatever else there is of them.
local function delete_runs(job, index, ids)
  local keys = {}
  for place, id in ipairs(ids) do
    keys[2 * place - 1], keys[2 * place] = RUN .. id, LOG .. id
  end
  cut = cut + #ids
  in_parts(ids, function(...) redis.call('ZREM', index, ...) end)
  in_parts(with_job(ids, job), function(...)
    redis.call('ZREM', FAILED, ...)
    redis.call('ZREM', AGAIN, ...)
  end)
  delete(keys)
end

-- These runs without those that are running; those that did not complete apart where they are wanted.
local function ended_of(job, ids, wants_failed)
  local is_running, completed, failed = which_are_running(ids), {}, {}
  local is_failed = {}
  if wants_failed then
    make_kind(FAILED, 'zset')
    in_parts(with_job(ids, job), function(...)
      for _, score in ipairs(redis.call('ZMSCORE', FAILED, ...)) do
        is_failed[#is_failed + 1] = score and true
      end
    end)
  end
  for place, id in ipairs(ids) do
    if not is_running[id] then
      local list = is_failed[place] and failed or completed
      list[#list + 1] = id
    end
  end
  return completed, failed
end

local function cut_back_to_number(job)
  local key, most = RUNS .. job, math.max(keep, keep_always)
  local count = redis.call('ZCARD', key)
  if count <= most + spare(most) then
    return
  end
  local completed, failed = ended_of(job, oldest_in(key, count - most), keep_failed > 0)
  delete_runs(job, key, completed)
  if #failed > 0 then
    local members = {}
    for place, id in ipairs(failed) do
      members[2 * place - 1], members[2 * place] = 0, id
    end
    cut = cut + #failed
    make_kind(FAILED_OF .. job, 'zset')
    in_parts(members, function(...) redis.call('ZADD', FAILED_OF .. job, ...) end)
    in_parts(failed, function(...) redis.call('ZREM', key, ...) end)
    if runs_expire then
      redis.call('EXPIRE', FAILED_OF .. job, lifetime)
    end
    local excess = redis.call('ZCARD', FAILED_OF .. job) - keep_failed
    if excess > spare(keep_failed) then
      delete_runs(job, FAILED_OF .. job, oldest_in(FAILED_OF .. job, excess))
    end
  end
end

-- Delete the runs from before the cutoff (milliseconds), but for the newest so many of the job.
local function cut_back_by_age(job, cutoff)
  local key = RUNS .. job
  local old = math.min(how_many_older(key, cutoff), redis.call('ZCARD', key) - keep_always)
  delete_runs(job, key, (ended_of(job, oldest_in(key, old))))
  local set_aside = FAILED_OF .. job
  local excess = math.max(redis.call('ZCARD', set_aside) - keep_failed, how_many_older(set_aside, cutoff))
  delete_runs(job, set_aside, oldest_in(set_aside, excess))
end

local function delete_missed(key, members)
  cut = cut + #members
  for _, member in ipairs(members) do
    redis.call('ZREMRANGEBYLEX', MISSED, between(string.match(member, '^[^ ]*')))
  end
  in_parts(members, function(...) redis.call('ZREM', key, ...) end)
end

local function cut_back_missed(job, cutoff)
  local key, most = MISSED_OF .. job, math.max(keep, keep_failed)
  local excess = redis.call('ZCARD', key) - most
  excess = math.max(excess > spare(most) and excess or 0, how_many_older(key, cutoff))
  delete_missed(key, oldest_in(key, excess))
end
