-- What may be read of a record, as in fastapi_crons.locking.checks: what is damaged is passed over or repaired, and noted.

local function is_text(value)
  return type(value) == 'string'
end

local function is_name(value)
  return is_text(value) and #value > 0 and #value <= 4 * LONGEST_NAME -- bytes, where Python counts characters
end

-- What is not a number is neither less nor greater.
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

-- The lease, or nil; and whether its end was repaired: one that can't be right is as far away as that of a new lease.
local function checked_lease(lease, job)
  if type(lease) ~= 'table' or lease[L_JOB] ~= job or not is_name(lease[L_RUN_ID]) or not is_text(lease[L_INSTANCE])
    or not is_whole(lease[L_TOKEN], 0, MAX_TOKEN) or not is_whole(lease[L_ATTEMPT], 0, UNREADABLE_TICK)
    or not is_whole(lease[L_AFTER], EARLIEST, LATEST) or not is_text(lease[L_SCHEDULE]) or not is_text(lease[L_TIMEZONE])
    or not (lease[L_TICK] == null or is_whole(lease[L_TICK], EARLIEST, LATEST))
    or not (lease[L_MISSED] == null or (is_text(lease[L_MISSED]) and REASONS[lease[L_MISSED]] and lease[L_TICK] ~= null))
  then
    return nil, true
  end
  local repaired = not is_between(lease[L_EXPIRES], 0, now + MAX_TERM)
  if repaired then
    lease[L_EXPIRES] = now + term
  end
  return lease, repaired
end

-- A damaged pause still pauses its job.
local function checked_pause(pause_on_record)
  local since, actor, note_of_pause = unpack(type(pause_on_record) == 'table' and pause_on_record or {})
  return {
    is_between(since, 0, LATEST) and since or 0, is_text(actor) and actor or null,
    is_text(note_of_pause) and note_of_pause or null,
  }
end

-- Drop fields of a later version that JSON can't hold; returns whether there were any.
local function drop_unwritable(record)
  local later = #record > ARGUMENTS
  for _, lease in ipairs(record[HELD]) do
    later = later or #lease > L_TIMEZONE
  end
  if not later or pcall(cjson.encode, record) then
    return false
  end
  truncate(record, ARGUMENTS)
  for _, lease in ipairs(record[HELD]) do
    truncate(lease, L_TIMEZONE)
  end
  return true
end

-- The record of a job; false where it can't be used at all.
local function checked_record(job, text)
  local record = decoded(text)
  if not record or not is_text(record[SCHEDULE]) or not is_text(record[TIMEZONE]) or not is_text(record[FUNCTION])
    or type(record[ENABLED]) ~= 'boolean' or type(record[HELD]) ~= 'table'
  then
    note('record of job ' .. job)
    return false
  end
  local repaired = false
  local function repair(field, holds, instead)
    if not holds then
      record[field], repaired = instead, true
    end
  end
  repair(LAST_HANDLED, is_whole(record[LAST_HANDLED], 0, UNREADABLE_TICK), UNREADABLE_TICK)
  repair(TOKEN, is_whole(record[TOKEN], 0, MAX_TOKEN), 0)
  repair(SINCE, is_between(record[SINCE], 0, LATEST), 0)
  local settled_at = record[SETTLED_AT]
  repair(SETTLED_AT, settled_at == nil or is_between(settled_at, 0, now + MAX_HANDLED_AHEAD), 0)
  local arguments = record[ARGUMENTS]
  repair(ARGUMENTS, arguments == nil or arguments == null or is_text(arguments), null)
  if record[PAUSE] then
    record[PAUSE] = record[PAUSE] ~= null and checked_pause(record[PAUSE])
  end
  local leases = {}
  for _, lease in pairs(record[HELD]) do
    local readable, changed_lease = checked_lease(lease, job)
    leases[#leases + 1] = readable
    repaired = repaired or changed_lease
  end
  record[HELD] = leases
  if drop_unwritable(record) or repaired then
    note('record of job ' .. job)
  end
  return record
end

-- The job and the owner of a lease, from the index of leases.
local function checked_index(run_id, text)
  local found = decoded(text)
  if found and is_text(found[1]) and is_text(found[2]) then
    return found[1], found[2]
  end
  note('lease ' .. run_id)
end
