--- lash: what scripts see. Every part is loaded when it is first used.
local engine = require "lash.core.engine"

-- name in `lash` -> module that has it, and its name there (nil: the module itself)
local parts = {
    agent = { "lash.agent", "new" },
    base64 = { "lash.base64" },
    channel = { "lash.core.channel", "channel" },
    document = { "lash.attach", "document" },
    every = { "lash.combine", "every" },
    exec = { "lash.exec" },
    fs = { "lash.fs" },
    gather = { "lash.tasks", "gather" },
    group = { "lash.combine", "group" },
    hash = { "lash.hash" },
    hrtime = { "lash.core.engine", "hrtime" }, -- ns of a clock that only goes forward
    http = { "lash.http" },
    image = { "lash.attach", "image" },
    json = { "lash.json" },
    limit = { "lash.lock", "limit" },
    log = { "lash.log" },
    map = { "lash.tasks", "map" },
    mutex = { "lash.lock", "mutex" },
    now = { "lash.core.timer", "now" },
    null = { "lash.json", "null" },
    path = { "lash.path" },
    prompt = { "lash.prompt", "new" },
    race = { "lash.combine", "race" },
    retry = { "lash.combine", "retry" },
    schema = { "lash.schema" },
    shared = { "lash.shared" },
    sleep = { "lash.core.timer", "sleep" },
    spawn = { "lash.tasks", "spawn" },
    template = { "lash.template" },
    time = { "lash.time" },
    timeout = { "lash.combine", "timeout" },
    tool = { "lash.tool", "new" },
    url = { "lash.url" },
    uuid = { "lash.uuid" },
    version = { "lash.version", "text" },
}

--- `lash.main` is true while a file runs as a script, false while a command loads it for its tools.
local lash = { main = false }

setmetatable(lash, {
    __index = function(self, name)
        local part = parts[name]
        if not part then
            return nil
        end
        local value = require(part[1])
        if part[2] then
            value = value[part[2]]
        end
        rawset(self, name, value)
        return value
    end,
    parts = parts, -- their names, for completion
    -- pairs(lash) sees every part, loaded or not
    __pairs = function(self)
        local all = {}
        for name in pairs(parts) do
            all[name] = self[name]
        end
        for name, value in next, self do
            all[name] = value
        end
        return next, all, nil
    end,
})

-- A stock lua5.4 sets no mark; `require "lash"` there leaves the door agent:run_sync.
lash.in_worker = engine.in_worker

return lash
