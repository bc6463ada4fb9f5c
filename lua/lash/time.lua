--- lash.time: points of time as text and back: RFC 3339, and the dates of HTTP. In UTC, by the Gregorian
-- calendar at all times; neither the time zone nor the locale of the process matters.
--
--   lash.time.format(lash.time.now())                        2026-11-21T14:46:07Z
--   lash.time.format(0, { digits = 3, offset = "+02:00" })   1970-01-01T02:00:00.000+02:00
--   local seconds, exact = lash.time.parse("1985-04-12T23:20:50.52Z")
--
-- Failures are `nil, err` with err.code == "time", err.message and err.position (in bytes, from 1).
local json = require "lash.json"
local misuse = require "lash.misuse"
local timer = require "lash.core.timer"

local M = {}

local DAY = 86400
local FIRST, LAST = -62167219200, 253402300799 -- the years 0000 to 9999 in UTC
local OPTIONS = { "digits", "offset" }
local MONTHS = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" }
local DAYS = { "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday" }
local MONTH_DAYS = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 }
for i, name in ipairs(MONTHS) do
    MONTHS[name] = i
end

--- now() -> seconds: number
-- Since 1970-01-01 00:00 UTC, a float; the same as lash.now().
M.now = timer.now

-- Days from 1970-01-01 to a date: eras of 400 years that begin in March.
local function days_of(year, month, day)
    if month <= 2 then
        year, month = year - 1, month + 12
    end
    local era = year // 400
    local of_era = year - era * 400
    local of_year = (153 * (month - 3) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468
end

-- The other way: -> year, month, day
local function date_of(days)
    days = days + 719468
    local era = days // 146097
    local of_era = days - era * 146097
    local year = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
    local of_year = of_era - (365 * year + year // 4 - year // 100)
    local march = (5 * of_year + 2) // 153
    local day = of_year - (153 * march + 2) // 5 + 1
    local month = march < 10 and march + 3 or march - 9
    return era * 400 + year + (month <= 2 and 1 or 0), month, day
end

local function month_days(year, month)
    local leap = year % 4 == 0 and (year % 100 ~= 0 or year % 400 == 0)
    return month == 2 and leap and 29 or MONTH_DAYS[month]
end

-- Reading ---------------------------------------------------------------------------------------

local function fault(kind, position, text, ...)
    return nil, setmetatable({ code = "time", position = position,
        message = ("no %s: position %d: %s"):format(kind, position, text:format(...)) }, json.error_mt)
end

local function shown(text, first, last)
    local found = text:sub(first, last)
    return found == "" and "the end" or ("%q"):format(found)
end

-- What stands in a full date-time: name, how many digits, the least, the greatest, what follows.
local FIELDS = {
    { "year", 4, 0, 9999, "-", "-" }, { "month", 2, 1, 12, "-", "-" }, { "day", 2, 1, 31, "T", "[Tt]" },
    { "hour", 2, 0, 23, ":", ":" }, { "minute", 2, 0, 59, ":", ":" }, { "second", 2, 0, 60 },
}

local RFC = "RFC 3339 time"

-- -> table of the fields, position behind them | nil, err
local function read_fields(text)
    local found, at = {}, 1
    for _, field in ipairs(FIELDS) do
        local name, width, least, greatest, sign, pattern = table.unpack(field, 1, 6)
        local digits = text:match("^[0-9]+", at) or ""
        if #digits ~= width then
            return fault(RFC, at, "expected %d digits of the %s, found %s", width, name,
                shown(text, at, at + width - 1))
        end
        local value = math.tointeger(tonumber(digits))
        if value < least or value > greatest then
            return fault(RFC, at, "the %s is from %02d to %02d, found %s", name, least, greatest, digits)
        end
        found[name] = value
        at = at + width
        if sign then
            if not text:find("^" .. pattern, at) then
                return fault(RFC, at, "expected '%s' after the %s, found %s", sign, name, shown(text, at, at))
            end
            at = at + 1
        end
    end
    local last = month_days(found.year, found.month)
    if found.day > last then
        return fault(RFC, 9, "month %02d of %04d has %d days, found %02d", found.month, found.year, last, found.day)
    end
    return found, at
end

-- -> nanoseconds, position behind them | nil, err
local function read_fraction(text, at)
    if text:sub(at, at) ~= "." then
        return 0, at
    end
    local _, last = text:find("^[0-9]+", at + 1)
    if not last then
        return fault(RFC, at + 1, "expected digits after the dot, found %s", shown(text, at + 1, at + 1))
    end
    local nine = (text:sub(at + 1, math.min(last, at + 9)) .. "00000000"):sub(1, 9)
    return math.tointeger(tonumber(nine)), last + 1
end

-- -> seconds east of UTC, position behind them | nil, err
local function read_offset(text, at)
    if text:find("^[Zz]", at) then
        return 0, at + 1
    end
    local sign, hours, minutes = text:match("^([+-])([0-9][0-9]):([0-9][0-9])", at)
    if not sign then
        return fault(RFC, at, "expected Z or an offset such as +01:00, found %s", shown(text, at, at + 5))
    end
    hours, minutes = math.tointeger(tonumber(hours)), math.tointeger(tonumber(minutes))
    if hours > 23 or minutes > 59 then
        return fault(RFC, at, "offsets go from -23:59 to +23:59, found %s", text:sub(at, at + 5))
    end
    local offset = hours * 3600 + minutes * 60
    return sign == "-" and -offset or offset, at + 6
end

--- parse(text: string) -> seconds: number, exact: time.exact | nil, err
-- A date-time of RFC 3339, with nothing before or behind it. seconds: since 1970 in UTC, a float,
-- which holds microseconds of our time.
-- @class time.exact
--   seconds      integer
--   nanoseconds  integer  0 to 999999999; what is finer is dropped
--   offset       integer  seconds east of UTC that the text names
--   leap?        boolean  true for the second 60, which must be the last of a month in UTC and counts as the
--                second after it
function M.parse(text)
    misuse.string("lash.time.parse", "the time", text)
    local f, at = read_fields(text)
    if not f then
        return nil, at
    end
    local nanoseconds, offset
    nanoseconds, at = read_fraction(text, at)
    if not nanoseconds then
        return nil, at
    end
    offset, at = read_offset(text, at)
    if not offset then
        return nil, at
    elseif at <= #text then
        return fault(RFC, at, "nothing may follow the offset, found %s", shown(text, at, at + 5))
    end
    local seconds = days_of(f.year, f.month, f.day) * DAY + f.hour * 3600 + f.minute * 60 + f.second - offset
    local leap = f.second == 60 or nil
    if leap then
        local _, _, day = date_of(seconds // DAY)
        if seconds % DAY ~= 0 or day ~= 1 then
            return fault(RFC, 18, "the second 60 is only at the end of a month in UTC")
        end
    end
    return seconds + nanoseconds / 1e9, { seconds = seconds, nanoseconds = nanoseconds, offset = offset, leap = leap }
end

-- Writing ---------------------------------------------------------------------------------------

-- -> integer seconds, nanoseconds | nil: no time. Of floats what is finer than a microsecond is noise.
local function parts_of(when)
    if type(when) == "table" then
        local seconds, nanoseconds = rawget(when, "seconds"), rawget(when, "nanoseconds") or 0
        if math.type(seconds) == "integer" and math.type(nanoseconds) == "integer" and nanoseconds >= 0
            and nanoseconds < 1000000000 then
            return seconds, nanoseconds
        end
        return nil
    end
    if math.type(when) == "integer" then
        return when, 0
    end
    if type(when) ~= "number" or not (when >= FIRST - DAY and when <= LAST + DAY) then
        return nil
    end
    local seconds = math.floor(when)
    local micro = math.floor((when - seconds) * 1e6 + 0.5)
    if micro == 1000000 then
        seconds, micro = seconds + 1, 0
    end
    return seconds, micro * 1000
end

-- -> seconds, text | nil: no offset
local function offset_of(value)
    if value == nil or value == 0 or value == "Z" then
        return 0, "Z"
    end
    if type(value) == "string" and #value == 6 then
        value = read_offset(value, 1)
    end
    value = math.type(value) and math.tointeger(value)
    if not value or value % 60 ~= 0 or math.abs(value) >= DAY then
        return nil
    end
    local minutes = math.abs(value) // 60
    return value, ("%s%02d:%02d"):format(value < 0 and "-" or "+", minutes // 60, minutes % 60)
end

local function digits_of(value)
    local digits = value == nil and 0 or math.type(value) and math.tointeger(value)
    return digits and digits >= 0 and digits <= 9 and digits or nil
end

local NO_TIME = "the time must be seconds of the years 0000 to 9999, or { seconds =, nanoseconds = } as parse "
    .. "gives, not %s"

--- format(when: number|time.exact [, options]) -> text: string
-- RFC 3339.
-- @param when  seconds since 1970 in UTC, integer or float, or the second result of parse()
-- @param options
--   digits?  integer  of the fraction, 0 to 9 (0); what is finer is cut off
--   offset?  integer|string  seconds east of UTC, or a text such as "+02:00" (UTC, written Z)
function M.format(when, options)
    options = misuse.options("lash.time.format", options, OPTIONS)
    local digits = digits_of(options.digits)
    if not digits then
        misuse.raise("lash.time.format", "digits must be a number from 0 to 9, not %s", tostring(options.digits))
    end
    local offset, zone = offset_of(options.offset)
    if not offset then
        misuse.raise("lash.time.format", "offset must be seconds east of UTC in whole minutes, or a text such as "
            .. "\"+02:00\", not %s", tostring(options.offset))
    end
    local seconds, nanoseconds = parts_of(when)
    if not seconds or seconds < FIRST - offset or seconds > LAST - offset then
        misuse.raise("lash.time.format", NO_TIME, type(when) == "number" and tostring(when) or "a " .. type(when))
    end
    seconds = seconds + offset
    local year, month, day = date_of(seconds // DAY)
    local of_day = seconds % DAY
    local fraction = digits > 0 and "." .. ("%09d"):format(nanoseconds):sub(1, digits) or ""
    return ("%04d-%02d-%02dT%02d:%02d:%02d%s%s"):format(year, month, day, of_day // 3600, of_day // 60 % 60,
        of_day % 60, fraction, zone)
end

-- HTTP ------------------------------------------------------------------------------------------

-- The three forms that RFC 9110 asks everybody to read -> day, month, year, time. Which day of the week
-- it is follows from the rest.
local function http_parts(text)
    local day, month, year, clock = text:match("^[A-Za-z]+, (%d%d?) ([A-Za-z]+) (%d+) (%d%d:%d%d:%d%d) GMT$")
    if not day then
        day, month, year, clock = text:match("^[A-Za-z]+, (%d%d)%-([A-Za-z]+)%-(%d+) (%d%d:%d%d:%d%d) GMT$")
    end
    if not day then
        month, day, clock, year = text:match("^[A-Za-z]+ ([A-Za-z]+) ([ %d]%d) (%d%d:%d%d:%d%d) (%d%d%d%d)$")
    end
    return day, month, year, clock
end

-- Two digits mean the year that is nearest, at most 50 years ahead.
local function full_year(year)
    local n = math.tointeger(tonumber(year))
    if #year == 2 then
        local this = date_of(math.floor(timer.now()) // DAY)
        n = this - this % 100 + n
        n = n > this + 50 and n - 100 or n
    end
    return n
end

--- parse_http(text: string) -> seconds: integer | nil, err
-- Since 1970, of a date of HTTP, in any of its three forms ("Sun, 06 Nov 1994 08:49:37 GMT").
function M.parse_http(text)
    misuse.string("lash.time.parse_http", "the date", text)
    local day, month, year, clock = http_parts(text)
    month = month and MONTHS[month]
    if not month or #year ~= 2 and #year ~= 4 then
        return fault("HTTP date", 1, "expected a form like \"Sun, 06 Nov 1994 08:49:37 GMT\", found %q",
            text:sub(1, 60))
    end
    year, day = full_year(year), math.tointeger(tonumber(day))
    local h, m, s = clock:match("(%d+):(%d+):(%d+)")
    h, m, s = math.tointeger(tonumber(h)), math.tointeger(tonumber(m)), math.tointeger(tonumber(s))
    if day < 1 or day > month_days(year, month) or h > 23 or m > 59 or s > 60 then
        return fault("HTTP date", 1, "there is no such day or time: %q", text:sub(1, 60))
    end
    return days_of(year, month, day) * DAY + h * 3600 + m * 60 + s
end

--- format_http(when: number|time.exact) -> text: string
-- As "Sun, 06 Nov 1994 08:49:37 GMT".
function M.format_http(when)
    local seconds = parts_of(when)
    if not seconds or seconds < FIRST or seconds > LAST then
        misuse.raise("lash.time.format_http", NO_TIME, type(when) == "number" and tostring(when) or "a " .. type(when))
    end
    local days, of_day = seconds // DAY, seconds % DAY
    local year, month, day = date_of(days)
    return ("%s, %02d %s %04d %02d:%02d:%02d GMT"):format(DAYS[(days + 3) % 7 + 1]:sub(1, 3), day, MONTHS[month], year,
        of_day // 3600, of_day // 60 % 60, of_day % 60)
end

return M
