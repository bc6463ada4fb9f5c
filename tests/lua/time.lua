-- lash.time: RFC 3339 and the dates of HTTP.
local t = require "t"
local fake = require "fake"
local lash = require "lash"

local time = lash.time

local function reads(text, seconds, nanoseconds, offset, leap)
    local float, exact = time.parse(text)
    t.ok(float, tostring(exact) .. " " .. text)
    t.equal(exact, { seconds = seconds, nanoseconds = nanoseconds or 0, offset = offset or 0, leap = leap }, text)
    t.equal(float, seconds + (nanoseconds or 0) / 1e9, text)
    t.equal(math.type(float), "float")
end

local function refused(text, position, words)
    local float, err = time.parse(text)
    t.equal(float, nil, text)
    t.equal({ err.code, err.position }, { "time", position }, text .. ": " .. tostring(err))
    t.has(tostring(err), words)
    t.has(tostring(err), "position " .. position)
end

t.case("time the examples of RFC 3339", function()
    reads("1985-04-12T23:20:50.52Z", 482196050, 520000000)
    reads("1996-12-19T16:39:57-08:00", 851042397, 0, -8 * 3600)
    reads("1990-12-31T23:59:60Z", 662688000, 0, 0, true)
    reads("1990-12-31T15:59:60-08:00", 662688000, 0, -8 * 3600, true)
    reads("1937-01-01T12:00:27.87+00:20", -1041337173, 870000000, 1200)
end)

t.case("time every form that is allowed", function()
    reads("1970-01-01T00:00:00Z", 0)
    reads("1970-01-01t00:00:00z", 0)
    reads("1970-01-01T00:00:00-00:00", 0)
    reads("1970-01-01T23:59:59+23:59", 60 - 1, 0, 86340)
    reads("1969-12-31T00:01:00-23:59", 0, 0, -86340)
    reads("1969-12-31T23:59:59.5Z", -1, 500000000)
    reads("2024-02-29T00:00:00Z", 1709164800)
    reads("2000-02-29T00:00:00Z", 951782400)
    reads("0000-01-01T00:00:00Z", -62167219200)
    reads("0000-02-29T00:00:00Z", -62162121600)
    reads("9999-12-31T23:59:59.999999999Z", 253402300799, 999999999)
    reads("1985-04-12T00:59:59.000000000" .. ("9"):rep(100000) .. "Z", 482115599, 0)
    reads("1985-04-12T00:59:59." .. ("0"):rep(100000) .. "1Z", 482115599, 0)
    reads("1998-12-31T15:59:60.123-08:00", 915148800, 123000000, -8 * 3600, true)
    reads("2017-01-01T05:29:60+05:30", 1483228800, 0, 19800, true)
    reads("2016-12-31T23:59:60z", 1483228800, 0, 0, true)
end)

