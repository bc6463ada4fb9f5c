-- A tool without network, for `lash call`.
local lash = require "lash"

return lash.tool { name = "noop", params = { n = "integer" }, async = function(args) return args.n end }
