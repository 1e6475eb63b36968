-- For wrk: every request brings an X-Request-Id and an Authorization of its own.

local before, between, after
local number = 0

function init(args)
  wrk.headers["X-Request-Id"] = "NUMBER"
  wrk.headers["Authorization"] = "Bearer NUMBER"
  local request = wrk.format()
  local first, first_end = request:find("NUMBER", 1, true)
  local second, second_end = request:find("NUMBER", first_end + 1, true)
  before = request:sub(1, first - 1)
  between = request:sub(first_end + 1, second - 1)
  after = request:sub(second_end + 1)
end

function request()
  number = number + 1
  return before .. number .. between .. number .. after
end
