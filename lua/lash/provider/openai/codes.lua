--- What codes and types of errors mean that OpenAI, and most servers that speak one of its protocols, give.
local M = {}

-- code or type -> kind (see lash.provider.fault), worth another attempt
local COMMON = {
    invalid_api_key = { "key" },
    authentication_error = { "key" },
    model_not_found = { "model" },
    DeploymentNotFound = { "model" },
    context_length_exceeded = { "context" },
    exceed_context_size_error = { "context" },
    invalid_prompt = { "refused" },
    content_filter = { "refused" },
    content_policy_violation = { "refused" },
    unsupported_country_region_territory = { "refused" },
    permission_error = { "refused" },
    insufficient_quota = { "quota" },
    credit_balance_exhausted = { "quota" },
    billing_hard_limit_reached = { "quota" },
    billing_not_active = { "quota" },
    rate_limit_exceeded = { "rate", true },
    rate_limit_error = { "rate", true },
    too_many_requests = { "rate", true },
    slow_down = { "overloaded", true },
    server_error = { "overloaded", true },
    overloaded = { "overloaded", true },
    overloaded_error = { "overloaded", true },
}

--- with(more) -> the common codes and `more`: { [code or type] = { kind, worth another attempt } }
function M.with(more)
    return setmetatable(more, { __index = COMMON })
end

--- status(res, code) -> the HTTP status of an error: gateways write it as the code of one inside a 200, as a
-- number or as text.
function M.status(res, code)
    if type(code) == "string" and code:find("^%d%d%d$") then
        code = tonumber(code)
    end
    local inner = type(code) == "number" and math.tointeger(code)
    if res.status < 400 and inner and inner >= 400 and inner < 600 then
        return inner
    end
    return res.status
end

return M
