-- Upkeep: opening, pruning, forgetting; and what the script returns.

local PRUNED_AT_A_TIME = 50

function operations.open()
  local version, oldest, to_read = unpack(batch)
  if not to_read then
    check_keys()
  end
  return cjson.encode({open_layout(LAYOUT, version, oldest, to_read)})
end

-- When the oldest record of a job was made, in milliseconds, without those runs that are kept however old they are; PARKED where it
-- has only such, nil where it has none.
local function oldest_of(job)
  local ids = {redis.call('ZRANGE', FAILED_OF .. job, 0, 0)[1], redis.call('ZRANGE', MISSED_OF .. job, 0, 0)[1]}
  local runs = redis.call('ZCARD', RUNS .. job)
  if runs > keep_always then
    ids[#ids + 1] = redis.call('ZRANGE', RUNS .. job, 0, 0)[1]
  end
  local oldest = runs > 0 and PARKED or nil
  for _, id in pairs(ids) do
    oldest = math.min(oldest or PARKED, made_at(id))
  end
  return oldest
end

-- Cut back some jobs to the number and the cutoff, so many records at a call; returns how many of the jobs are done. Runs that are
-- still running are cut back by a later call.
local function cut_back_jobs(jobs, cutoff)
  for place, job in ipairs(jobs) do
    for _, index in ipairs({RUNS, FAILED_OF, MISSED_OF}) do
      make_kind(index .. job, 'zset')
    end
    cut_back_to_number(job)
    cut_back_by_age(job, cutoff)
    cut_back_missed(job, cutoff)
    if may_cut <= 0 and cut > 0 then
      return place - 1
    end
    local oldest = oldest_of(job)
    if oldest then
      redis.call('ZADD', OLDEST, math.max(oldest, cutoff), job)
    else
      redis.call('ZREM', OLDEST, job)
    end
  end
  return #jobs
end

-- Cut back jobs that have records from before the cutoff; returns whether there may be more such jobs.
function operations.prune()
  check_keys()
  local jobs = redis.call('ZRANGEBYSCORE', OLDEST, '-inf', '(' .. batch, 'LIMIT', 0, PRUNED_AT_A_TIME)
  local done = cut_back_jobs(jobs, batch)
  return (#jobs == PRUNED_AT_A_TIME or done < #jobs) and 'true' or 'false'
end

-- Cut back some jobs, whatever they have; returns how many of them are done.
function operations.cut_back()
  check_keys()
  return tostring(cut_back_jobs(unpack(batch)))
end

-- Whether the indexes across jobs are complete, and all jobs that have records.
function operations.jobs()
  local jobs = is_kind(OLDEST, 'zset') and redis.call('ZRANGE', OLDEST, 0, -1) or {}
  table.insert(jobs, 1, is_kind(LAYOUT, 'hash') and redis.call('HGET', LAYOUT, 'indexed') or '')
  return jobs
end

-- Delete the figures of days before one.
function operations.prune_figures()
  local days = redis.call('ZRANGEBYSCORE', DAYS, '-inf', '(' .. batch, 'LIMIT', 0, PRUNED_AT_A_TIME)
  for _, day in ipairs(days) do
    redis.call('UNLINK', FIGURES .. day)
    redis.call('ZREM', DAYS, day)
  end
  return #days == PRUNED_AT_A_TIME and 'true' or 'false'
end

-- Forget some jobs, so many records at a call; returns how many of the jobs are done.
function operations.forget()
  check_keys()
  local done = {}
  for _, job in ipairs(batch) do
    for _, index in ipairs({RUNS .. job, FAILED_OF .. job, MISSED_OF .. job}) do
      make_kind(index, 'zset')
    end
    for _, index in ipairs({RUNS .. job, FAILED_OF .. job}) do
      local ids = oldest_in(index, redis.call('ZCARD', index))
      delete_runs(job, index, ids)
      in_parts(ids, function(...) redis.call('SREM', RUNNING, ...) end)
    end
    delete_missed(MISSED_OF .. job, oldest_in(MISSED_OF .. job, redis.call('ZCARD', MISSED_OF .. job)))
    if may_cut <= 0 and cut > 0 then
      break
    end
    redis.call('HDEL', STATES, job)
    redis.call('HDEL', SUCCESSES, job)
    redis.call('ZREM', OLDEST, job)
    done[#done + 1] = job
  end
  forget_backfills(done)
  for _, day in ipairs(#done > 0 and redis.call('ZRANGE', DAYS, 0, -1) or {}) do
    make_kind(FIGURES .. day, 'hash')
    in_parts(done, function(...) redis.call('HDEL', FIGURES .. day, ...) end)
    if redis.call('EXISTS', FIGURES .. day) == 0 then
      redis.call('ZREM', DAYS, day)
    end
  end
  return tostring(#done)
end

-- Put states of jobs on record; returns how many. The head of a latest run that is on record stays.
function operations.restore_states()
  check_keys()
  for _, about in ipairs(batch) do
    local job, head, success = unpack(about)
    redis.call('HSETNX', STATES, job, head)
    redis.call('HSET', SUCCESSES, job, success)
  end
  return tostring(#batch)
end

-- Put figures of jobs and days on record; returns how many.
function operations.restore_figures()
  check_keys()
  for _, about in ipairs(batch) do
    local job, day, text = unpack(about)
    make_kind(FIGURES .. day, 'hash')
    redis.call('HSET', FIGURES .. day, job, text)
    redis.call('EXPIRE', FIGURES .. day, figures_lifetime)
    redis.call('ZADD', DAYS, day, day)
  end
  return tostring(#batch)
end

-- What a run says of its success, as it is kept.
local function success_in(text, id)
  local known = decoded(text)
  local started, stop = known and known[1] and known[1][5], known and known[2] and known[2][5]
  if type(started) == 'number' and type(stop) == 'number' then
    return string.format('%s %.6f %.6f', id, stop, math.max(stop - started, 0))
  end
end

-- Put the runs of a job that an earlier version has written into the index of those that did not complete, and find its last success.
local function index_runs(job)
  local failures, success = 0, nil
  local ids = redis.call('ZREVRANGE', RUNS .. job, 0, MOST_IDS - 1)
  local function look(...)
    local part = {...}
    for place, text in ipairs(records_of(part)) do
      local id, status = part[place], text and status_in(text, part[place])
      if status and status ~= 'completed' and status ~= 'running' then
        redis.call('ZADD', FAILED, 0, id .. ' ' .. job)
      end
      if status and not runs_expire then
        redis.call('PERSIST', RUN .. id)
        redis.call('PERSIST', LOG .. id)
      end
      if not success then
        success = status == 'completed' and success_in(text, id)
        failures = failures + (IS_FAILURE[status] and 1 or 0)
      end
    end
  end
  in_parts(ids, look)
  if success or failures > 0 then
    redis.call('HSETNX', SUCCESSES, job, failures .. (success and ' ' .. success or ''))
  end
end

local function index_missed(job)
  for _, member in ipairs(redis.call('ZRANGE', MISSED_OF .. job, 0, MOST_IDS - 1)) do
    local id = string.match(member, '^[^ ]*')
    local known = decoded(string.sub(member, #id + 2))
    local more = known and type(known[2]) == 'table' and known[2] or {}
    if is_number(more[1]) and is_number(more[2]) then
      redis.call('ZREMRANGEBYLEX', MISSED, between(id))
      redis.call('ZADD', MISSED, 0, string.format('%s %d %d %s', id, more[1], more[2], job))
    end
  end
end

-- Do so for some jobs; returns how many of them are done. Without any, note that this is done for all.
function operations.index()
  check_keys()
  for _, job in ipairs(batch) do
    make_kind(RUNS .. job, 'zset')
    make_kind(MISSED_OF .. job, 'zset')
    index_runs(job)
    index_missed(job)
  end
  if #batch == 0 then
    redis.call('HSET', LAYOUT, 'indexed', 1)
  end
  return tostring(#batch)
end
