--- A module that is loaded when a part of it is first used: the first prompt does not wait for what only later
-- entries need.
return function(name)
    return setmetatable({}, {
        __index = function(_, key)
            return require(name)[key]
        end,
    })
end
