-- The rule of claims, as in fastapi_crons.locking.records, decided by the server and its clock.
--
-- KEYS, all in one hash slot:
--   jobs        job -> record, see below
--   registrars  job -> who registered the definition in force
--   leases      run id -> {job, owner}
--   holders     owner -> how many leases it has
--   instances   owner -> what it says of itself
--   beats       owner -> when it last said that it lives
--   cancels     run id -> who wants it cancelled
--   pauses      job -> its pause, which its record has, too
--   registered  job -> when a living instance was last known to have registered it
--   layout      the version that wrote this, and the oldest that may work on it
-- ARGV: operation, owner, term of a lease, time after which a silent instance is dead, what the caller's host knows of
-- other owners (owner -> whether its process lives), and the operation's own batch; the last two are JSON.
local JOBS, REGISTRARS, LEASES, HOLDERS, INSTANCES, BEATS, CANCELS, PAUSES, REGISTERED, LAYOUT = unpack(KEYS)
local operation, owner, term, timeout = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local evidence, batch = cjson.decode(ARGV[5]), cjson.decode(ARGV[6])

local MAX_AHEAD, MAX_MARK_AHEAD, MAX_REGISTRARS, QUARANTINE = 1, 3600, 32, 3
-- The fields of a record; HELD are its leases.
local SCHEDULE, TIMEZONE, ENABLED, FUNCTION, MARK, TOKEN, SINCE, PAUSE, HELD, SETTLED_AT = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
-- The fields of a lease, as in fastapi_crons.locking.Lease without the last.
local L_JOB, L_RUN, L_TICK, L_OWNER, L_TOKEN, L_ATTEMPT, L_EXPIRES, L_AFTER, L_LET_GO, L_SCHEDULE, L_TIMEZONE =
  1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11

local null = cjson.null
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local second = math.floor(now)

