-- For wrk: every request brings an X-Request-Id and an Authorization of its own.

local before, between, after
local number = 0
-- LOAD_TOKENS names a file with one token a line, which are sent in turns.
local tokens = {}

function init(args)
  local file = os.getenv("LOAD_TOKENS")
  if file then
    for line in io.lines(file) do tokens[#tokens + 1] = line end
  end
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
  local token = number
  if #tokens > 0 then token = tokens[number % #tokens + 1] end
  return before .. number .. between .. token .. after
end
