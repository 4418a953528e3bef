-- The rule of lock stores: function by function, in the same order, as in fastapi_crons.locking.rule, which explains each.
--
-- Records, leases and claims are lists, as they come in JSON. Python puts in the positions of their fields: those of a record
-- have names without a prefix (TOKEN), those of fastapi_crons.locking.Lease begin with L_, those of ClaimRequest with C_.

-- What store.lua, the store around the rule, provides: the caller, the length of its leases, the server's clock (`second`
-- without fractions), and functions for what is on record.
local owner, term, now, second
local load_record, add_record, changed, lease_of, add_lease, remove_lease, alive
local registrars_of, set_registrars, set_pause, set_cancel

-- What the rule provides.
local register, claim, is_credible, pause, resume, release, renew, cancel
-- Its steps.
local is_in_force, are_others, record_of, start_of, start_again, restore, replace, from_end, may_miss, miss_until_now
local holder_of, claim_tick, run_of, unended, repeated, recover, grant, held, reset, credible

-- Whether the tick of a lease is run again, as fastapi_crons.locking.Lease.again.
local function is_again(lease)
  return lease[L_TICK] ~= null and lease[L_AFTER] >= lease[L_TICK]
end

-- The answer to a claim, as fastapi_crons.locking.ClaimResult.
local function result(outcome, last_handled, token, holder, skipped, reset_from, orphaned)
  return {outcome, last_handled or 0, token or 0, holder or '', skipped or false, reset_from or 0, orphaned or false}
end