t.case("time what is wrong is told with its place", function()
    refused("", 1, "4 digits of the year, found the end")
    refused("98-01-01T00:00:00Z", 1, "4 digits of the year")
    refused("+1998-01-01T00:00:00Z", 1, "year")
    refused("12020-01-01T00:00:00Z", 1, "year")
    refused(" 1998-01-01T00:00:00Z", 1, "year")
    refused("1998/01/01T00:00:00Z", 5, "expected '-' after the year, found \"/\"")
    refused("1998-1-01T00:00:00Z", 6, "2 digits of the month")
    refused("1998-13-01T00:00:00Z", 6, "from 01 to 12, found 13")
    refused("1998-00-01T00:00:00Z", 6, "month")
    refused("1998-01-00T00:00:00Z", 9, "day")
    refused("1998-01-32T00:00:00Z", 9, "day")
    refused("1998-04-31T00:00:00Z", 9, "month 04 of 1998 has 30 days, found 31")
    refused("1900-02-29T00:00:00Z", 9, "28 days")
    refused("1998-01-011T00:00:00Z", 9, "day")
    refused("1998-01-01", 11, "expected 'T' after the day, found the end")
    refused("1998-01-01 00:00:00Z", 11, "'T'")
    refused("1998-01-01T24:00:00Z", 12, "hour")
    refused("1998-01-01T1:00:00Z", 12, "hour")
    refused("1998-01-01T00:60:00Z", 15, "minute")
    refused("1998-01-01T00:00Z", 17, "':' after the minute")
    refused("1998-01-01T00:00:61Z", 18, "second")
    refused("1998-01-01T00:00:00", 20, "expected Z or an offset such as +01:00, found the end")
    refused("1998-01-01T00:00:00,5Z", 20, "offset")
    refused("1998-01-01T00:00:00.Z", 21, "digits after the dot")
    refused("1998-01-01T00:00:00.5", 22, "offset")
    refused("1998-01-01T00:00:00 Z", 20, "offset")
    refused("1998-01-01T00:00:00+0100", 20, "offset")
    refused("1998-01-01T00:00:00+01", 20, "offset")
    refused("1998-01-01T00:00:00+24:00", 20, "-23:59 to +23:59")
    refused("1998-01-01T00:00:00+10:60", 20, "-23:59 to +23:59")
    refused("1998-01-01T00:00:00Z\n", 21, "nothing may follow")
    refused("1998-01-01T00:00:00Z\0", 21, "nothing may follow")
    refused("1998-01-01T00:00:00+01:00Z", 26, "nothing may follow")
    refused("1998-01-1\u{09EA}T00:00:00Z", 9, "day")
    refused(("1"):rep(1000000), 1, "year")
end)

t.case("time the second 60 is at the end of a month in UTC", function()
    refused("1998-12-31T23:58:60Z", 18, "end of a month")
    refused("1998-12-31T22:59:60Z", 18, "end of a month")
    refused("1998-12-30T23:59:60Z", 18, "end of a month")
    refused("1998-12-31T23:59:60+01:00", 18, "end of a month")
    refused("1998-12-31T23:59:61Z", 18, "from 00 to 60")
end)

t.case("time the corpus of formats", function()
    local corpora = os.getenv "LASH_CORPORA"
    if not corpora then
        return t.skip "LASH_CORPORA names no folder"
    end
    local text = assert(lash.fs.read(corpora .. "/json-schema/optional/format/date-time.json"))
    local n = 0
    for _, group in ipairs(assert(lash.json.decode(text))) do
        for _, test in ipairs(group.tests) do
            if type(test.data) == "string" then
                t.equal(time.parse(test.data) ~= nil, test.valid, test.description .. ": " .. test.data)
                n = n + 1
            end
        end
    end
    t.ok(n > 20)
end)

t.case("time format", function()
    t.equal(time.format(0), "1970-01-01T00:00:00Z")
    t.equal(time.format(-1), "1969-12-31T23:59:59Z")
    t.equal(time.format(482196050.52), "1985-04-12T23:20:50Z")
    t.equal(time.format(482196050.52, { digits = 2 }), "1985-04-12T23:20:50.52Z")
    t.equal(time.format(1700000000.123, { digits = 3 }), "2023-11-14T22:13:20.123Z")
    t.equal(time.format(1.9999996, { digits = 3 }), "1970-01-01T00:00:02.000Z")
    t.equal(time.format(-0.25, { digits = 3 }), "1969-12-31T23:59:59.750Z")
    t.equal(time.format(0.75), "1970-01-01T00:00:00Z")
    t.equal(time.format({ seconds = 7, nanoseconds = 123456789 }, { digits = 9 }), "1970-01-01T00:00:07.123456789Z")
    t.equal(time.format({ seconds = 7, nanoseconds = 999999999 }, { digits = 1 }), "1970-01-01T00:00:07.9Z")
    t.equal(time.format(0, { offset = 19800 }), "1970-01-01T05:30:00+05:30")
    t.equal(time.format(0, { offset = "-08:00", digits = 1 }), "1969-12-31T16:00:00.0-08:00")
    t.equal(time.format(0, { offset = "Z" }), "1970-01-01T00:00:00Z")
    t.equal(time.format(0, { offset = 0 }), "1970-01-01T00:00:00Z")
    t.equal(time.format(-62167219200), "0000-01-01T00:00:00Z")
    t.equal(time.format(253402300799), "9999-12-31T23:59:59Z")
    t.equal(time.format(253402300800, { offset = -60 }), "9999-12-31T23:59:00-00:01")
end)

