-- Writing: a batch of records, and what is published of it.

-- How much goes in one message: a server disconnects subscribers that have too much in front of them.
local MAX_PUBLISHED = 1000000
local A_DAY = 86400000

local operations = {}

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

-- The jobs whose index of runs has been checked.
local checked = {}

-- Returns false for a run that is on record as ended: it never changes again.
local function write_run(record, is_running, grown)
  local key, known = RUN .. record.id, is_running[record.id]
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
  if not checked[record.job] then
    make_kind(RUNS .. record.job, 'zset')
    checked[record.job] = true
  end
  if not known then
    grow(grown, record)
  end
  is_running[record.id] = not ended
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
  make_kind(key, 'zset')
  redis.call('ZREMRANGEBYLEX', key, '[' .. id .. ' ', '(' .. id .. '!')
  redis.call('ZADD', key, 0, id .. ' ' .. record.text)
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
      local ahead = latest_id and made_at(latest_id) > made_at(record.id) + A_DAY
      if not latest_id or latest_id <= record.id or ahead or not decoded(known) then
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

local function publish(kind, texts)
  if #texts > 0 then
    -- A Redis user without the right to publish can still keep a history.
    redis.pcall('PUBLISH', EVENTS, '{"' .. kind .. '":' .. as_list(texts) .. '}')
  end
end

local function publish_all(kind, texts)
  local part, size = {}, 0
  for _, text in ipairs(texts) do
    part[#part + 1], size = text, size + #text
    if size > MAX_PUBLISHED then
      publish(kind, part)
      part, size = {}, 0
    end
  end
  publish(kind, part)
end

local function has_subscribers()
  local found = redis.pcall('PUBSUB', 'NUMSUB', EVENTS)
  return publish_anyway or found.err or found[2] > 0
end

function operations.write()
  check_keys()
  local records, run_ids = read_records()
  local is_running = which_are_running(run_ids)
  local grown, grown_missed, latest = {}, {}, {}
  local runs, missed = {}, {}
  for _, record in ipairs(records) do
    if record.status == 'missed' then
      write_missed(record, grown_missed)
      missed[#missed + 1] = record.text
    else
      local is_news = not (is_running[record.id] and record.status == 'running')
      if write_run(record, is_running, grown) then
        local other = latest[record.job]
        if not other or other.id <= record.id then
          latest[record.job] = record
        end
        runs[#runs + 1] = is_news and record.text or nil
      end
    end
  end
  write_running(run_ids, is_running)
  write_states(latest)
  write_oldest(grown)
  write_oldest(grown_missed)
  for job in pairs(grown) do
    cut_back_runs(job)
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

function operations.publish()
  redis.call('PUBLISH', prefix .. 'signals', '{"signals":[' .. ARGV[6] .. ']}')
  return '[]'
end
