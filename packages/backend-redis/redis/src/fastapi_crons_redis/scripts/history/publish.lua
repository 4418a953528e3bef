-- Publishing: what is written, and signals.

-- How much goes in one message: a server disconnects subscribers that have too much in front of them.
local MAX_PUBLISHED = 1000000

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

function operations.publish()
  redis.call('PUBLISH', prefix .. 'signals', '{"signals":[' .. ARGV[9] .. ']}')
  return '[]'
end
