-- Reading.

local function records_of(ids)
  local keys = {}
  for index, id in ipairs(ids) do
    keys[index] = RUN .. id
  end
  return redis.call('MGET', unpack(keys))
end

function operations.states()
  if batch == null then
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
  local oldest = after ~= null and '(' .. after or '-'
  for _, job in ipairs(jobs) do
    local newest, enough = before ~= null and '(' .. before or '+', #found + 2 * limit
    while #found < enough and is_kind(RUNS .. job, 'zset') do
      local ids = redis.call('ZREVRANGEBYLEX', RUNS .. job, newest, oldest, 'LIMIT', 0, size)
      if #ids == 0 then
        break
      end
      for index, text in ipairs(records_of(ids)) do
        if text and #found < enough and (status == null or has_status(text, ids[index], status)) then
          found[#found + 1] = ids[index]
          found[#found + 1] = text
        end
      end
      if newest ~= '+' and newest <= '(' .. ids[#ids] then -- damaged scores put them out of order
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

-- Ids, each with its run and its log behind it.
function operations.runs_by_id()
  local found = {}
  local function ask(...)
    local ids, keys = {...}, {}
    for index, id in ipairs(ids) do
      keys[index] = LOG .. id
    end
    local logs = redis.call('MGET', unpack(keys))
    for index, text in ipairs(records_of(ids)) do
      if text then
        found[#found + 1] = ids[index]
        found[#found + 1] = text
        found[#found + 1] = logs[index]
      end
    end
  end
  in_parts(batch, ask)
  return found
end

function operations.missed()
  local jobs, limit = unpack(batch)
  local found = {}
  for _, job in ipairs(jobs) do
    if is_kind(MISSED .. job, 'zset') then
      for _, text in ipairs(redis.call('ZREVRANGEBYLEX', MISSED .. job, '+', '-', 'LIMIT', 0, limit)) do
        found[#found + 1] = string.sub(text, (string.find(text, ' ', 1, true) or 0) + 1)
      end
    end
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
      else -- the server evicted it
        gone[#gone + 1] = ids[index]
      end
    end
  end
  in_parts(redis.call('SMEMBERS', RUNNING), ask)
  in_parts(gone, function(...) redis.call('SREM', RUNNING, ...) end)
  return found
end
