--- Modules that most programs never need, or only after the first prompt: they cost nothing until one of their
-- functions is called. What lives in memory is looked at by each pass of the collector, however idle it is.
--
--   local handoff = lazy "lash.handoff"
--   handoff.tool(targets)   -- loads it

--- lazy(name: string) -> table that has what the module has
return function(name)
    return setmetatable({}, {
        __index = function(_, key)
            return require(name)[key]
        end,
    })
end
