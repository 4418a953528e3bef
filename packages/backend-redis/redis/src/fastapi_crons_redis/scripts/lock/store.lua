-- The store around the rule: what is on record in Redis, and who is alive.
--
-- KEYS, all hashes in one slot:
--   jobs        job -> record, see rule.lua
--   registrars  job -> owners of the instances that registered the definition in force
--   leases      run id -> {job, owner}
--   holders     owner -> how many leases it has
--   instances   owner -> what it says of itself
--   beats       owner -> when its last heartbeat was
--   cancels     run id -> who wants it cancelled
--   pauses      job -> its pause, which its record has, too
--   registered  job -> when a living instance was last known to have registered it
--   layout      the version that wrote this, and the oldest that may use it
-- ARGV: operation, owner, term of a lease, time after which a silent instance is dead, what the caller's host knows of
-- other owners (owner -> whether its process is alive), and the operation's own batch; the last two are JSON.
local operation, timeout = ARGV[1], tonumber(ARGV[4])
local evidence, batch = cjson.decode(ARGV[5]), cjson.decode(ARGV[6])
owner, term = ARGV[2], tonumber(ARGV[3])

local time = redis.call('TIME')
now = tonumber(time[1]) + tonumber(time[2]) / 1000000
second = math.floor(now)

local function pairs_of(key)
  local found, flat = {}, redis.call('HGETALL', key)
  for index = 1, #flat, 2 do
    found[flat[index]] = flat[index + 1]
  end
  return found
end

-- Records and leases: read when first wanted, written at the end.

local records, changed_jobs = {}, {}
local new_leases, old_leases, held_by = {}, {}, {}

