-- Backfills: each is kept as the text that it is; of that only the job, the status and the revision are looked at here.

-- Keep a new one, unless one of its job is on record as running; returns the id of that one, and that one. One that Python could not
-- read is deleted.
function operations.begin_backfill()
  local id, job, text, kept, unreadable = unpack(batch)
  make_kind(BACKFILLS, 'hash')
  redis.call('HDEL', BACKFILLS, unreadable)
  local ids, is_running = {id}, {}
  local all = redis.call('HGETALL', BACKFILLS)
  for place = 1, #all, 2 do
    local other = decoded(all[place + 1]) or {}
    if other.status == 'running' and other.job == job then
      return {all[place], all[place + 1]}
    end
    ids[#ids + 1], is_running[all[place]] = all[place], other.status == 'running'
  end
  redis.call('HSET', BACKFILLS, id, text)
  table.sort(ids, function(one, other) return one > other end)
  for place = kept + 1, #ids do
    if not is_running[ids[place]] then
      redis.call('HDEL', BACKFILLS, ids[place])
    end
  end
  return {}
end

-- Put one in the place of that whose revision is one less; returns its id where that was done.
function operations.change_backfill()
  local id, revision, text = unpack(batch)
  local known = is_kind(BACKFILLS, 'hash') and decoded(redis.call('HGET', BACKFILLS, id) or '')
  if not known or known.revision ~= revision - 1 then
    return {}
  end
  redis.call('HSET', BACKFILLS, id, text)
  return {id}
end

-- Delete those of some jobs.
local function forget_backfills(jobs)
  local gone = {}
  for _, job in ipairs(jobs) do
    gone[job] = true
  end
  local all = is_kind(BACKFILLS, 'hash') and redis.call('HGETALL', BACKFILLS) or {}
  for place = 1, #all, 2 do
    if gone[(decoded(all[place + 1]) or {}).job] then
      redis.call('HDEL', BACKFILLS, all[place])
    end
  end
end

-- One, or all where none is named.
function operations.backfills()
  if not is_kind(BACKFILLS, 'hash') then
    return {}
  end
  return batch == null and redis.call('HVALS', BACKFILLS) or redis.call('HMGET', BACKFILLS, batch)
end
