-- The operations of fastapi_crons.locking.LockBackend, each with its batch, and what the script returns.

local operations = {}
-- What an instance says in place of a digest of its jobs: it is to claim nothing more; it claims nothing more.
local DRAIN, DRAINING = 'drain', 'draining'

local function check_keys()
  for _, key in ipairs(KEYS) do
    make_kind(key, 'hash')
  end
end

function operations.open()
  local version, oldest, to_read = unpack(batch)
  if not to_read then
    check_keys()
  end
  local found, needs = open_layout(LAYOUT, version, oldest, to_read)
  return {found, needs, known_instances()}
end

function operations.register()
  local flat = {}
  for _, definition in ipairs(batch) do
    flat[#flat + 1] = definition[1]
    flat[#flat + 1] = second
  end
  in_parts(flat, function(...) redis.call('HSET', REGISTERED, ...) end)
  write_beat(owner)
  return each(register)
end

function operations.claim()
  write_beat(owner)
  return each(claim)
end

function operations.pause() return each(pause) end
function operations.resume() return each(resume) end
function operations.release() return each(release) end
function operations.renew() return each(renew) end

-- Put jobs on record as another store has them, as fastapi_crons.locking.restoring.
function operations.restore()
  return each(function(known)
    local job, record, registrars, cancels = unpack(known)
    local former, leases, value = load_record(job), record[HELD], record[PAUSE]
    for index = former and #former[HELD] or 0, 1, -1 do
      remove_lease(former, index)
    end
    record[TOKEN] = math.max(record[TOKEN], former and former[TOKEN] or 0)
    record[HELD] = {}
    add_record(job, record)
    set_registrars(job, registrars)
    redis.call('HSET', REGISTERED, job, second)
    set_pause(record, job, value)
    for _, lease in ipairs(leases) do
      add_lease(record, lease)
      redis.call('HDEL', CANCELS, lease[L_RUN_ID])
    end
    for _, about in ipairs(cancels) do
      set_cancel(unpack(about))
    end
    return true
  end)
end

function operations.cancel()
  local run_ids, actor = unpack(batch)
  local found = {}
  for _, run_id in ipairs(run_ids) do
    local text = redis.call('HGET', LEASES, run_id)
    local job = text and checked_index(run_id, text)
    local record = job and load_record(job)
    if record and cancel(record, run_id, actor) then
      found[#found + 1] = run_id
    end
  end
  return found
end

function operations.last_handled()
  load_records(batch)
  local found = {}
  for index, job in ipairs(batch) do
    -- One that would be reset says nothing of what was handled.
    local record = records[job]
    found[index] = record and is_credible(record[LAST_HANDLED]) and record[LAST_HANDLED] or null
  end
  return found
end

-- {job: record}, the ids of the runs that are to be cancelled, and {owners, jobs} of all jobs that the same owners registered.
function operations.known()
  local found, jobs_by, registrars = {}, {}, {}
  local function add(job, record, registrars_text)
    -- Fields of a later version may hold what JSON can't.
    local encoded, text = pcall(cjson.encode, record)
    if record and encoded then
      found[#found + 1] = cjson.encode(job) .. ':' .. text
      local jobs = jobs_by[registrars_text or ''] or {}
      jobs_by[registrars_text or ''], jobs[#jobs + 1] = jobs, job
    end
  end
  if batch == null then
    local texts = pairs_of(REGISTRARS)
    for job, text in pairs(pairs_of(JOBS)) do
      add(job, checked_record(job, text), texts[job])
    end
  else
    load_records(batch)
    for _, job in ipairs(batch) do
      add(job, records[job], redis.call('HGET', REGISTRARS, job))
    end
  end
  for text, jobs in pairs(jobs_by) do
    registrars[#registrars + 1] = {registrars_in(text), jobs}
  end
  local cancels = cjson.encode(redis.call('HKEYS', CANCELS))
  return '[{' .. table.concat(found, ',') .. '},' .. cancels .. ',' .. cjson.encode(registrars) .. ']'
end

function operations.pauses()
  local found = {}
  for job, text in pairs(pairs_of(PAUSES)) do
    found[#found + 1] = {job, checked_pause(decoded(text))}
  end
  return found
end

function operations.leased()
  local found = {}
  for _, run_id in ipairs(batch) do
    if redis.call('HEXISTS', LEASES, run_id) == 1 then
      found[#found + 1] = run_id
    end
  end
  return found
end

function operations.beat()
  local about, count = unpack(batch)
  check_keys()
  local former = decoded(redis.call('HGET', INSTANCES, owner) or 'null')
  if former and former[#former] == DRAIN and about[#about] ~= DRAINING then
    about[#about] = DRAIN
  end
  local is_new = redis.call('HSET', INSTANCES, owner, cjson.encode(about)) == 1
  write_beat(owner)
  local found, dead, own = known_instances(), leases_of_the_dead(), {}
  local counted = redis.call('HGET', HOLDERS, owner)
  if number_or(counted or 0, 0, UNREADABLE_TICK, -1) ~= count then
    own = own_leases()
    if #own == 0 then
      redis.call('HDEL', HOLDERS, owner)
    elseif tonumber(counted) ~= #own then
      redis.call('HSET', HOLDERS, owner, #own)
    end
  end
  return {dead, own_cancels(), found, own, is_new}
end

function operations.drain()
  local found = {}
  for _, other in ipairs(batch) do
    local about = decoded(redis.call('HGET', INSTANCES, other) or 'null')
    if about and #about > 3 then
      if about[#about] ~= DRAINING then
        about[#about] = DRAIN
        redis.call('HSET', INSTANCES, other, cjson.encode(about))
      end
      found[#found + 1] = other
    end
  end
  return found
end

function operations.instances()
  return known_instances()
end

function operations.leave()
  redis.call('HDEL', INSTANCES, owner)
  redis.call('HDEL', BEATS, owner)
  return true
end

-- Delete the jobs that no living instance has registered for some seconds.
function operations.forget()
  local gone, registered = {}, pairs_of(REGISTERED)
  for job in pairs(pairs_of(REGISTRARS)) do
    local lives = false
    for _, registrar in ipairs(registrars_of(job)) do
      lives = lives or alive(registrar, math.huge)
    end
    local known = number_or(registered[job], 0, now + MAX_HANDLED_AHEAD, nil)
    if lives or not known then
      redis.call('HSET', REGISTERED, job, second)
    elseif known < now - batch[1] then
      local record = load_record(job)
      if not record or #record[HELD] == 0 then
        gone[#gone + 1] = job
      end
    end
  end
  for _, key in ipairs({JOBS, REGISTRARS, REGISTERED, PAUSES}) do
    in_parts(gone, function(...) redis.call('HDEL', key, ...) end)
  end
  return gone
end

local answer = operations[operation]()
answer = type(answer) == 'string' and answer or cjson.encode(answer)
return #damaged == 0 and answer or {answer, unpack(damaged)}
