-- What the script returns.

local answer = operations[operation]()
return (type(answer) == 'string' and #damaged > 0) and {answer, unpack(damaged)} or answer
