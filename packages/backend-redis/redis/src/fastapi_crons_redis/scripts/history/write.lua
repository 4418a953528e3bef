-- Writing: a batch of records.

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
  local records, facts, run_ids = {}, {}, {}
  local next_line = lines_of(ARGV[10])
  for index = 1, batch do
    facts[index] = next_line()
    records[index] = {head = next_line(), text = next_line(), log = next_line()}
  end
  for index, about in ipairs(cjson.decode(as_list(facts))) do
    local record = records[index]
    record.id, record.status, record.job = about[1], about[2], about[3]
    if record.status == 'missed' then
      record.first, record.last, record.count = about[6], about[7], about[8]
    else
      record.is_again = about[6]
      record.day, record.stop, record.took, record.bucket = about[7], about[8], about[9], about[10]
      run_ids[#run_ids + 1] = record.id
    end
  end
  return records, run_ids
end

local function grow(grown, record)
  local time = made_at(record.id)
  grown[record.job] = math.min(grown[record.job] or time, time)
end

-- Add to an index of a job; what else lies there goes.
local function add_to(index, member)
  if type(redis.pcall('ZADD', index, 0, member)) == 'table' then
    make_kind(index, 'zset')
    redis.call('ZADD', index, 0, member)
  end
end

-- Returns false for a run that is on record as ended: it never changes again. What can wait for the others goes into `later`.
local function write_run(record, is_running, grown, later)
  local id, index = record.id, RUNS .. record.job
  local known, ended = is_running[id], record.status ~= 'running'
  if not known then
    local is_new
    if ended and runs_expire then
      is_new = redis.call('SET', RUN .. id, record.text, 'NX', 'EX', lifetime)
    else
      is_new = redis.call('SET', RUN .. id, record.text, 'NX')
    end
    if not is_new then
      return false
    end
  elseif ended and runs_expire then
    redis.call('SET', RUN .. id, record.text, 'EX', lifetime)
  else
    later.texts[#later.texts + 1], later.texts[#later.texts + 2] = RUN .. id, record.text
  end
  if not known then
    grow(grown, record)
  end
  is_running[id] = not ended
  add_to(index, id)
  if ended and runs_expire then
    redis.call('EXPIRE', index, lifetime)
  elseif ended then -- earlier versions let it expire
    redis.call('PERSIST', index)
  end
  if ended and record.status ~= 'completed' then
    add_to(FAILED, id .. ' ' .. record.job)
  end
  if record.is_again and not known then
    add_to(AGAIN, id .. ' ' .. record.job)
  end
  if record.log == '' then
    later.no_log[#later.no_log + 1] = known and LOG .. id or nil
  elseif runs_expire then
    redis.call('SET', LOG .. id, record.log, 'EX', lifetime)
  else
    redis.call('SET', LOG .. id, record.log)
  end
  return true
end

-- Write a record of missed ticks in the place of the one with its id, and count what it adds to that.
local function write_missed(record, grown, missed_on)
  local key, id = MISSED_OF .. record.job, record.id
  make_kind(key, 'zset')
  make_kind(MISSED, 'zset')
  local before = redis.call('ZRANGEBYLEX', key, between(id))
  for _, member in ipairs(before) do
    local known = decoded(string.sub(member, #id + 2))
    local more = known and type(known[2]) == 'table' and known[2] or {}
    spread(missed_on, record.job, more[1], more[2], more[3], -1)
    redis.call('ZREM', key, member)
    redis.call('ZREMRANGEBYLEX', MISSED, between(id))
  end
  spread(missed_on, record.job, record.first, record.last, record.count, 1)
  redis.call('ZADD', key, 0, id .. ' ' .. record.text)
  redis.call('ZADD', MISSED, 0, string.format('%s %d %d %s', id, record.first, record.last, record.job))
  redis.call('EXPIRE', key, lifetime)
  grow(grown, record)
end

local function write_running(run_ids, is_running)
  local begun, ended = {}, {}
  for _, id in ipairs(run_ids) do
    local list = is_running[id] and begun or ended
    list[#list + 1] = id
  end
  in_parts(begun, function(...) redis.call('SADD', RUNNING, ...) end)
  in_parts(ended, function(...) redis.call('SREM', RUNNING, ...) end)
end

local function is_ahead(id, other)
  return made_at(id) > made_at(other) + 1000 * A_DAY
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
      -- One that can't be read, or lies in the future, is damaged.
      local latest_id = known and string.match(known, '^%["([^"]*)"')
      if not latest_id or latest_id <= record.id or is_ahead(latest_id, record.id) or not decoded(known) then
        flat[#flat + 1] = record.job
        flat[#flat + 1] = record.head
      end
    end
  end
  in_parts(jobs, compare)
  in_parts(flat, function(...) redis.call('HSET', STATES, ...) end)
end

-- Note the times of new records. A job whose runs were all to be kept is looked at again: the oldest may go for the new ones.
local function write_oldest(grown)
  local jobs, flat = {}, {}
  for job in pairs(grown) do
    jobs[#jobs + 1] = job
  end
  if #jobs > 0 then
    make_kind(OLDEST, 'zset')
  end
  local function compare(...)
    local part = {...}
    for place, known in ipairs(redis.call('ZMSCORE', OLDEST, ...)) do
      local job, score = part[place], tonumber(known or nil)
      if not score or score > grown[job] then
        flat[#flat + 1] = score == PARKED and 0 or grown[job]
        flat[#flat + 1] = job
      end
    end
  end
  in_parts(jobs, compare)
  in_parts(flat, function(...) redis.call('ZADD', OLDEST, ...) end)
end

function operations.write()
  make_kind(STATES, 'hash')
  make_kind(RUNNING, 'set')
  local records, run_ids = read_records()
  local is_running = which_are_running(run_ids)
  local grown, grown_missed, latest = {}, {}, {}
  local runs, missed, ended, missed_on, later = {}, {}, {}, {}, {texts = {}, no_log = {}}
  for _, record in ipairs(records) do
    if record.status == 'missed' then
      write_missed(record, grown_missed, missed_on)
      missed[#missed + 1] = record.text
    else
      local is_news = not (is_running[record.id] and record.status == 'running')
      if write_run(record, is_running, grown, later) then
        local other = latest[record.job]
        if not other or other.id <= record.id then
          latest[record.job] = record
        end
        ended[#ended + 1] = record.day and record or nil
        runs[#runs + 1] = is_news and record.text or nil
      end
    end
  end
  in_parts(later.texts, function(...) redis.call('MSET', ...) end)
  delete(later.no_log)
  write_running(run_ids, is_running)
  write_states(latest)
  write_oldest(grown)
  write_oldest(grown_missed)
  count(by_day(ended, missed_on))
  write_successes(ended)
  may_cut = batch + 100
  for job in pairs(grown) do
    cut_back_to_number(job)
  end
  for job in pairs(grown_missed) do
    cut_back_missed(job)
  end
  if has_subscribers() then
    publish_all('runs', runs)
    publish_all('missed', missed)
  end
  return '[]'
end
