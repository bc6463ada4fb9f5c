--- The context of a call, the second argument of a tool's function, the same for both marks. The values travel to a
-- worker, the functions are added there.
--
-- @class context  of a call: the second argument of a tool's function
--   call       string   "turn.index", unique in the run
--   agent      string   name of the agent
--   key        string   the same for every attempt of this call, and of no other call
--   attempt    integer  1, 2, ...
--   progress   fun(fraction_or_text: number|string, text?: string)  tells how far the call is, from 0 to 1, in
--              words, or both: the event call.progress
--   cancelled  fun(): boolean  true when the call is to end: for code that never waits and wants to tidy up
local engine = require "lash.core.engine"

local M = {}

local function check_fraction(fraction)
    if type(fraction) ~= "number" then
        error(("ctx.progress: expected a text or a fraction, got %s"):format(type(fraction)), 3)
    elseif not (fraction >= -1e-6 and fraction <= 1 + 1e-6) then
        error(("ctx.progress: a fraction is between 0 and 1, got %g"):format(fraction), 3)
    end
    return math.min(math.max(fraction, 0), 1) + 0.0
end

local function teller(report)
    return function(fraction, text)
        if type(fraction) == "string" and text == nil then
            fraction, text = nil, fraction
        else
            fraction = check_fraction(fraction)
        end
        if text ~= nil and type(text) ~= "string" then
            error(("ctx.progress: the text must be a string, got %s"):format(type(text)), 2)
        end
        report { fraction = fraction, text = text }
    end
end

local unheard = teller(function() end)

--- Adds the functions.
-- @param ctx the values
-- @param report fn({ fraction =, text = }): gets what progress() tells; nil where nobody listens
function M.attach(ctx, report)
    ctx.progress = report and teller(report) or unheard
    ctx.cancelled = engine.cancelled
    return ctx
end

return M
