-- The history of runs: what a batch of records changes, and what is asked of it. Records go through as the text they are.
--
-- KEYS, all in one hash slot:
--   states   job -> the head of its latest run
--   running  ids of the runs that are on record as running
--   oldest   jobs by a time (milliseconds) that nothing kept of them is older than
--   layout   the version that wrote this, and the oldest that may work on it
-- Under the same prefix:
--   runs:<job>    ids of its runs; they sort by time
--   run:<id>      a run without its log, as JSON: [head, more], where the head is [id, status, job, instance, start]
--   log:<id>      its log, as JSON
--   missed:<job>  its missed ticks: each "<id> <JSON>", so that they sort by time
--   events        the channel on which all that is written is told
--   signals       the channel on which instances tell each other what is asked of them
-- What has ended expires by itself, and with the last of it its job's index.
-- ARGV: operation, prefix, how many records a job keeps, seconds after which what has ended expires, whether to tell even
-- where nobody is seen to listen, the operation's own batch as JSON, and the records of a write.
local STATES, RUNNING, OLDEST, LAYOUT = unpack(KEYS)
local operation, prefix, keep, lifetime, tell_anyway = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5] == '1'
local batch = cjson.decode(ARGV[6])
local RUNS, RUN, LOG, MISSED, EVENTS = prefix .. 'runs:', prefix .. 'run:', prefix .. 'log:', prefix .. 'missed:', prefix .. 'events'

-- How much goes in one message: a server cuts off listeners that have too much in front of them.
local MAX_TOLD = 1000000
local PRUNED_AT_A_TIME = 50
local A_DAY = 86400000
-- How many arguments go with one call: Lua's stack is limited.
local AT_A_TIME = 1000