t.case("time what format writes parse reads", function()
    for _ = 1, 20000 do
        local exact = { seconds = math.random(-62167219200 + 86400, 253402300799 - 86400),
            nanoseconds = math.random(0, 999999999), offset = math.random(-1439, 1439) * 60 }
        local text = time.format(exact, { digits = 9, offset = exact.offset })
        local _, back = time.parse(text)
        t.equal(back, exact, text)
    end
    for day = -719528, 2932896, 977 do -- both ways of the calendar, against the C library
        local text = time.format(day * 86400)
        t.equal(text:sub(6), os.date("!%m-%dT%H:%M:%SZ", day * 86400))
    end
end)

t.case("time format refuses what is no time", function()
    local inf = math.huge
    for _, bad in ipairs { 1e300, -1e300, inf, -inf, 0 / 0, 253402300800, -62167219201, math.maxinteger, math.mininteger,
        "0", true, { seconds = 1.5 }, { seconds = 0, nanoseconds = 1000000000 }, {} } do
        t.raises("years 0000 to 9999", time.format, bad)
    end
    t.raises("years 0000 to 9999", time.format, nil)
    t.raises("years 0000 to 9999", time.format, 253402300799, { offset = 60 })
    for _, bad in ipairs { -1, 10, 1.5, "3", true } do
        t.raises("digits must be", time.format, 0, { digits = bad })
    end
    for _, bad in ipairs { 30, 86400, -86400, 1.5, "+1:00", "+24:00", "+01:00x", true, {} } do
        t.raises("offset must be", time.format, 0, { offset = bad })
    end
    t.raises("did you mean 'digits'?", time.format, 0, { digit = 3 })
    t.raises("must be a string, not a number", time.parse, 12)
    t.has(t.raises(nil, function() time.format("x") end), "time.lua:")
end)

t.case("time the dates of HTTP", function()
    for _, text in ipairs { "Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994",
        "Sun, 06-Nov-1994 08:49:37 GMT", "Sun, 6 Nov 1994 08:49:37 GMT" } do
        t.equal(time.parse_http(text), 784111777, text)
    end
    t.equal(time.parse_http "Thu, 29 Feb 2024 00:00:00 GMT", 1709164800)
    t.equal(time.format_http(784111777), "Sun, 06 Nov 1994 08:49:37 GMT")
    t.equal(time.format_http(0), "Thu, 01 Jan 1970 00:00:00 GMT")
    t.equal(time.format_http(-1), "Wed, 31 Dec 1969 23:59:59 GMT")
    for _, text in ipairs { "", "soon", "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Nov 1994 08:49:37 CET",
        "Sun, 31 Nov 1994 08:49:37 GMT", "Sun, 06 Foo 1994 08:49:37 GMT", "Sun, 06 Nov 1994 24:49:37 GMT",
        "Sun, 06 Nov 994 08:49:37 GMT", "Sun, 00 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 GMT " } do
        local seconds, err = time.parse_http(text)
        t.equal(seconds, nil, text)
        t.equal(err.code, "time")
    end
    t.raises("must be a string", time.parse_http, nil)
    t.raises("years 0000 to 9999", time.format_http, 1e300)
end)

t.case("time two digits of a year mean the nearest", function()
    local this = tonumber(time.format(time.now()):sub(1, 4))
    for ahead = -49, 49 do
        local year = this + ahead
        local text = ("Sunday, 06-Nov-%02d 00:00:00 GMT"):format(year % 100)
        t.equal(time.format(time.parse_http(text)):sub(1, 4), tostring(year))
    end
end)

t.case("time now, and in a sync tool", function()
    t.ok(math.abs(time.now() - lash.now()) < 5 * t.slower)
    local tool = lash.tool {
        name = "x",
        sync = function() return time.format((time.parse "2000-01-01T01:00:00+01:00")) .. time.format_http(0) end,
    }
    t.equal(fake.batch({ tool }, { { "x" } })[1].output, "2000-01-01T00:00:00ZThu, 01 Jan 1970 00:00:00 GMT")
end)

return t.main(...)
