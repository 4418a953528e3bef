-- The history of runs: what is on record, and how it is found. Runs go through as the text they are.
--
-- KEYS, all in one hash slot:
--   states     hash: job -> the head of its latest run
--   running    set: ids of the runs that are on record as running
--   oldest     sorted set: jobs by a time (milliseconds) that no record of theirs is older than, but for runs that are kept however
--              old they are; PARKED for a job that has only such
--   layout     hash: the version that wrote this, the oldest that may use it, and whether what was there before is in the indexes
--   successes  hash: job -> "<failures> <run> <end> <seconds>": how many runs have failed since one completed last, and that one
--   failed     sorted set: the runs of all jobs that have ended and did not complete, each "<id> <job>"
--   missed     sorted set: the missed ticks of all jobs, each "<id> <first> <last> <job>"
--   days       sorted set: the days that have figures
--   again      sorted set: the runs of all jobs that ran ticks again, each "<id> <job>"
--   backfills  hash: id -> a backfill, as JSON
-- Under the same prefix:
--   runs:<job>     sorted set: ids of its newest runs; they sort by time
--   failed:<job>   sorted set: ids of its older runs that did not complete
--   run:<id>       a run without its log, as JSON: [head, more], where the head is [id, status, job, instance, start]
--   log:<id>       its log, as JSON
--   missed:<job>   sorted set: its missed ticks, each "<id> <JSON>", so that they sort by time
--   figures:<day>  hash: job -> its figures of that day, as counting.lua explains them
--   events         the channel on which all that is written is published
--   signals        the channel on which instances send signals to each other
-- The indexes across jobs may hold what is gone: earlier versions delete runs, and don't know of them.
-- Where no run is kept however old it is, what has ended expires by itself, and with the last of it its job's index.
-- ARGV: operation, prefix, the limits (how many runs, how many that did not complete, and how many however old; seconds after which
-- what has ended, and a day's figures, expire), whether to publish even where no subscriber is seen, the operation's own batch as
-- JSON, and the records of a write.
local operation, prefix = ARGV[1], ARGV[2]
local keep, keep_failed, keep_always = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local lifetime, figures_lifetime, publish_anyway = ARGV[6], ARGV[7], ARGV[8] == '1'
local runs_expire = keep_always == 0
local batch = cjson.decode(ARGV[9])
local RUNS, FAILED_OF, RUN, LOG = prefix .. 'runs:', prefix .. 'failed:', prefix .. 'run:', prefix .. 'log:'
local MISSED_OF, FIGURES, EVENTS = prefix .. 'missed:', prefix .. 'figures:', prefix .. 'events'
local PARKED = 1e15

local operations = {}

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
  make_kind(SUCCESSES, 'hash')
  make_kind(FAILED, 'zset')
  make_kind(MISSED, 'zset')
  make_kind(DAYS, 'zset')
  make_kind(AGAIN, 'zset')
  make_kind(BACKFILLS, 'hash')
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

-- The members of a sorted set whose record has this id, in an index of records by id.
local function between(id)
  return '[' .. id .. ' ', '(' .. id .. '!'
end
