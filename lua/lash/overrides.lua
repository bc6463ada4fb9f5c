--- What the command line says for all runs of the process: for those on workers, too, where an agent may run
-- inside a sync function.
local engine = require "lash.core.engine"
local shared = require "lash.core.shared"

local M = {}

local TABLE = "lash.overrides" -- of the whole process, see lash.shared

local LIMITS = { "turns", "tokens" }

-- On a worker nothing can be printed and no program ended.
local function unsent()
    error(setmetatable({ code = "dry_run", exit = 64,
        message = "--dry-run: this request is made on a worker, where it is neither shown nor sent" },
        require("lash.json").error_mt), 0)
end

--- Lets workers know of `overrides`, as of lash.run. To be called before any of them runs an agent.
function M.publish(overrides)
    shared.set(TABLE, "model", overrides.model)
    shared.set(TABLE, "stream", overrides.stream)
    shared.set(TABLE, "dry_run", overrides.dry_run ~= nil or nil)
    for _, name in ipairs(LIMITS) do
        shared.set(TABLE, name, overrides.limits[name])
    end
end

--- What lash.run begins with: nothing on the main thread, on a worker what was published.
function M.inherited()
    local overrides = { model = nil, limits = {}, stream = nil, dry_run = nil }
    if engine.in_worker() then
        overrides.model = shared.get(TABLE, "model")
        overrides.stream = shared.get(TABLE, "stream")
        overrides.dry_run = shared.get(TABLE, "dry_run") and unsent or nil
        for _, name in ipairs(LIMITS) do
            overrides.limits[name] = shared.get(TABLE, name)
        end
    end
    return overrides
end

return M