-- Many fields of a hash at a time: a call may have some thousand arguments.
local function in_parts(list, size, call)
  for first = 1, #list, size do
    call(unpack(list, first, math.min(first + size - 1, #list)))
  end
end

local function pairs_of(key)
  local found, flat = {}, redis.call('HGETALL', key)
  for index = 1, #flat, 2 do
    found[flat[index]] = flat[index + 1]
  end
  return found
end

-- What is damaged is passed over or mended, as in fastapi_crons.locking.sound, and told behind the answer.

local LATEST, NO_MARK, MAX_TOKEN, MAX_TERM = 253370000000, 9007199254740991, 1e14, 366 * 86400
local REASONS = {
  misfire_grace_time = true, max_catch_up = true, overlap = true, vetoed = true, schedule_changed = true, disabled = true,
  paused = true,
}
local damaged = {}

local function note(what)
  if #damaged < 100 then
    damaged[#damaged + 1] = what
  end
end

local function decoded(text)
  local sound, value = pcall(cjson.decode, text)
  return sound and type(value) == 'table' and value or nil
end

local function is_text(value)
  return type(value) == 'string'
end

local function is_name(value)
  return is_text(value) and #value > 0 and #value <= 1200
end

-- What is no number is neither less nor greater.
local function is_between(value, least, most)
  return type(value) == 'number' and value >= least and value <= most
end

local function is_whole(value, least, most)
  return is_between(value, least, most) and value == math.floor(value)
end

local function number_or(text, least, most, default)
  local number = tonumber(text or false)
  return is_between(number, least, most) and number or default
end

local function sound_lease(lease, job)
  if type(lease) ~= 'table' or lease[L_JOB] ~= job or not is_name(lease[L_RUN]) or not is_text(lease[L_OWNER])
    or not is_whole(lease[L_TOKEN], 0, MAX_TOKEN) or not is_whole(lease[L_ATTEMPT], 0, NO_MARK)
    or not is_whole(lease[L_AFTER], -LATEST, LATEST) or not is_text(lease[L_SCHEDULE]) or not is_text(lease[L_TIMEZONE])
    or not (lease[L_TICK] == null or is_whole(lease[L_TICK], -LATEST, LATEST))
    or not (lease[L_LET_GO] == null or (is_text(lease[L_LET_GO]) and REASONS[lease[L_LET_GO]] and lease[L_TICK] ~= null))
  then
    return nil
  end
  -- One whose end can't be believed lasts as long as its holder's heartbeat.
  local mended = not is_between(lease[L_EXPIRES], 0, now + MAX_TERM)
  if mended then
    lease[L_EXPIRES] = now + term
  end
  return lease, mended
end

-- A pause holds, whatever of it can be read.
local function sound_pause(pause)
  local since, actor, text = unpack(type(pause) == 'table' and pause or {})
  local function said(value)
    return is_text(value) and value or null
  end
  return {is_between(since, 0, LATEST) and since or 0, said(actor), said(text)}
end

local function sound_record(job, text)
  local record = decoded(text)
  if not record or not is_text(record[SCHEDULE]) or not is_text(record[TIMEZONE]) or not is_text(record[FUNCTION])
    or type(record[ENABLED]) ~= 'boolean' or type(record[HELD]) ~= 'table'
  then
    note('record of job ' .. job)
    return false
  end
  local mended = false
  local function mend(field, sound, instead)
    if not sound then
      record[field], mended = instead, true
    end
  end
  mend(MARK, is_whole(record[MARK], 0, NO_MARK), NO_MARK)
  mend(TOKEN, is_whole(record[TOKEN], 0, MAX_TOKEN), 0)
  mend(SINCE, is_between(record[SINCE], 0, LATEST), 0)
  mend(SETTLED_AT, record[SETTLED_AT] == nil or is_between(record[SETTLED_AT], 0, now + MAX_MARK_AHEAD), 0)
  if record[PAUSE] then
    record[PAUSE] = record[PAUSE] ~= null and sound_pause(record[PAUSE])
  end
  local held = {}
  for _, lease in pairs(record[HELD]) do
    local sound, changed_end = sound_lease(lease, job)
    held[#held + 1] = sound
    mended = mended or not sound or changed_end
  end
  record[HELD] = held
  -- Fields of a later version are kept, unless they can't be written.
  local later = #record > SETTLED_AT
  for _, lease in ipairs(held) do
    later = later or #lease > L_TIMEZONE
  end
  if later and not pcall(cjson.encode, record) then
    mended = true
    for index = #record, SETTLED_AT + 1, -1 do
      record[index] = nil
    end
    for _, lease in ipairs(held) do
      for index = #lease, L_TIMEZONE + 1, -1 do
        lease[index] = nil
      end
    end
  end
  if mended then
    note('record of job ' .. job)
  end
  return record
end

local function sound_index(run_id, text)
  local found = decoded(text)
  if found and is_text(found[1]) and is_text(found[2]) then
    return found[1], found[2]
  end
  note('lease ' .. run_id)
end

-- Records and leases: read when first wanted, written at the end.

local records, changed = {}, {}
local new_leases, old_leases, held_by = {}, {}, {}

local function load_records(names)
  local missing = {}
  for _, name in ipairs(names) do
    if records[name] == nil then
      records[name] = false
      missing[#missing + 1] = name
    end
  end
  in_parts(missing, 1000, function(...)
    local part = {...}
    for index, text in ipairs(redis.call('HMGET', JOBS, ...)) do
      records[part[index]] = text and sound_record(part[index], text)
    end
  end)
end

local function record_of(job)
  if records[job] == nil then
    load_records({job})
  end
  return records[job]
end

local function count_lease(holder, by)
  held_by[holder] = (held_by[holder] or 0) + by
end

local function add_lease(record, lease)
  table.insert(record[HELD], lease)
  new_leases[#new_leases + 1] = lease[L_RUN]
  new_leases[#new_leases + 1] = cjson.encode({lease[L_JOB], lease[L_OWNER]})
  count_lease(lease[L_OWNER], 1)
  changed[lease[L_JOB]] = true
end

local function remove_lease(record, index)
  local lease = table.remove(record[HELD], index)
  old_leases[#old_leases + 1] = lease[L_RUN]
  count_lease(lease[L_OWNER], -1)
  changed[lease[L_JOB]] = true
end

local function lease_of(record, run_id)
  for index, lease in ipairs(record[HELD]) do
    if lease[L_RUN] == run_id then
      return lease, index
    end
  end
end

local function write_changes()
  local flat = {}
  for job in pairs(changed) do
    flat[#flat + 1] = job
    flat[#flat + 1] = cjson.encode(records[job])
  end
  in_parts(flat, 1000, function(...) redis.call('HSET', JOBS, ...) end)
  in_parts(new_leases, 1000, function(...) redis.call('HSET', LEASES, ...) end)
  in_parts(old_leases, 1000, function(...) redis.call('HDEL', LEASES, ...) end)
  if #old_leases > 0 and redis.call('EXISTS', CANCELS) == 1 then
    in_parts(old_leases, 1000, function(...) redis.call('HDEL', CANCELS, ...) end)
  end
  for holder, by in pairs(held_by) do
    if by ~= 0 then
      local count = redis.pcall('HINCRBY', HOLDERS, holder, by)
      if type(count) == 'table' then -- what was there is no number: they are counted at the next heartbeat
        note('leases of ' .. holder)
        redis.call('HSET', HOLDERS, holder, 1)
      elseif count <= 0 then
        redis.call('HDEL', HOLDERS, holder)
      end
    end
  end
end

-- Who lives.

local beats = {}

local function say_alive()
  redis.call('HSET', BEATS, owner, string.format('%.3f', now))
  beats[owner] = now
end

local function alive(holder, expires)
  if beats[holder] == nil then
    local left = redis.call('HGET', BEATS, holder)
    beats[holder] = left and number_or(left, 0, now + MAX_MARK_AHEAD, false)
    if left and not beats[holder] then
      -- One that can't be believed was left just now: who lives leaves another.
      note('heartbeat of ' .. holder)
      beats[holder] = now
      if operation == 'beat' then
        redis.call('HSET', BEATS, holder, string.format('%.3f', now))
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

local function registrars_of(job)
  local text, found = redis.call('HGET', REGISTRARS, job), {}
  for _, registrar in pairs(text and decoded(text) or {}) do
    if is_text(registrar) then
      found[#found + 1] = registrar
    end
  end
  return found
end

-- The rule itself.

local function credible(mark)
  return mark <= now + MAX_MARK_AHEAD and mark or 0
end

local function put_back(record, mark)
  if record[MARK] <= now + MAX_MARK_AHEAD then
    return 0
  end
  local was = record[MARK]
  record[MARK] = mark
  return was
end

local function grant(record, job, run_id, tick, attempt, after, let_go, schedule, timezone)
  -- Bound to the clock, so that tokens grow even over a store that lost its records.
  local token = math.max(record[TOKEN] + 1, math.floor(now * 1000))
  record[TOKEN] = token
  add_lease(record, {job, run_id, tick, owner, token, attempt, now + term, after, let_go, schedule, timezone})
  return token
end

local function holder_of(record)
  for _, lease in ipairs(record[HELD]) do
    if lease[L_LET_GO] == null and alive(lease[L_OWNER], lease[L_EXPIRES]) then
      return lease[L_RUN]
    end
  end
end

-- Answers to claims: outcome, mark, token, holder, skipped, put_back_from, orphaned.
local function answer(outcome, mark, token, holder, skipped, was, orphaned)
  return {outcome, mark or 0, token or 0, holder or '', skipped or false, was or 0, orphaned or false}
end

local function not_in_force(job)
  for _, registrar in ipairs(registrars_of(job)) do
    if alive(registrar, math.huge) then
      return answer('not_in_force')
    end
  end
  return answer('not_in_force', 0, 0, '', false, 0, true)
end

local function claim(request)
  local job, run_id, tick, schedule, timezone, overlap, force, let_go, replaces, attempt = unpack(request)
  local record = record_of(job)
  if not record then
    return answer('unknown')
  end
  local lease = lease_of(record, run_id)
  if lease then -- asked again, because the first answer was lost
    if lease[L_LET_GO] ~= let_go then
      return answer('busy', lease[L_AFTER], lease[L_TOKEN], '', true)
    end
    return answer('granted', lease[L_AFTER], lease[L_TOKEN])
  end
  local is_tick = tick ~= null
  if schedule ~= record[SCHEDULE] or timezone ~= record[TIMEZONE] or (is_tick and not record[ENABLED]) then
    return not_in_force(job)
  end
  if is_tick and record[PAUSE] then
    return answer('paused')
  end
  if replaces ~= null then
    local dead, index = lease_of(record, replaces)
    if not dead or (dead[L_OWNER] ~= owner and alive(dead[L_OWNER], dead[L_EXPIRES])) then
      return answer('stale', record[MARK])
    end
    for _, other in ipairs(record[HELD]) do
      if other ~= dead and other[L_LET_GO] == null and overlap ~= 'allow' and alive(other[L_OWNER], other[L_EXPIRES]) then
        return answer('busy', record[MARK], 0, other[L_RUN])
      end
    end
    remove_lease(record, index)
    -- The ticks that the cut-off run stood for are now this one's.
    local after = dead[L_AFTER]
    return answer('granted', after, grant(record, job, run_id, tick, attempt, after, let_go, schedule, timezone))
  end
  local holder = holder_of(record)
  if not is_tick then
    if holder and overlap ~= 'allow' and not force then
      return answer('busy', record[MARK], 0, holder)
    end
    local token = grant(record, job, run_id, tick, attempt, record[MARK], let_go, schedule, timezone)
    return answer('granted', record[MARK], token, force and holder or '')
  end
  if tick > now + MAX_AHEAD then
    return answer('early', second)
  end
  local was = put_back(record, tick - 1)
  if was > 0 then
    changed[job] = true
  end
  if tick <= record[MARK] then
    return answer('stale', record[MARK])
  end
  local settled_at = record[SETTLED_AT] or 0
  if now < settled_at and settled_at <= now + MAX_MARK_AHEAD then
    return answer('early', second)
  end
  local busy = holder and overlap ~= 'allow' and let_go == null
  if busy and overlap ~= 'skip' then
    return answer('busy', record[MARK], 0, holder)
  end
  local before = record[MARK]
  record[MARK] = tick
  local why = busy and 'overlap' or let_go
  local token = grant(record, job, run_id, tick, attempt, before, why, schedule, timezone)
  if busy then
    return answer('busy', before, token, holder, true, was)
  end
  return answer('granted', before, token, '', false, was)
end

-- Move the mark to now; returns the token of the lease that answers for the ticks in between.
local function let_go_of_past(record, job, nonce, reason)
  local after = record[MARK]
  record[MARK] = second
  return grant(record, job, nonce, second, 1, after, reason, record[SCHEDULE], record[TIMEZONE])
end

local function take_back(record, held)
  for _, lease in ipairs(held) do
    if lease[L_TOKEN] > record[TOKEN] then
      record[TOKEN] = lease[L_TOKEN]
      local _, index = lease_of(record, lease[L_RUN])
      if index then
        remove_lease(record, index)
      end
      for index = #lease, L_TIMEZONE + 1, -1 do -- whether it is to be cancelled is not kept here
        lease[index] = nil
      end
      add_lease(record, lease)
    end
  end
end

-- Answers to definitions: mark, replaced or null, other function or null, put_back_from.
-- replaced: schedule, timezone, mark, reason, token.
local function enrol(definition)
  local job, schedule, timezone, func, mark, enabled, nonce, held = unpack(definition)
  local record = record_of(job)
  if not record then
    -- An instance that has handled ticks before says that the store has lost its records. What was due since then is
    -- granted once all who know of newer ticks have had the time to say so.
    local known = credible(mark)
    record = {schedule, timezone, enabled, func, known > 0 and known or second, 0, now, false, {}, 0}
    record[SETTLED_AT] = mark > 0 and now + QUARANTINE or 0
    records[job], changed[job] = record, true
    redis.call('HSET', REGISTRARS, job, cjson.encode({owner}))
    take_back(record, held)
    return {record[MARK], null, null, 0}
  end
  local done = lease_of(record, nonce)
  if done and done[L_LET_GO] ~= null then -- asked again, because the first answer was lost
    local replaced = {done[L_SCHEDULE], done[L_TIMEZONE], done[L_AFTER], done[L_LET_GO], done[L_TOKEN]}
    return {record[MARK], replaced, null, 0}
  end
  changed[job] = true
  local other = record[FUNCTION] ~= func and record[FUNCTION] or null
  record[FUNCTION] = func
  local was = put_back(record, second)
  local replaced = null
  if record[SCHEDULE] ~= schedule or record[TIMEZONE] ~= timezone or record[ENABLED] ~= enabled then
    local reason = 'schedule_changed'
    if not record[ENABLED] or (record[SCHEDULE] == schedule and record[TIMEZONE] == timezone) then
      reason = 'disabled'
    elseif record[PAUSE] then
      reason = 'paused'
    end
    replaced = {record[SCHEDULE], record[TIMEZONE], record[MARK], reason, 0}
    if nonce ~= '' and second > record[MARK] then
      replaced[5] = let_go_of_past(record, job, nonce, reason)
    end
    record[SCHEDULE], record[TIMEZONE], record[ENABLED] = schedule, timezone, enabled
    record[SINCE] = now
    record[MARK] = math.max(record[MARK], second)
    redis.call('HSET', REGISTRARS, job, cjson.encode({owner}))
  else
    local registrars, known = registrars_of(job), false
    for _, registrar in ipairs(registrars) do
      known = known or registrar == owner
    end
    if not known then
      while #registrars >= MAX_REGISTRARS do
        table.remove(registrars, 1)
      end
      table.insert(registrars, owner)
      redis.call('HSET', REGISTRARS, job, cjson.encode(registrars))
    end
  end
  record[MARK] = math.max(record[MARK], credible(mark))
  take_back(record, held)
  return {record[MARK], replaced, other, was}
end

-- A pause, or null for a job without a record.
local function pause(request)
  local job, actor, note = unpack(request)
  local record = record_of(job)
  if not record then
    return null
  end
  if not record[PAUSE] then
    record[PAUSE], changed[job] = {now, actor, note}, true
    redis.call('HSET', PAUSES, job, cjson.encode(record[PAUSE]))
  end
  return record[PAUSE]
end

-- Answers to resume requests: pause, schedule, timezone, after, mark, token; null for a job that is not paused.
local function resume(request)
  local job, nonce, catch_up = unpack(request)
  local record = record_of(job)
  if not record then
    return null
  end
  local done = lease_of(record, nonce)
  if done then -- asked again, because the first answer was lost
    return {{0, null, null}, done[L_SCHEDULE], done[L_TIMEZONE], done[L_AFTER], record[MARK], done[L_TOKEN]}
  end
  local paused, after, token = record[PAUSE], record[MARK], 0
  if not paused then
    return null
  end
  record[PAUSE], changed[job] = false, true
  redis.call('HDEL', PAUSES, job)
  -- A job that is disabled has no ticks that the pause kept from running.
  if not catch_up and record[ENABLED] and second > after then
    token = let_go_of_past(record, job, nonce, 'paused')
  end
  return {paused, record[SCHEDULE], record[TIMEZONE], after, record[MARK], token}
end

local function held(ref)
  local job, run_id, token = unpack(ref)
  local record = record_of(job)
  if record then
    local lease, index = lease_of(record, run_id)
    if lease and lease[L_TOKEN] == token then
      return record, lease, index
    end
  end
end

local function release(ref)
  local record, _, index = held(ref)
  if record then
    remove_lease(record, index)
  end
  return record ~= nil
end

local function renew(ref)
  local record, lease = held(ref)
  if record then
    lease[L_EXPIRES] = math.max(lease[L_EXPIRES], now + term)
    changed[ref[1]] = true
  end
  return record ~= nil
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

-- The instances that are known: what each says of itself, its last heartbeat, whether it lives.
local function known_instances()
  local found = {}
  for other, about in pairs(pairs_of(INSTANCES)) do
    local lives, known = alive(other, math.huge), decoded(about)
    if known and #known > 3 then
      found[#found + 1] = {known, beats[other] or 0, lives}
    else
      note('instance ' .. other)
      if operation == 'beat' and not lives then
        redis.call('HDEL', INSTANCES, other)
      end
    end
  end
  return found
end

-- Leases whose holders do not live; by the way, the dead who left none are forgotten.
local function leases_of_the_dead()
  local suspects = false
  local holders = pairs_of(HOLDERS)
  for holder in pairs(holders) do
    suspects = suspects or not alive(holder, math.huge)
  end
  for other in pairs(pairs_of(BEATS)) do
    if not holders[other] and not alive(other, math.huge) then
      redis.call('HDEL', INSTANCES, other)
      redis.call('HDEL', BEATS, other)
    end
  end
  -- A lease that ran out although its holder lives is rare: nobody renews it, because its grant was never heard of.
  local sweep = number_or(redis.call('HGET', LAYOUT, 'swept'), 0, now, 0)
  if not suspects and now - sweep < term / 2 then
    return {}
  end
  redis.call('HSET', LAYOUT, 'swept', now)
  local dead, cancels = {}, pairs_of(CANCELS)
  for run_id, text in pairs(pairs_of(LEASES)) do
    local job, holder = sound_index(run_id, text)
    local record = job and holder ~= owner and record_of(job)
    local lease = record and lease_of(record, run_id)
    if lease and not alive(holder, lease[L_EXPIRES]) then
      lease[L_TIMEZONE + 1] = cancels[run_id] ~= nil
      dead[#dead + 1] = lease
    end
    if lease or (holder and alive(holder, math.huge)) then
      holders[holder] = nil
    else -- what it led to is gone, or damaged
      redis.call('HDEL', LEASES, run_id)
    end
  end
  for holder in pairs(holders) do -- those who have none in truth
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
    local job, holder = nil, nil
    if text then
      job, holder = sound_index(run_id, text)
    end
    if job and holder == owner then
      found[#found + 1] = {run_id, actor ~= '' and actor or null}
    end
  end
  return found
end

-- The version that wrote what is there, and the oldest that may work on it; nil where that can't be read.
local function layout()
  local version, oldest = unpack(redis.call('HMGET', LAYOUT, 'version', 'compatible_from'))
  local found = version and string.match(version, '^%d%d?%d?%d?%d?%d?$') and tonumber(version)
  local needs = oldest and string.match(oldest, '^%d%d?%d?%d?%d?%d?$') and tonumber(oldest)
  if found and needs and needs >= 1 and needs <= found then
    return found, needs
  end
end

local operations = {}

function operations.open()
  local version, oldest, to_read = unpack(batch)
  local found, needs = layout()
  if not found then -- nothing is there, or nothing that says that it is newer than we are
    found, needs = 0, oldest
  end
  if not to_read and needs <= version and found < version then
    redis.call('HSET', LAYOUT, 'version', version, 'compatible_from', oldest)
    found, needs = version, oldest
  end
  return {found, needs, known_instances()}
end

function operations.enrol()
  local flat = {}
  for _, definition in ipairs(batch) do
    flat[#flat + 1] = definition[1]
    flat[#flat + 1] = second
  end
  in_parts(flat, 1000, function(...) redis.call('HSET', REGISTERED, ...) end)
  say_alive()
  return each(enrol)
end

function operations.claim()
  say_alive()
  return each(claim)
end

function operations.pause() return each(pause) end
function operations.resume() return each(resume) end
function operations.release() return each(release) end
function operations.renew() return each(renew) end

function operations.marks()
  load_records(batch)
  local found = {}
  for index, job in ipairs(batch) do
    -- One that would be put back says nothing of what was handled.
    found[index] = records[job] and records[job][MARK] <= now + MAX_MARK_AHEAD and records[job][MARK] or null
  end
  return found
end

-- {job: record}, and the ids of the runs that are to be cancelled.
function operations.known()
  local found = {}
  local function add(job, record)
    -- Fields of a later version may hold what can't be written.
    local sound, text = pcall(cjson.encode, record)
    if record and sound then
      found[#found + 1] = cjson.encode(job) .. ':' .. text
    end
  end
  if batch == null then
    for job, text in pairs(pairs_of(JOBS)) do
      add(job, sound_record(job, text))
    end
  else
    in_parts(batch, 1000, function(...)
      local part = {...}
      for index, text in ipairs(redis.call('HMGET', JOBS, ...)) do
        if text then
          add(part[index], sound_record(part[index], text))
        end
      end
    end)
  end
  return '[{' .. table.concat(found, ',') .. '},' .. cjson.encode(redis.call('HKEYS', CANCELS)) .. ']'
end

function operations.pauses()
  local found = {}
  for job, text in pairs(pairs_of(PAUSES)) do
    found[#found + 1] = {job, sound_pause(decoded(text))}
  end
  return found
end

function operations.cancel()
  local run_ids, actor = unpack(batch)
  local found = {}
  for _, run_id in ipairs(run_ids) do
    local text = redis.call('HGET', LEASES, run_id)
    local job = text and sound_index(run_id, text)
    local record = job and record_of(job)
    local lease = record and lease_of(record, run_id)
    if lease and lease[L_LET_GO] == null then
      redis.call('HSET', CANCELS, run_id, actor ~= null and actor or '')
      found[#found + 1] = run_id
    end
  end
  return found
end

function operations.forget()
  local gone, registered = {}, pairs_of(REGISTERED)
  for job, text in pairs(pairs_of(REGISTRARS)) do
    local lives = false
    for _, registrar in pairs(decoded(text) or {}) do
      lives = lives or (is_text(registrar) and alive(registrar, math.huge))
    end
    local known = number_or(registered[job], 0, now + MAX_MARK_AHEAD, nil)
    if lives or not known then
      redis.call('HSET', REGISTERED, job, second)
    elseif known < now - batch[1] then
      local record = record_of(job)
      if not record or #record[HELD] == 0 then
        gone[#gone + 1] = job
      end
    end
  end
  for _, key in ipairs({JOBS, REGISTRARS, REGISTERED, PAUSES}) do
    in_parts(gone, 1000, function(...) redis.call('HDEL', key, ...) end)
  end
  return gone
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

local function own_leases()
  local found = {}
  for run_id, text in pairs(pairs_of(LEASES)) do
    local job, holder = sound_index(run_id, text)
    local record = job and holder == owner and record_of(job)
    local lease = record and lease_of(record, run_id)
    if lease then
      found[#found + 1] = lease
    end
  end
  return found
end

function operations.beat()
  local about, count = unpack(batch)
  local is_new = redis.call('HSET', INSTANCES, owner, cjson.encode(about)) == 1
  say_alive()
  local found, dead, own = known_instances(), leases_of_the_dead(), {}
  local counted = redis.call('HGET', HOLDERS, owner)
  if number_or(counted or 0, 0, NO_MARK, -1) ~= count then
    own = own_leases()
    if #own == 0 then
      redis.call('HDEL', HOLDERS, owner)
    elseif tonumber(counted) ~= #own then
      redis.call('HSET', HOLDERS, owner, #own)
    end
  end
  return {dead, own_cancels(), found, own, is_new}
end

function operations.instances()
  return known_instances()
end

function operations.leave()
  redis.call('HDEL', INSTANCES, owner)
  redis.call('HDEL', BEATS, owner)
  return true
end

local answer = operations[operation]()
answer = type(answer) == 'string' and answer or cjson.encode(answer)
return #damaged == 0 and answer or {answer, unpack(damaged)}