local function load_records(names)
  local missing = {}
  for _, name in ipairs(names) do
    if records[name] == nil then
      records[name] = false
      missing[#missing + 1] = name
    end
  end
  in_parts(missing, function(...)
    local part = {...}
    for index, text in ipairs(redis.call('HMGET', JOBS, ...)) do
      records[part[index]] = text and checked_record(part[index], text)
    end
  end)
end

function load_record(job)
  if records[job] == nil then
    load_records({job})
  end
  return records[job]
end

function add_record(job, record)
  records[job], changed_jobs[job] = record, true
end

function changed(job)
  changed_jobs[job] = true
end

function lease_of(record, run_id)
  for index, lease in ipairs(record[HELD]) do
    if lease[L_RUN_ID] == run_id then
      return lease, index
    end
  end
end

local function count_lease(lease, by)
  held_by[lease[L_INSTANCE]] = (held_by[lease[L_INSTANCE]] or 0) + by
  changed_jobs[lease[L_JOB]] = true
end

function add_lease(record, lease)
  table.insert(record[HELD], lease)
  new_leases[#new_leases + 1] = lease[L_RUN_ID]
  new_leases[#new_leases + 1] = cjson.encode({lease[L_JOB], lease[L_INSTANCE]})
  old_leases[lease[L_RUN_ID]] = nil
  count_lease(lease, 1)
end

function remove_lease(record, index)
  local lease = table.remove(record[HELD], index)
  old_leases[lease[L_RUN_ID]] = true
  count_lease(lease, -1)
end

function set_pause(record, job, value)
  record[PAUSE], changed_jobs[job] = value, true
  if value then
    redis.call('HSET', PAUSES, job, cjson.encode(value))
  else
    redis.call('HDEL', PAUSES, job)
  end
end

function set_cancel(run_id, actor)
  redis.call('HSET', CANCELS, run_id, actor ~= null and actor or '')
end

local function actor_of(text)
  return text and text ~= '' and text or null
end

local function registrars_in(text)
  local found = {}
  for _, registrar in pairs(text and decoded(text) or {}) do
    if is_text(registrar) then
      found[#found + 1] = registrar
    end
  end
  return found
end

function registrars_of(job)
  return registrars_in(redis.call('HGET', REGISTRARS, job))
end

function set_registrars(job, registrars)
  redis.call('HSET', REGISTRARS, job, cjson.encode(registrars))
end

local function write_changes()
  local flat = {}
  for job in pairs(changed_jobs) do
    flat[#flat + 1] = job
    flat[#flat + 1] = cjson.encode(records[job])
  end
  in_parts(flat, function(...) redis.call('HSET', JOBS, ...) end)
  in_parts(new_leases, function(...) redis.call('HSET', LEASES, ...) end)
  local gone = {}
  for run_id in pairs(old_leases) do
    gone[#gone + 1] = run_id
  end
  in_parts(gone, function(...) redis.call('HDEL', LEASES, ...) end)
  if #gone > 0 and redis.call('EXISTS', CANCELS) == 1 then
    in_parts(gone, function(...) redis.call('HDEL', CANCELS, ...) end)
  end
  for holder, by in pairs(held_by) do
    if by ~= 0 then
      local count = redis.pcall('HINCRBY', HOLDERS, holder, by)
      if type(count) == 'table' then -- not a number: the next heartbeat counts them
        note('leases of ' .. holder)
        redis.call('HSET', HOLDERS, holder, 1)
      elseif count <= 0 then
        redis.call('HDEL', HOLDERS, holder)
      end
    end
  end
end

local function each(decide)
  local names, answers = {}, {}
  for index, request in ipairs(batch) do
    names[index] = request[1]
  end
  load_records(names)
  for index, request in ipairs(batch) do
    answers[index] = decide(request)
  end
  write_changes()
  return answers
end

local function lease_on_record(job, run_id)
  local record = load_record(job)
  return record and lease_of(record, run_id)
end

-- Instances.

local beats = {}

local function write_beat(holder)
  redis.call('HSET', BEATS, holder, string.format('%.3f', now))
  beats[holder] = now
end

function alive(holder, expires)
  if beats[holder] == nil then
    local left = redis.call('HGET', BEATS, holder)
    beats[holder] = left and number_or(left, 0, now + MAX_HANDLED_AHEAD, false)
    if left and not beats[holder] then
      -- One that can't be right counts as one of this moment: an instance that is alive sends another.
      note('heartbeat of ' .. holder)
      beats[holder] = now
      if operation == 'beat' then
        write_beat(holder)
      end
    end
  end
  if holder == owner then
    return true
  end
  if not beats[holder] then
    return false
  end
  if evidence[holder] ~= nil then
    return evidence[holder]
  end
  return now < expires and now - beats[holder] < timeout
end

-- The instances on record: what each says of itself, its last heartbeat, whether it is alive.
local function known_instances()
  local found = {}
  for other, about in pairs(pairs_of(INSTANCES)) do
    local is_alive, known = alive(other, math.huge), decoded(about)
    if known and #known > 3 then
      found[#found + 1] = {known, beats[other] or 0, is_alive}
    else
      note('instance ' .. other)
      if operation == 'beat' and not is_alive then
        redis.call('HDEL', INSTANCES, other)
      end
    end
  end
  return found
end

-- Forget dead instances without leases. Returns whether a dead one may have some, and how many each instance has.
local function forget_the_dead()
  local suspects, holders = false, pairs_of(HOLDERS)
  for holder in pairs(holders) do
    suspects = suspects or not alive(holder, math.huge)
  end
  for other in pairs(pairs_of(BEATS)) do
    if not holders[other] and not alive(other, math.huge) then
      redis.call('HDEL', INSTANCES, other)
      redis.call('HDEL', BEATS, other)
    end
  end
  return suspects, holders
end

-- The leases whose holders are dead. By the way, what points to leases that are gone is deleted.
local function leases_of_the_dead()
  local suspects, holders = forget_the_dead()
  -- A lease can run out while its holder is alive, if the holder never learned of its grant. That is rare.
  local swept = number_or(redis.call('HGET', LAYOUT, 'swept'), 0, now, 0)
  if not suspects and now - swept < term / 2 then
    return {}
  end
  redis.call('HSET', LAYOUT, 'swept', now)
  local dead, cancels = {}, pairs_of(CANCELS)
  for run_id, text in pairs(pairs_of(LEASES)) do
    local job, holder = checked_index(run_id, text)
    local lease = job and holder ~= owner and lease_on_record(job, run_id)
    if lease and not alive(holder, lease[L_EXPIRES]) then
      truncate(lease, L_TIMEZONE)
      lease[L_CANCELLED], lease[L_CANCELLED_BY] = cancels[run_id] ~= nil, actor_of(cancels[run_id])
      dead[#dead + 1] = lease
    end
    if lease or (holder and alive(holder, math.huge)) then
      holders[holder] = nil
    else -- its record is gone, or damaged
      redis.call('HDEL', LEASES, run_id)
    end
  end
  for holder in pairs(holders) do -- those who have no lease after all
    if not alive(holder, math.huge) then
      redis.call('HDEL', HOLDERS, holder)
    end
  end
  return dead
end

local function own_cancels()
  local found = {}
  for run_id, actor in pairs(pairs_of(CANCELS)) do
    local text = redis.call('HGET', LEASES, run_id)
    if text then
      local job, holder = checked_index(run_id, text)
      if job and holder == owner then
        found[#found + 1] = {run_id, actor_of(actor)}
      end
    end
  end
  return found
end

local function own_leases()
  local found = {}
  for run_id, text in pairs(pairs_of(LEASES)) do
    local job, holder = checked_index(run_id, text)
    local lease = job and holder == owner and lease_on_record(job, run_id)
    if lease then
      found[#found + 1] = lease
    end
  end
  return found
end
