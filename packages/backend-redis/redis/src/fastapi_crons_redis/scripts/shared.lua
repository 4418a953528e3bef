-- What the scripts of both stores need.

local null = cjson.null
-- How many arguments one call gets: Lua's stack is limited.
local AT_A_TIME = 1000

local function in_parts(list, call)
  for first = 1, #list, AT_A_TIME do
    call(unpack(list, first, math.min(first + AT_A_TIME - 1, #list)))
  end
end

local function truncate(list, length)
  for index = #list, length + 1, -1 do
    list[index] = nil
  end
end

-- The list or mapping that a text holds as JSON; nil where it is damaged.
local function decoded(text)
  local decoded_well, value = pcall(cjson.decode, text)
  return decoded_well and type(value) == 'table' and value or nil
end

-- What was passed over or repaired because it was damaged, by name. Python logs it.
local damaged = {}

local function note(what)
  if #damaged < 100 then
    damaged[#damaged + 1] = what
  end
end

-- Whether a key holds this kind of value, or nothing.
local function is_kind(key, kind)
  local found = redis.call('TYPE', key).ok
  return found == kind or found == 'none'
end

-- Delete a key with another kind of value: no instance wrote it, and every command for the right kind would fail.
local function make_kind(key, kind)
  if not is_kind(key, kind) then
    redis.call('UNLINK', key)
    note('key ' .. key)
  end
end

local function number_in(text)
  return text and string.match(text, '^%d%d?%d?%d?%d?%d?$') and tonumber(text)
end

-- Compare the layout on record with ours, and write ours where that one is older, missing or damaged.
-- Returns the version that wrote it, and the oldest version that may use it.
local function open_layout(key, version, oldest, to_read)
  local found, needs = unpack(redis.call('HMGET', key, 'version', 'compatible_from'))
  found, needs = number_in(found), number_in(needs)
  if not (found and needs and needs >= 1 and needs <= found) then
    found, needs = 0, oldest
  end
  if not to_read and needs <= version and found < version then
    redis.call('HSET', key, 'version', version, 'compatible_from', oldest)
    found, needs = version, oldest
  end
  return found, needs
end
