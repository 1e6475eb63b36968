-- For wrk: every request brings an X-Request-Id and an Authorization of its own.

local before, between, after, token_first
local number = 0
-- LOAD_TOKENS names a file with one token a line, which are sent in turns.
local tokens = {}

function init(args)
  local file = os.getenv("LOAD_TOKENS")
  if file then
    for line in io.lines(file) do tokens[#tokens + 1] = line end
  end
  wrk.headers["X-Request-Id"] = "NUMBER"
  wrk.headers["Authorization"] = "Bearer TOKEN"
  local request = wrk.format()
  local number_at, number_end = request:find("NUMBER", 1, true)
  local token_at, token_end = request:find("TOKEN", 1, true)
  -- Headers stand in no order that is known.
  token_first = token_at < number_at
  local first, first_end, second, second_end = number_at, number_end, token_at, token_end
  if token_first then
    first, first_end, second, second_end = token_at, token_end, number_at, number_end
  end
  before = request:sub(1, first - 1)
  between = request:sub(first_end + 1, second - 1)
  after = request:sub(second_end + 1)
end

function request()
  number = number + 1
  local token = number
  if #tokens > 0 then token = tokens[number % #tokens + 1] end
  if token_first then return before .. token .. between .. number .. after end
  return before .. number .. between .. token .. after
end
