-- Upkeep: opening, pruning, forgetting; and what the script returns.

local PRUNED_AT_A_TIME = 50

function operations.open()
  local version, oldest, to_read = unpack(batch)
  if not to_read then
    check_keys()
  end
  return cjson.encode({open_layout(LAYOUT, version, oldest, to_read)})
end

-- When the oldest record of a job was made, in milliseconds; nil where it has none.
local function oldest_of(job)
  local run = redis.call('ZRANGE', RUNS .. job, 0, 0)[1]
  local missed = redis.call('ZRANGE', MISSED .. job, 0, 0)[1]
  if run and missed then
    return math.min(made_at(run), made_at(missed))
  end
  return (run or missed) and made_at(run or missed)
end

-- Cut back some jobs to the number and the cutoff. Runs that are still running are cut back by a later call.
local function cut_back_all(jobs, cutoff)
  for _, job in ipairs(jobs) do
    make_kind(RUNS .. job, 'zset')
    make_kind(MISSED .. job, 'zset')
    cut_back_runs(job, cutoff)
    cut_back_missed(job, cutoff)
    local oldest = oldest_of(job)
    if oldest then
      redis.call('ZADD', OLDEST, math.max(oldest, cutoff), job)
    else
      redis.call('ZREM', OLDEST, job)
    end
  end
end

-- Cut back jobs that have records from before the cutoff; returns whether there may be more such jobs.
function operations.prune()
  local jobs = redis.call('ZRANGEBYSCORE', OLDEST, '-inf', '(' .. batch, 'LIMIT', 0, PRUNED_AT_A_TIME)
  cut_back_all(jobs, batch)
  return #jobs == PRUNED_AT_A_TIME and 'true' or 'false'
end

-- Cut back the jobs at a cursor, whatever they have; returns the next cursor.
function operations.prune_all()
  local cutoff, cursor = unpack(batch)
  local found = redis.call('ZSCAN', OLDEST, cursor, 'COUNT', PRUNED_AT_A_TIME)
  local jobs = {}
  for index = 1, #found[2], 2 do
    jobs[#jobs + 1] = found[2][index]
  end
  cut_back_all(jobs, cutoff)
  return '"' .. found[1] .. '"'
end

function operations.forget()
  for _, job in ipairs(batch) do
    make_kind(RUNS .. job, 'zset')
    local ids = redis.call('ZRANGE', RUNS .. job, 0, -1)
    local keys = {RUNS .. job, MISSED .. job}
    for _, id in ipairs(ids) do
      keys[#keys + 1] = RUN .. id
      keys[#keys + 1] = LOG .. id
    end
    delete(keys)
    in_parts(ids, function(...) redis.call('SREM', RUNNING, ...) end)
    redis.call('HDEL', STATES, job)
    redis.call('ZREM', OLDEST, job)
  end
  return '[]'
end

local answer = operations[operation]()
return (type(answer) == 'string' and #damaged > 0) and {answer, unpack(damaged)} or answer