-- Answers: last handled tick, what was replaced or null, the other function or null, the tick that was reset, the start,
-- whether the arguments were others.
function register(definition)
  local job, schedule, timezone, func, last_handled, enabled, nonce, leases, withdrawn, at_start, _, arguments =
    unpack(definition)
  local record = load_record(job)
  if withdrawn then
    local others = {}
    for _, registrar in ipairs(record and registrars_of(job) or {}) do
      if registrar ~= owner then
        others[#others + 1] = registrar
      end
    end
    if record then
      set_registrars(job, others)
    end
    return {record and record[LAST_HANDLED] or 0, null, null, 0, 0, false}
  end
  if not record then
    record = record_of(definition)
    return {record[LAST_HANDLED], null, null, 0, start_of(record, at_start), false}
  end
  local done = lease_of(record, nonce)
  if done and done[L_MISSED] ~= null then -- asked again, because the first answer was lost
    local past = {done[L_SCHEDULE], done[L_TIMEZONE], done[L_AFTER], done[L_MISSED], done[L_TOKEN]}
    return {record[LAST_HANDLED], past, null, 0, start_of(record, at_start), false}
  end
  changed(job)
  local other = record[FUNCTION] ~= func and record[FUNCTION] or null
  record[FUNCTION] = func
  local reset_from = reset(record, second)
  local replaced, other_arguments = null, false
  if record[SCHEDULE] ~= schedule or record[TIMEZONE] ~= timezone or record[ENABLED] ~= enabled then
    replaced = replace(record, job, schedule, timezone, enabled, nonce, at_start)
  else
    local registrars, known = registrars_of(job), false
    for _, registrar in ipairs(registrars) do
      known = known or registrar == owner
    end
    other_arguments = are_others(record, arguments)
    if other_arguments or not known then
      if at_start == 'fleet' then
        start_again(record, registrars)
      end
      if other_arguments then
        registrars = {}
      end
      while #registrars >= MAX_REGISTRARS do
        table.remove(registrars, 1)
      end
      registrars[#registrars + 1] = owner
      set_registrars(job, registrars)
    end
  end
  if arguments ~= null then
    record[SETTLED_AT] = record[SETTLED_AT] or 0 -- a list has no gaps
    record[ARGUMENTS] = arguments
  end
  record[LAST_HANDLED] = math.max(record[LAST_HANDLED], credible(last_handled))
  restore(record, leases)
  return {record[LAST_HANDLED], replaced, other, reset_from, start_of(record, at_start), other_arguments}
end

function claim(request)
  local record = load_record(request[C_JOB])
  if not record then
    return result('unknown')
  end
  local answered = repeated(record, request)
  if answered then
    return answered
  end
  local is_tick = request[C_TICK] ~= null and not request[C_AGAIN]
  if not is_in_force(record, request) or (is_tick and not record[ENABLED]) then
    for _, registrar in ipairs(registrars_of(request[C_JOB])) do
      if alive(registrar, math.huge) then
        return result('not_in_force')
      end
    end
    return result('not_in_force', 0, 0, '', false, 0, true)
  end
  if is_tick and record[PAUSE] then
    return result('paused')
  end
  if request[C_REPLACES] ~= null then
    return recover(record, request)
  end
  local holder = holder_of(record)
  if is_tick then
    return claim_tick(record, request, holder)
  end
  local tick = request[C_TICK]
  if tick ~= null then
    local in_the_way = run_of(record, tick) or (request[C_OVERLAP] ~= 'allow' and holder)
    if in_the_way then
      return result('busy', record[LAST_HANDLED], 0, in_the_way)
    end
    return result('granted', tick, grant(record, request, tick))
  end
  if holder and request[C_OVERLAP] ~= 'allow' and not request[C_FORCE] then
    return result('busy', record[LAST_HANDLED], 0, holder)
  end
  local token = grant(record, request, record[LAST_HANDLED])
  return result('granted', record[LAST_HANDLED], token, request[C_FORCE] and holder or '')
end

function is_credible(last_handled)
  return last_handled <= now + MAX_HANDLED_AHEAD
end

-- Answers: the pause, or null for a job without a record.
function pause(request)
  local job, actor, note_of_pause = unpack(request)
  local record = load_record(job)
  if not record then
    return null
  end
  if not record[PAUSE] then
    set_pause(record, job, {now, actor, note_of_pause})
  end
  return record[PAUSE]
end

-- Answers: pause, schedule, timezone, after, last handled tick, token; null for a job that is not paused.
function resume(request)
  local job, nonce, catch_up = unpack(request)
  local record = load_record(job)
  if not record then
    return null
  end
  local start = math.floor(record[SINCE]) + 1
  local done = lease_of(record, nonce)
  if done then -- asked again, because the first answer was lost
    local ended = {0, null, null}
    return {ended, done[L_SCHEDULE], done[L_TIMEZONE], done[L_AFTER], record[LAST_HANDLED], done[L_TOKEN], start}
  end
  local ended, after, token = record[PAUSE], record[LAST_HANDLED], 0
  if not ended then
    return null
  end
  set_pause(record, job, false)
  -- A job that is disabled has no ticks that the pause kept from running.
  if not catch_up and record[ENABLED] and may_miss(record) then
    token = miss_until_now(record, job, nonce, 'paused')
  end
  return {ended, record[SCHEDULE], record[TIMEZONE], after, record[LAST_HANDLED], token, start}
end

function release(ref)
  local until_now = ref[4]
  local record, _, index = held(ref)
  if record then
    remove_lease(record, index)
    if until_now and from_end(record) then
      record[LAST_HANDLED] = math.max(record[LAST_HANDLED], math.ceil(now))
    end
  end
  return record ~= nil
end

function renew(ref)
  local record, lease = held(ref)
  if record then
    lease[L_EXPIRES] = math.max(lease[L_EXPIRES], now + term)
    changed(lease[L_JOB])
  end
  return record ~= nil
end

function cancel(record, run_id, actor)
  local lease = lease_of(record, run_id)
  if lease and lease[L_MISSED] == null then
    set_cancel(run_id, actor)
    return true
  end
  return false
end

function is_in_force(record, request)
  return request[C_SCHEDULE] == record[SCHEDULE] and request[C_TIMEZONE] == record[TIMEZONE]
    and not are_others(record, request[C_ARGUMENTS])
end

function are_others(record, arguments)
  local known = record[ARGUMENTS] or null
  return arguments ~= null and known ~= null and arguments ~= known
end

function record_of(definition)
  local job, schedule, timezone, func, last_handled, enabled, _, leases, _, at_start, start, arguments = unpack(definition)
  local known = credible(last_handled)
  local settled_at = last_handled > 0 and now + QUARANTINE or 0
  local record = {schedule, timezone, enabled, func, known > 0 and known or second, 0, now, false, {}, settled_at, arguments}
  if at_start ~= '' then
    record[SINCE] = start > 0 and start - 1 or record[LAST_HANDLED]
  end
  add_record(job, record)
  set_registrars(job, {owner})
  restore(record, leases)
  return record
end

function start_of(record, at_start)
  return at_start ~= '' and math.floor(record[SINCE]) + 1 or 0
end

function start_again(record, registrars)
  if record[LAST_HANDLED] <= record[SINCE] then
    return
  end
  for _, registrar in ipairs(registrars) do
    if alive(registrar, math.huge) then
      return
    end
  end
  record[SINCE] = math.max(second, record[LAST_HANDLED])
end

function restore(record, leases)
  for _, lease in ipairs(leases) do
    if lease[L_TOKEN] > record[TOKEN] then
      record[TOKEN] = lease[L_TOKEN]
      local _, index = lease_of(record, lease[L_RUN_ID])
      if index then
        remove_lease(record, index)
      end
      truncate(lease, L_TIMEZONE)
      add_lease(record, lease)
    end
  end
end

-- Answers: schedule, timezone, last handled tick, reason, token.
function replace(record, job, schedule, timezone, enabled, nonce, at_start)
  local reason = 'schedule_changed'
  if not record[ENABLED] or (record[SCHEDULE] == schedule and record[TIMEZONE] == timezone) then
    reason = 'disabled'
  elseif record[PAUSE] then
    reason = 'paused'
  end
  local old = {record[SCHEDULE], record[TIMEZONE], record[LAST_HANDLED], reason, 0, math.floor(record[SINCE]) + 1}
  if nonce ~= '' and may_miss(record) then
    old[5] = miss_until_now(record, job, nonce, reason)
  end
  record[SCHEDULE], record[TIMEZONE], record[ENABLED] = schedule, timezone, enabled
  record[SINCE] = now
  set_registrars(job, {owner})
  record[LAST_HANDLED] = math.max(record[LAST_HANDLED], second)
  if at_start ~= '' then
    record[SINCE] = record[LAST_HANDLED]
  end
  return old
end

function from_end(record)
  return string.sub(record[SCHEDULE], -#FROM_END) == FROM_END
end

function may_miss(record)
  return second > record[LAST_HANDLED] and not (from_end(record) and unended(record))
end

function miss_until_now(record, job, nonce, reason)
  local request = {job, nonce, second, record[SCHEDULE], record[TIMEZONE], 'skip', false, reason, null, 1}
  local after = record[LAST_HANDLED]
  record[LAST_HANDLED] = second
  return grant(record, request, after)
end

function holder_of(record, but)
  for _, lease in ipairs(record[HELD]) do
    if lease[L_MISSED] == null and lease ~= but and alive(lease[L_INSTANCE], lease[L_EXPIRES]) then
      return lease[L_RUN_ID]
    end
  end
end

function claim_tick(record, request, holder)
  local tick = request[C_TICK]
  if tick > now + MAX_AHEAD then
    return result('early', second)
  end
  local reset_from = reset(record, tick - 1)
  if reset_from > 0 then
    changed(request[C_JOB])
  end
  local after = request[C_AFTER]
  if tick <= record[LAST_HANDLED] or (after ~= null and after ~= record[LAST_HANDLED]) then
    return result('stale', record[LAST_HANDLED])
  end
  local settled_at = record[SETTLED_AT] or 0
  if now < settled_at and settled_at <= now + MAX_HANDLED_AHEAD then
    return result('early', second)
  end
  local run = after ~= null and unended(record)
  if run then
    return result('busy', record[LAST_HANDLED], 0, run)
  end
  local busy = holder and request[C_OVERLAP] ~= 'allow' and request[C_MISSED] == null
  if busy and (request[C_OVERLAP] ~= 'skip' or is_again(lease_of(record, holder))) then
    return result('busy', record[LAST_HANDLED], 0, holder)
  end
  local before = record[LAST_HANDLED]
  record[LAST_HANDLED] = tick
  if busy then
    request[C_MISSED] = 'overlap'
    return result('busy', before, grant(record, request, before), holder, true, reset_from)
  end
  return result('granted', before, grant(record, request, before), '', false, reset_from)
end

function run_of(record, tick)
  for _, lease in ipairs(record[HELD]) do
    if lease[L_MISSED] == null and lease[L_TICK] ~= null then
      if is_again(lease) or (lease[L_AFTER] < tick and tick <= lease[L_TICK]) then
        return lease[L_RUN_ID]
      end
    end
  end
end

function unended(record)
  for _, lease in ipairs(record[HELD]) do
    if lease[L_MISSED] == null then
      return lease[L_RUN_ID]
    end
  end
end

-- The answer given before to a request that is asked again, because the first answer was lost.
function repeated(record, request)
  local lease = lease_of(record, request[C_RUN_ID])
  if not lease then
    return nil
  end
  if lease[L_MISSED] ~= request[C_MISSED] then
    return result('busy', lease[L_AFTER], lease[L_TOKEN], '', true)
  end
  return result('granted', lease[L_AFTER], lease[L_TOKEN])
end

function recover(record, request)
  local dead, index = lease_of(record, request[C_REPLACES])
  if not dead or (dead[L_INSTANCE] ~= owner and alive(dead[L_INSTANCE], dead[L_EXPIRES])) then
    return result('stale', record[LAST_HANDLED])
  end
  local holder = holder_of(record, dead)
  if holder and request[C_OVERLAP] ~= 'allow' then
    return result('busy', record[LAST_HANDLED], 0, holder)
  end
  remove_lease(record, index)
  -- The ticks that the interrupted run stood for are now this one's.
  return result('granted', dead[L_AFTER], grant(record, request, dead[L_AFTER]))
end

function grant(record, request, after)
  -- Bound to the clock, so that tokens grow even over a store that lost its records.
  local token = math.max(record[TOKEN] + 1, math.floor(now * 1000))
  record[TOKEN] = token
  add_lease(record, {
    request[C_JOB], request[C_RUN_ID], request[C_TICK], owner, token, request[C_ATTEMPT], now + term, after, request[C_MISSED],
    request[C_SCHEDULE], request[C_TIMEZONE],
  })
  return token
end

function held(ref)
  local job, run_id, token = unpack(ref)
  local record = load_record(job)
  if record then
    local lease, index = lease_of(record, run_id)
    if lease and lease[L_TOKEN] == token then
      return record, lease, index
    end
  end
end

function reset(record, tick)
  local was = record[LAST_HANDLED]
  if is_credible(was) then
    return 0
  end
  record[LAST_HANDLED] = tick
  return was
end

function credible(last_handled)
  return is_credible(last_handled) and last_handled or 0
end
