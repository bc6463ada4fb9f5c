--- Options and environment variables that run, ask and call share, made effective.
local failure = require "lash.failure"
local options = require "lash.options"

local M = {}

local function variable(name)
    local value = os.getenv(name)
    return value ~= "" and value or nil
end

--- The total deadline in seconds of --timeout or LASH_TIMEOUT; 0 = none.
function M.timeout(opts)
    local text = variable "LASH_TIMEOUT"
    return opts.timeout or (text and options.duration(text, "LASH_TIMEOUT")) or 0
end

-- -m and limits hold for every agent of the process.
local function override(opts)
    local limits = { turns = opts["max-turns"], tokens = opts["max-tokens"] }
    if not opts.model and next(limits) == nil then
        return -- nothing to load for
    end
    local overrides = require("lash.run").overrides
    overrides.model = opts.model
    for name, value in pairs(limits) do
        overrides.limits[name] = value
    end
end

--- Makes the options of a command effective: model, limits, workers.
function M.apply(opts)
    local color = variable "LASH_COLOR"
    if color then
        options.color(color, "LASH_COLOR")
    end
    local jobs = variable "LASH_JOBS"
    jobs = opts.jobs or (jobs and options.jobs(jobs, "LASH_JOBS"))
    if jobs then
        require("lash.core.engine").jobs(jobs)
    end
    override(opts)
end

--- The format of the output: "text", "json" or "jsonl"; two different ones are an error.
function M.format(opts)
    local found
    for _, name in ipairs { opts.output or false, opts.json and "json", opts.jsonl and "jsonl" } do
        if name and found and found ~= name then
            failure.raise(64, "the output cannot be %s and %s at once: keep one", found, name)
        end
        found = name or found
    end
    return found or "text"
end

return M
