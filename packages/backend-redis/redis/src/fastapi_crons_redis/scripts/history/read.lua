-- Reading. Whatever may be much is read in steps: an operation stops when it has done enough, and says where to go on.

-- How many ids a step looks at, how many records it reads, and how many bytes of them.
local MOST_IDS, MOST_RECORDS, MOST_BYTES = 5000, 1000, 2000000
local STEP = 500
-- How many pages of AT_A_TIME ids a step looks through, of jobs that have more than one.
local MOST_PAGES = 20

local function records_of(ids)
  local keys = {}
  for index, id in ipairs(ids) do
    keys[index] = RUN .. id
  end
  return #keys > 0 and redis.call('MGET', unpack(keys)) or {}
end

local function as_set(list)
  local set = {}
  for _, value in ipairs(list) do
    set[value] = true
  end
  return set
end

-- Add to a list what a hash has of some jobs: each job with its text behind it.
local function add_texts(found, key, jobs)
  local function ask(...)
    local part = {...}
    for place, text in ipairs(redis.call('HMGET', key, ...)) do
      if text then
        found[#found + 1], found[#found + 2] = part[place], text
      end
    end
  end
  in_parts(jobs, ask)
  return found
end

-- The heads of the latest runs of some jobs, or as far as one step goes of all; with their last successes, where these are wanted,
-- each behind its job. Before them the cursor of the next step.
function operations.states()
  local jobs, cursor, wants_successes = unpack(batch)
  local heads = {}
  if jobs == null then
    local texts
    cursor, texts = unpack(redis.call('HSCAN', STATES, cursor, 'COUNT', AT_A_TIME))
    jobs = {}
    for place = 1, #texts, 2 do
      jobs[#jobs + 1], heads[#heads + 1] = texts[place], texts[place + 1]
    end
  else
    in_parts(jobs, function(...)
      for _, head in ipairs(redis.call('HMGET', STATES, ...)) do
        heads[#heads + 1] = head or nil
      end
    end)
  end
  wants_successes = wants_successes and is_kind(SUCCESSES, 'hash')
  return {cursor, heads, wants_successes and add_texts({}, SUCCESSES, jobs) or {}}
end

local function status_in(text, id)
  local start = '[["' .. id .. '","'
  return string.sub(text, 1, #start) == start and string.match(text, '^%a[%a_]*', #start + 1)
end

local function trigger_in(text)
  local run = decoded(text)
  return run and type(run[2]) == 'table' and run[2][2]
end

-- The end of a run, behind its tick, trigger, attempt and token; nil where it has none. No name that comes before can look like this:
-- a quote in it has a backslash. To decode all that a run holds, traceback and result, would take longer than all else.
local function ended_in(text)
  return tonumber(string.match(text, '%],%[[^,]*,"[%a_]+",[^,]*,[^,]*,([^,]*)') or '')
end

-- Whether a run is one of those that are wanted: with any of some statuses and of some triggers, and under way since an instant, where
-- these are named.
local function wants(statuses, triggers, since)
  local of_status, of_trigger = #statuses > 0 and as_set(statuses), #triggers > 0 and as_set(triggers)
  -- A run that was claimed later need not be read for its end.
  local claimed_then = since ~= null and id_before(math.max(0, math.floor(since * 1000)))
  return function(text, id)
    return (not of_status or of_status[status_in(text, id)]) and (not of_trigger or of_trigger[trigger_in(text)])
      and (since == null or id > claimed_then or (ended_in(text) or math.huge) >= since)
  end
end

-- The newest ids of a job's runs between two bounds, newest first. Most jobs have no second index.
local function ids_of(job, newest, oldest, size)
  local found = {}
  if is_kind(RUNS .. job, 'zset') then
    found = redis.call('ZREVRANGEBYLEX', RUNS .. job, newest, oldest, 'LIMIT', 0, size)
  end
  if redis.call('TYPE', FAILED_OF .. job).ok == 'zset' then
    for _, id in ipairs(redis.call('ZREVRANGEBYLEX', FAILED_OF .. job, newest, oldest, 'LIMIT', 0, size)) do
      found[#found + 1] = id
    end
    table.sort(found, function(one, other) return one > other end)
    truncate(found, size)
  end
  return found
end

-- Show the ids of jobs' runs, newest first within a job: those before one id and behind another, where these are given. `show` gets
-- some of them at a time; it says whether it wants more of the job, and whether this step has done enough. Returns how many of the
-- jobs are done, and before which id the next one goes on, '' for its first.
local function go_through(jobs, resume, before, after, size, show)
  local oldest = after ~= null and '(' .. after or '-'
  for place, job in ipairs(jobs) do
    local stop = place == 1 and resume ~= '' and resume or before
    local newest, wants_more, is_enough = stop ~= null and '(' .. stop or '+', true, false
    while wants_more do
      local ids = ids_of(job, newest, oldest, size)
      -- Damaged scores put them out of order.
      if #ids == 0 or (newest ~= '+' and newest <= '(' .. ids[#ids]) then
        break
      end
      wants_more, is_enough = show(job, ids)
      if is_enough then
        return wants_more and place - 1 or place, wants_more and ids[#ids] or ''
      end
      wants_more = wants_more and #ids == size
      newest = '(' .. ids[#ids]
    end
  end
  return #jobs, ''
end

-- The newest runs of some jobs, so many of each. How many jobs are done, before which id the next one goes on, and then ids, each
-- with its run behind it.
function operations.runs()
  local jobs, resume, limit, before, after, statuses, triggers, under_way_since = unpack(batch)
  local found, seen, bytes, of_job, last_job = {'', ''}, 0, 0, 0, nil
  local is_wanted = wants(statuses, triggers, under_way_since)
  local function show(job, ids)
    if job ~= last_job then
      of_job, last_job = 0, job
    end
    for place, text in ipairs(records_of(ids)) do
      if text and of_job < limit and is_wanted(text, ids[place]) then
        found[#found + 1], found[#found + 2] = ids[place], text
        of_job, bytes = of_job + 1, bytes + #text
      end
    end
    seen = seen + #ids
    return of_job < limit, seen >= MOST_RECORDS or bytes > MOST_BYTES
  end
  local done, from = go_through(jobs, resume, before, after, math.min(limit, STEP), show)
  found[1], found[2] = tostring(done), from
  return found
end

-- The ids of the runs of some jobs that begin or end with a text, in any order. Before them: how many of the jobs' indexes are done, and
-- the cursor with which the next one goes on. The server looks at all ids itself, which costs least; a job has few enough for one step.
function operations.ids()
  local indexes, cursor, part = unpack(batch)
  local ending = string.rep('?', ID_LENGTH - #part) .. string.gsub(part, '[^%w-]', '\\%0')
  local found, many = {'', ''}, 0
  for place, index in ipairs(indexes) do
    local key = prefix .. index
    repeat
      local page = redis.pcall('ZSCAN', key, cursor, 'MATCH', ending, 'COUNT', AT_A_TIME)
      cursor = page[1] or '0' -- it has none where something else lies there
      for at = 1, #(page[2] or {}), 2 do
        found[#found + 1] = page[2][at]
      end
      many = cursor == '0' and many or many + 1
      if many >= MOST_PAGES then
        found[1], found[2] = tostring(place - 1), cursor
        return found
      end
    until cursor == '0'
    for _, id in ipairs(redis.pcall('ZRANGEBYLEX', key, '[' .. part, '[' .. part .. '\255')) do
      found[#found + 1] = id
    end
  end
  found[1], found[2] = tostring(#indexes), '0'
  return found
end

-- Show the members of an index across jobs, newest first: those before one text and behind another, where these are given. `show`
-- gets some of them at a time, returns the members that are gone, which are taken out, and whether this step has done enough.
-- Returns before which member to go on, '' at the end of the index.
local function go_through_all(key, before, after, size, show)
  local newest = before ~= null and '(' .. before or '+'
  local oldest, seen, is_enough, gone = after ~= null and '(' .. after or '-', 0, not is_kind(key, 'zset'), {}
  while not is_enough do
    local members = redis.call('ZREVRANGEBYLEX', key, newest, oldest, 'LIMIT', 0, size)
    if #members == 0 or (newest ~= '+' and newest <= '(' .. members[#members]) then
      return ''
    end
    gone, is_enough = show(members)
    in_parts(gone, function(...) redis.call('ZREM', key, ...) end)
    seen, newest = seen + #members, '(' .. members[#members]
    is_enough = is_enough or seen >= MOST_IDS
  end
  return string.sub(newest, 2)
end

-- Runs of all jobs, or of some, in an index of such runs: `failed` or `again`. Before which member to go on, and then ids, each with its run behind it.
function operations.indexed()
  local index, jobs, limit, before, after, statuses, triggers, under_way_since = unpack(batch)
  local found, seen, bytes = {''}, 0, 0
  local is_wanted = wants(statuses, triggers, under_way_since)
  local of_jobs = jobs ~= null and as_set(jobs)
  local function show(members)
    local ids, of, gone = {}, {}, {}
    for _, member in ipairs(members) do
      local id, job = string.match(member, '^([^ ]*) (.*)$')
      if id and (not of_jobs or of_jobs[job]) then
        ids[#ids + 1], of[#of + 1] = id, member
      end
    end
    for place, text in ipairs(records_of(ids)) do
      if not text then
        gone[#gone + 1] = of[place]
      elseif is_wanted(text, ids[place]) then
        found[#found + 1], found[#found + 2] = ids[place], text
        bytes = bytes + #text
      end
    end
    seen = seen + #ids
    return gone, #found > 2 * limit or seen >= MOST_RECORDS or bytes > MOST_BYTES
  end
  found[1] = go_through_all(prefix .. index, before, after, math.min(math.max(limit, 20), STEP), show)
  return found
end

-- Records of missed ticks of all jobs, or of some, with ticks of a time. Before which member to go on, and then the records.
function operations.missed_of_all()
  local before, since, stop, limit, jobs = unpack(batch)
  local found, of_jobs = {''}, jobs ~= null and as_set(jobs)
  since, stop = since ~= null and since or -math.huge, stop ~= null and stop or math.huge
  local function show(members)
    local gone = {}
    for _, member in ipairs(members) do
      local id, first, last, job = string.match(member, '^([^ ]*) (%-?%d+) (%-?%d+) (.*)$')
      if id and (not of_jobs or of_jobs[job]) and tonumber(last) >= since and tonumber(first) < stop then
        local key = MISSED_OF .. job
        local known = is_kind(key, 'zset') and redis.call('ZRANGEBYLEX', key, between(id))[1]
        if known then
          found[#found + 1] = string.sub(known, #id + 2)
        else
          gone[#gone + 1] = member
        end
      end
    end
    return gone, #found > math.min(limit, MOST_RECORDS)
  end
  found[1] = go_through_all(MISSED, before, null, math.min(math.max(limit, 20), STEP), show)
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

local function missed_of(job, newest, limit, found)
  local members = is_kind(MISSED_OF .. job, 'zset')
    and redis.call('ZREVRANGEBYLEX', MISSED_OF .. job, newest, '-', 'LIMIT', 0, limit) or {}
  for _, member in ipairs(members) do
    found[#found + 1] = string.sub(member, (string.find(member, ' ', 1, true) or 0) + 1)
  end
  return #members == limit and string.match(members[#members], '^[^ ]*') or ''
end

-- The newest records of missed ticks of some jobs, so many of each.
function operations.missed()
  local found = {}
  for _, job in ipairs(batch[1]) do
    missed_of(job, '+', batch[2], found)
  end
  return found
end

-- Some records of missed ticks of a job, newest first, those before an id where one is given. Before which id to go on, '' at the end.
function operations.missed_of_one()
  local job, limit, before = unpack(batch)
  local found = {''}
  found[1] = missed_of(job, before ~= null and '(' .. before or '+', limit, found)
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

-- The days that have figures, from one to another.
function operations.days()
  return is_kind(DAYS, 'zset') and redis.call('ZRANGEBYSCORE', DAYS, batch[1], batch[2]) or {}
end

-- The figures of all jobs on a day, as far as one step goes. The cursor of the next step, and jobs, each with its figures behind it.
function operations.figures_of_all()
  local day, cursor = unpack(batch)
  if not is_kind(FIGURES .. day, 'hash') then
    return {'0'}
  end
  local next_cursor, found = unpack(redis.call('HSCAN', FIGURES .. day, cursor, 'COUNT', AT_A_TIME))
  table.insert(found, 1, next_cursor)
  return found
end

-- The figures of some jobs on some days: for each day a list, each job with its figures behind it.
function operations.figures()
  local days, jobs = unpack(batch)
  local found = {}
  for place, day in ipairs(days) do
    found[place] = is_kind(FIGURES .. day, 'hash') and add_texts({}, FIGURES .. day, jobs) or {}
  end
  return found
end
