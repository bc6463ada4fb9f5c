--- The models that a provider has, as its own list says.
local conversation = require "lash.conversation"
local engine = require "lash.core.engine"
local fault = require "lash.provider.fault"
local history = require "lash.provider.history"
local near = require "lash.near"

local M = {}

local MAX_PAGES = 100
local MAX_BODY = 64 << 20

local function cannot(target, why, exit, fields)
    local err = fault.new { code = "no_list", exit = exit or 69,
        message = ("%s: %s"):format(target.provider_name, why) }
    for name, value in pairs(fields or {}) do
        err[name] = value
    end
    return nil, err
end

local WITHOUT_LIST = { [404] = true, [405] = true, [501] = true }

local function refused(target, res)
    if WITHOUT_LIST[res.status] then
        return cannot(target, ("%s has no list of models (%d): check %s"):format(target.shown_url, res.status,
            target.base_var), 69, { status = res.status })
    end
    local _, err = target.provider.read(res, conversation.new(nil), {}, target)
    return nil, err or fault.nonsense(target, res, "is no list of models")
end

-- One page -> list, next page or nil | nil, err
local function page_of(target, page, timeout)
    local request = target.provider.models_request(target, page)
    local res, broken = require("lash.http").request {
        method = "GET",
        url = request.url,
        headers = request.headers,
        timeout = timeout,
        connect_timeout = timeout,
        idle_timeout = timeout,
        max_body = MAX_BODY,
        follow = false, -- the key goes nowhere else
    }
    if not res and broken.code == "timeout" then
        return cannot(target, ("no answer of %s in time: try again, or raise --timeout"):format(target.shown_url), 75,
            { code = "timeout" })
    elseif not res then
        return nil, fault.transport(target, broken)
    elseif not res.ok then
        return refused(target, res)
    end
    local value, why = history.decode(res.body)
    if why then
        return nil, fault.nonsense(target, res, "is not JSON")
    end
    local list, more = target.provider.read_models(value, target)
    if list == nil and type(more) ~= "table" then
        return nil, fault.nonsense(target, res, "is no list of models")
    end
    return list, more
end

local function of_config(names)
    local list = {}
    for i, name in ipairs(names) do
        list[i] = { id = name }
    end
    return list
end

-- All pages, as they come.
local function all_pages(target, timeout)
    local ends = engine.hrtime() + timeout * 1e9
    local all, page = {}, nil
    for _ = 1, MAX_PAGES do
        local left = (ends - engine.hrtime()) / 1e9
        if left < 0.001 then
            return cannot(target, ("its list of models did not end within %g s: raise --timeout"):format(timeout), 75)
        end
        local list, more = page_of(target, page, left)
        if not list then
            return nil, more
        end
        table.move(list, 1, #list, #all + 1, all)
        if more == nil or more == page then
            return all
        end
        page = more
    end
    return cannot(target, ("its list of models has more than %d pages"):format(MAX_PAGES), 76)
end

local function sorted(list)
    local all, seen = {}, {}
    for _, model in ipairs(list) do
        if not seen[model.id] then
            seen[model.id] = true
            all[#all + 1] = model
        end
    end
    table.sort(all, function(a, b)
        return a.id < b.id
    end)
    return all
end

--- list(entry, target, timeout) -> { { id =, name =, context =, output = }, ... } sorted by id, without
-- doubles | nil, err. The entry is that of lash.provider.registry; timeout: seconds for all pages together.
function M.list(entry, target, timeout)
    if entry.own.models then
        return sorted(of_config(entry.own.models))
    elseif not target.provider.models_request or not target.provider.read_models then
        return cannot(target, ("its protocol has no list of models; name them in `models` of providers.%s in "
            .. "config.lua"):format(target.provider_name))
    end
    local all, err = all_pages(target, timeout)
    if not all then
        return nil, err
    end
    return sorted(all)
end

--- near(list, id) -> names of models that are near to a mistyped one
function M.near(list, id)
    local names = {}
    for i, model in ipairs(list) do
        names[i] = model.id
    end
    return near.list(id, names)
end

return M
