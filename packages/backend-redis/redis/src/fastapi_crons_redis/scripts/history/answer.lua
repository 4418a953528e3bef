-- What the script returns.

-- Texts as one, because a client takes long to read an answer of many parts: in the first line their lengths, -1 for none, and behind
-- it the texts. A list among them is put together likewise.
local function together(list)
  local lengths, texts = {}, {}
  for place, text in ipairs(list) do
    text = type(text) == 'table' and together(text) or text
    lengths[place], texts[place] = text and #text or -1, text or ''
  end
  return table.concat(lengths, ' ') .. '\n' .. table.concat(texts)
end

local answer = operations[operation]()
answer = type(answer) == 'table' and together(answer) or answer
return #damaged > 0 and {answer, unpack(damaged)} or answer