local function in_parts(list, call)
  for first = 1, #list, AT_A_TIME do
    call(unpack(list, first, math.min(first + AT_A_TIME - 1, #list)))
  end
end

local function delete(keys)
  in_parts(keys, function(...) redis.call('UNLINK', ...) end)
end

local function as_list(texts)
  return '[' .. table.concat(texts, ',') .. ']'
end

-- Ids begin with the time they were made at, in milliseconds as hexadecimal digits.
local function made_at(id)
  return tonumber(string.sub(id, 1, 8) .. string.sub(id, 10, 13), 16) or 0
end

local function id_before(milliseconds)
  local digits = string.format('%012x', milliseconds)
  return string.sub(digits, 1, 8) .. '-' .. string.sub(digits, 9)
end

-- Whether a key holds what it should, or nothing. What is of another kind, and is to be written, gives way.
local function is_sorted(key, to_write)
  local kind = redis.call('TYPE', key).ok
  if kind ~= 'zset' and kind ~= 'none' and to_write then
    redis.call('UNLINK', key)
    return true
  end
  return kind == 'zset' or kind == 'none'
end

local function which_run(ids)
  local found = {}
  local function ask(...)
    local part = {...}
    for index, known in ipairs(redis.call('SMISMEMBER', RUNNING, ...)) do
      found[part[index]] = known == 1
    end
  end
  in_parts(ids, ask)
  return found
end

local function how_many_older(key, cutoff)
  return cutoff and redis.call('ZLEXCOUNT', key, '-', '(' .. id_before(cutoff)) or 0
end

-- Delete what a job has beyond its number of records, or from before the cutoff (milliseconds) where one is given.
local function cut_back_runs(job, cutoff)
  local key = RUNS .. job
  local excess = math.max(redis.call('ZCARD', key) - keep, how_many_older(key, cutoff))
  if excess <= 0 then
    return
  end
  local ids = redis.call('ZRANGE', key, 0, excess - 1)
  local goes_on, ended, keys = which_run(ids), {}, {}
  for _, id in ipairs(ids) do
    if not goes_on[id] then
      ended[#ended + 1] = id
      keys[#keys + 1] = RUN .. id
      keys[#keys + 1] = LOG .. id
    end
  end
  in_parts(ended, function(...) redis.call('ZREM', key, ...) end)
  delete(keys)
end

local function cut_back_missed(job, cutoff)
  local key = MISSED .. job
  local excess = math.max(redis.call('ZCARD', key) - keep, how_many_older(key, cutoff))
  if excess > 0 then
    redis.call('ZREMRANGEBYRANK', key, 0, excess - 1)
  end
end

-- Writing.

local function lines_of(text)
  local at = 1
  return function()
    local stop = string.find(text, '\n', at, true) or #text + 1
    local line = string.sub(text, at, stop - 1)
    at = stop + 1
    return line
  end
end

local function read_records()
  local records, heads, run_ids = {}, {}, {}
  local next_line = lines_of(ARGV[7])
  for index = 1, batch do
    records[index] = {head = next_line(), more = next_line(), log = next_line()}
    heads[index] = records[index].head
  end
  for index, head in ipairs(cjson.decode(as_list(heads))) do
    local record = records[index]
    record.id, record.status, record.job = unpack(head)
    record.text = as_list({record.head, record.more})
    if record.status ~= 'missed' then
      run_ids[#run_ids + 1] = record.id
    end
  end
  return records, run_ids
end

local function grow(grown, record)
  local time = made_at(record.id)
  grown[record.job] = math.min(grown[record.job] or time, time)
end

-- The jobs whose index of runs is what it should be.
local looked_at = {}

-- Returns false for a record that is closed.
local function write_run(record, goes_on, grown)
  local key, known = RUN .. record.id, goes_on[record.id]
  local ended = record.status ~= 'running'
  local arguments = {'SET', key, record.text}
  if ended then
    arguments[4], arguments[5] = 'EX', lifetime
  end
  if not known then
    arguments[#arguments + 1] = 'NX'
  end
  if not redis.call(unpack(arguments)) then
    return false
  end
  if not looked_at[record.job] then
    looked_at[record.job] = is_sorted(RUNS .. record.job, true)
  end
  if not known then
    grow(grown, record)
  end
  goes_on[record.id] = not ended
  redis.call('ZADD', RUNS .. record.job, 0, record.id)
  if ended then
    redis.call('EXPIRE', RUNS .. record.job, lifetime)
  end
  if record.log ~= '' then
    redis.call('SET', LOG .. record.id, record.log, 'EX', lifetime)
  elseif known then
    redis.call('UNLINK', LOG .. record.id)
  end
  return true
end

local function write_missed(record, grown)
  local key, id = MISSED .. record.job, record.id
  is_sorted(key, true)
  redis.call('ZREMRANGEBYLEX', key, '[' .. id .. ' ', '(' .. id .. '!')
  redis.call('ZADD', key, 0, id .. ' ' .. record.text)
  redis.call('EXPIRE', key, lifetime)
  grow(grown, record)
end

local function write_running(run_ids, goes_on)
  local begun, ended = {}, {}
  for _, id in ipairs(run_ids) do
    local list = goes_on[id] and begun or ended
    list[#list + 1] = id
  end
  in_parts(begun, function(...) redis.call('SADD', RUNNING, ...) end)
  in_parts(ended, function(...) redis.call('SREM', RUNNING, ...) end)
end

local function write_states(latest)
  local jobs, flat = {}, {}
  for job in pairs(latest) do
    jobs[#jobs + 1] = job
  end
  local function compare(...)
    local part = {...}
    for index, known in ipairs(redis.call('HMGET', STATES, ...)) do
      local record = latest[part[index]]
      -- One that can't be read, or lies in the future, was written by nobody.
      local latest_id = known and string.match(known, '^%["([^"]*)"')
      local ahead = latest_id and made_at(latest_id) > made_at(record.id) + A_DAY
      if not latest_id or latest_id <= record.id or ahead or not pcall(cjson.decode, known) then
        flat[#flat + 1] = record.job
        flat[#flat + 1] = record.head
      end
    end
  end
  in_parts(jobs, compare)
  in_parts(flat, function(...) redis.call('HSET', STATES, ...) end)
end

local function write_oldest(grown)
  local flat = {}
  for job, time in pairs(grown) do
    flat[#flat + 1] = time
    flat[#flat + 1] = job
  end
  in_parts(flat, function(...) redis.call('ZADD', OLDEST, 'LT', ...) end)
end

local function tell(kind, texts)
  if #texts > 0 then
    -- A user who may not publish can still keep a history.
    redis.pcall('PUBLISH', EVENTS, '{"' .. kind .. '":' .. as_list(texts) .. '}')
  end
end

local function tell_all(kind, texts)
  local part, size = {}, 0
  for _, text in ipairs(texts) do
    part[#part + 1], size = text, size + #text
    if size > MAX_TOLD then
      tell(kind, part)
      part, size = {}, 0
    end
  end
  tell(kind, part)
end

local function somebody_listens()
  local found = redis.pcall('PUBSUB', 'NUMSUB', EVENTS)
  return tell_anyway or found.err or found[2] > 0
end

local operations = {}

function operations.write()
  local records, run_ids = read_records()
  local goes_on = which_run(run_ids)
  local grown, grown_missed, latest = {}, {}, {}
  local runs, missed = {}, {}
  for _, record in ipairs(records) do
    if record.status == 'missed' then
      write_missed(record, grown_missed)
      missed[#missed + 1] = record.text
    elseif write_run(record, goes_on, grown) then
      local other = latest[record.job]
      if not other or other.id <= record.id then
        latest[record.job] = record
      end
      runs[#runs + 1] = record.text
    end
  end
  write_running(run_ids, goes_on)
  write_states(latest)
  write_oldest(grown)
  write_oldest(grown_missed)
  for job in pairs(grown) do
    cut_back_runs(job)
  end
  for job in pairs(grown_missed) do
    cut_back_missed(job)
  end
  if somebody_listens() then
    tell_all('runs', runs)
    tell_all('missed', missed)
  end
  return '[]'
end

function operations.tell()
  redis.call('PUBLISH', prefix .. 'signals', '{"signals":[' .. ARGV[6] .. ']}')
  return '[]'
end

-- Reading.

local function records_of(ids)
  local keys = {}
  for index, id in ipairs(ids) do
    keys[index] = RUN .. id
  end
  return redis.call('MGET', unpack(keys))
end

function operations.states()
  if batch == cjson.null then
    return redis.call('HVALS', STATES)
  end
  local found = {}
  local function ask(...)
    for _, head in ipairs(redis.call('HMGET', STATES, ...)) do
      found[#found + 1] = head or nil
    end
  end
  in_parts(batch, ask)
  return found
end

local function has_status(text, id, status)
  local start = '[["' .. id .. '","' .. status .. '"'
  return string.sub(text, 1, #start) == start
end

-- The newest runs of some jobs, so many of each, newest first within a job; those between two ids, where these are given.
-- Ids, each with its run behind it.
function operations.runs()
  local jobs, limit, before, after, status = unpack(batch)
  local found, size = {}, math.min(limit, AT_A_TIME)
  local oldest = after ~= cjson.null and '(' .. after or '-'
  for _, job in ipairs(jobs) do
    local newest, enough = before ~= cjson.null and '(' .. before or '+', #found + 2 * limit
    while #found < enough and is_sorted(RUNS .. job) do
      local ids = redis.call('ZREVRANGEBYLEX', RUNS .. job, newest, oldest, 'LIMIT', 0, size)
      if #ids == 0 then
        break
      end
      for index, text in ipairs(records_of(ids)) do
        if text and #found < enough and (status == cjson.null or has_status(text, ids[index], status)) then
          found[#found + 1] = ids[index]
          found[#found + 1] = text
        end
      end
      if newest ~= '+' and newest <= '(' .. ids[#ids] then -- scores of somebody else's, which put them out of order
        break
      end
      newest = '(' .. ids[#ids]
    end
  end
  return found
end

function operations.run()
  local text, log = unpack(redis.call('MGET', RUN .. batch, LOG .. batch))
  return {text or nil, text and log or nil}
end

function operations.missed()
  local job, limit = unpack(batch)
  if not is_sorted(MISSED .. job) then
    return {}
  end
  local found = redis.call('ZREVRANGEBYLEX', MISSED .. job, '+', '-', 'LIMIT', 0, limit)
  for index, text in ipairs(found) do
    found[index] = string.sub(text, (string.find(text, ' ', 1, true) or 0) + 1)
  end
  return found
end

function operations.unfinished()
  local found, gone = {}, {}
  local function ask(...)
    local ids = {...}
    for index, text in ipairs(records_of(ids)) do
      if text then
        found[#found + 1] = ids[index]
        found[#found + 1] = text
      else -- the server dropped it, to make room
        gone[#gone + 1] = ids[index]
      end
    end
  end
  in_parts(redis.call('SMEMBERS', RUNNING), ask)
  in_parts(gone, function(...) redis.call('SREM', RUNNING, ...) end)
  return found
end

-- Upkeep.

-- The version that wrote what is there, and the oldest that may work on it; nil where that can't be read.
local function layout()
  local version, oldest = unpack(redis.call('HMGET', LAYOUT, 'version', 'compatible_from'))
  local found = version and string.match(version, '^%d%d?%d?%d?%d?%d?$') and tonumber(version)
  local needs = oldest and string.match(oldest, '^%d%d?%d?%d?%d?%d?$') and tonumber(oldest)
  if found and needs and needs >= 1 and needs <= found then
    return found, needs
  end
end

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
  return cjson.encode({found, needs})
end

-- How old what is left of a job may be, in milliseconds; nil where nothing is left.
local function oldest_of(job)
  local run = redis.call('ZRANGE', RUNS .. job, 0, 0)[1]
  local missed = redis.call('ZRANGE', MISSED .. job, 0, 0)[1]
  if run and missed then
    return math.min(made_at(run), made_at(missed))
  end
  return (run or missed) and made_at(run or missed)
end

-- Cut back some jobs to the number and the cutoff; what goes on is looked at again next time.
local function cut_back_all(jobs, cutoff)
  for _, job in ipairs(jobs) do
    is_sorted(RUNS .. job, true)
    is_sorted(MISSED .. job, true)
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

-- Jobs that have something too old; returns whether there may be more of them.
function operations.prune()
  local jobs = redis.call('ZRANGEBYSCORE', OLDEST, '-inf', '(' .. batch, 'LIMIT', 0, PRUNED_AT_A_TIME)
  cut_back_all(jobs, batch)
  return #jobs == PRUNED_AT_A_TIME and 'true' or 'false'
end

-- Whatever they have, the jobs at a cursor; returns the next cursor.
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
    is_sorted(RUNS .. job, true)
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

return operations[operation]()
