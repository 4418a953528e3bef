-- The history of runs: what is on record, and what of it is too old or too much. Runs go through as the text they are.
--
-- KEYS, all in one hash slot:
--   states   hash: job -> the head of its latest run
--   running  set: ids of the runs that are on record as running
--   oldest   sorted set: jobs by a time (milliseconds) that no record of theirs is older than
--   layout   hash: the version that wrote this, and the oldest that may use it
-- Under the same prefix:
--   runs:<job>    sorted set: ids of its runs; they sort by time
--   run:<id>      a run without its log, as JSON: [head, more], where the head is [id, status, job, instance, start]
--   log:<id>      its log, as JSON
--   missed:<job>  sorted set: its missed ticks, each "<id> <JSON>", so that they sort by time
--   events        the channel on which all that is written is published
--   signals       the channel on which instances send signals to each other
-- What has ended expires by itself, and with the last of it its job's index.
-- ARGV: operation, prefix, how many records a job keeps, seconds after which what has ended expires, whether to publish even
-- where no subscriber is seen, the operation's own batch as JSON, and the records of a write.
local operation, prefix, keep, lifetime, publish_anyway = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5] == '1'
local batch = cjson.decode(ARGV[6])
local RUNS, RUN, LOG, MISSED, EVENTS = prefix .. 'runs:', prefix .. 'run:', prefix .. 'log:', prefix .. 'missed:', prefix .. 'events'

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

-- Delete those of the keys above that no command of ours would work on.
local function check_keys()
  make_kind(STATES, 'hash')
  make_kind(RUNNING, 'set')
  make_kind(OLDEST, 'zset')
  make_kind(LAYOUT, 'hash')
end

-- Which of these runs are on record as running, by id.
local function which_are_running(ids)
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
  local is_running, ended, keys = which_are_running(ids), {}, {}
  for _, id in ipairs(ids) do
    if not is_running[id] then
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
