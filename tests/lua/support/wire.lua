--- Helpers for the tests of providers: conversations, answers of servers, the captured requests.
local conversation = require "lash.conversation"
local json = require "lash.json"
local t = require "t"

local M = {}

local FIXTURES = os.getenv "LASH_TESTS" .. "/fixtures/captures/"

function M.read(path)
    local file = assert(io.open(FIXTURES .. path, "rb"))
    local text = file:read "a"
    file:close()
    return text
end

--- The body of a captured request, decoded.
function M.captured(path)
    return assert(json.decode(M.read(path))).body
end

--- A conversation of these entries, with no agent.
function M.conversation(entries)
    local conv = conversation.new(nil)
    for _, entry in ipairs(entries or {}) do
        conv:append(entry)
    end
    return conv
end

--- The outcomes of an answer's calls: `results` are { status, text } or texts that are ok.
function M.outcomes(answer, results)
    local items = {}
    for i, call in ipairs(conversation.calls(answer)) do
        local result = type(results[i]) == "table" and results[i] or { "ok", results[i] }
        items[i] = { type = "outcome", id = call.id, name = call.name, status = result[1], output = result[2] }
    end
    return { type = "outcomes", items = items }
end

--- Who listens to lash.model: on_event(event) gets what it tells of attempts, on_tell(kind, fields) what comes of
-- an answer, and says whether somebody got it. `stream` = false: whole answers only.
function M.listener(on_event, on_tell, stream)
    local listener = { delivered = false }
    function listener.emit(_, kind, fields)
        fields.type = kind
        on_event(fields)
    end
    function listener.attempt() end
    function listener.streams()
        return stream ~= false
    end
    function listener.hears()
        return on_tell ~= nil
    end
    return setmetatable(listener, {
        __call = function(_, kind, fields)
            listener.delivered = on_tell and on_tell(kind, fields) or listener.delivered
        end,
    })
end

--- What lash.http gives for a 200 with this body.
function M.answer(body, status, headers)
    return { status = status or 200, headers = headers or {}, body = body }
end

function M.encode(value)
    return assert(json.encode(value))
end

function M.target(name, fields)
    local target = {
        provider = require("lash.provider." .. name), provider_name = name, model = "m", label = name .. "/m",
        key = "test-key", key_var = "THE_KEY", base_url = "http://localhost:1/v1", base_var = "THE_BASE",
        shown_url = "http://localhost:1/v1",
    }
    for field, value in pairs(fields or {}) do
        target[field] = value
    end
    return target
end

--- The request for a conversation: decoded body, and the whole of it.
function M.request(name, conv, view, fields, stream)
    local target = M.target(name, fields)
    local request = assert(target.provider.request(conv, view or {}, target, stream))
    request.body = tostring(request.body) -- a long one is none
    return assert(json.decode(request.body)), request
end

--- Reads an answer and appends it.
function M.hear(name, conv, res, view)
    local target = M.target(name)
    local answer = assert(target.provider.read(type(res) == "string" and M.answer(res) or res, conv, view or {}, target))
    conv:append(answer)
    return answer
end

--- Reads an answer that is none.
function M.refused(name, res, view)
    local target = M.target(name)
    local answer, err = target.provider.read(res, M.conversation(), view or {}, target)
    t.equal(answer, nil)
    return err
end

--- The three tools of the captures.
function M.tools()
    local object = function(properties, required)
        return { type = "object", properties = properties, required = json.array(required), additionalProperties = false }
    end
    return {
        { name = "get_weather", description = "Current weather for one city.", schema = object({
            city = { type = "string", description = "City name" },
            unit = { type = "string", enum = json.array { "celsius", "fahrenheit" } },
        }, { "city", "unit" }) },
        { name = "read_file", description = "Read a text file.", schema = object({
            path = { type = "string" } }, { "path" }) },
        { name = "get_time", description = "Current time. Takes no arguments.", schema = object({}, {}) },
    }
end

M.SYSTEM = "You are a terse operations assistant. Use tools when they help."
M.QUESTION = "Compare the weather in Oslo and São Paulo, and read the file notes.txt."

--- The outcomes of the captured conversation.
M.RESULTS = {
    '{"city":"Oslo","temp":-3,"unit":"celsius"}', '{"city":"São Paulo","temp":24,"unit":"celsius"}',
    { "error", "ENOENT: no such file: notes.txt" },
}

-- The events of a stream's text, and what is no event. Only for whole and well-formed texts: the parser of
-- lash itself has tests of its own.
local function events_of(text)
    local list, stray, name, data = {}, {}, nil, {}
    for line in (text:gsub("\r\n?", "\n") .. "\n\n"):gmatch "(.-)\n" do
        local field, value = line:match "^(%a+): ?(.*)$"
        if line == "" then
            if data[1] then
                list[#list + 1] = { event = name or "message", data = table.concat(data, "\n") }
            end
            name, data = nil, {}
        elseif field == "data" then
            data[#data + 1] = value
        elseif field == "event" then
            name = value
        elseif line:sub(1, 1) ~= ":" and field ~= "id" and field ~= "retry" then
            stray[#stray + 1] = line
        end
    end
    return list, table.concat(stray, "\n")
end

--- Reads a streamed answer as lash.provider.stream drives it; nothing is appended.
-- @return answer | nil, err; and what was told: { { kind, fields }, ... }, how many events were read
function M.streamed(name, text, conv, view, fields)
    local target = M.target(name, fields)
    local reader = target.provider.reader(conv or M.conversation(), view or {}, target, { status = 200, headers = {} })
    local told, count = {}, 0
    local function tell(kind, about)
        told[#told + 1] = { kind, about }
    end
    local list, stray = events_of(text)
    for _, event in ipairs(list) do
        count = count + 1
        local what, err = reader:event(event, tell)
        if not what then
            t.equal(type(err) == "table" and type(err.message), "string", "an error of the stream is an error value")
            return nil, err, told, count
        elseif what == "end" then
            break
        end
        t.ok(what == "more" or what == "idle", tostring(what))
    end
    local answer, err = reader:finish(stray, tell)
    return answer, err, told, count
end

--- Fails unless everything of `want` is in `got`, and lists are equal in length. Fields that lash adds
-- besides are listed in `more`, those it leaves out in `less` ("body.reasoning").
function M.covers(got, want, path, allowed)
    if type(want) ~= "table" then
        t.equal(got, want, path)
        return
    end
    t.equal(type(got), "table", path)
    t.equal(getmetatable(got) == json.array_mt, getmetatable(want) == json.array_mt, path)
    for key, value in pairs(want) do
        local here = ("%s.%s"):format(path, key)
        if not (got[key] == nil and allowed[here]) then
            M.covers(got[key], value, here, allowed)
        end
    end
    for key in pairs(got) do
        local here = ("%s.%s"):format(path, key)
        t.ok(want[key] ~= nil or allowed[here], here .. " is not in the capture")
    end
end

return M
