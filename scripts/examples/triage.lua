#!/usr/bin/env lash
-- Triage: the first agent answers nothing itself, it hands the conversation over to a specialist. The
-- specialist goes on in the same conversation with its own instructions and tools, here also with a model
-- of another provider, and its answer is the answer of the run.
--
--   lash scripts/examples/triage.lua
--   lash scripts/examples/triage.lua "My router has lost the network since this morning"
--
-- With keys (or servers of your own: OPENAI_BASE_URL, GOOGLE_GEMINI_BASE_URL) triage and billing run on
-- one provider, technical on the other. -m puts all three on one model.
local lash = require "lash"

local function model(name, ...)
    for _, variable in ipairs { ... } do
        if os.getenv(variable) then
            return name
        end
    end
    return "demo" -- needs no key
end

local openai = model("openai/gpt-5-mini", "OPENAI_API_KEY", "OPENAI_BASE_URL")
local gemini = model("gemini/gemini-2.5-flash", "GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_GEMINI_BASE_URL")

local invoice = lash.tool {
    name = "find_invoice",
    description = "Looks an invoice up by its number",
    params = { number = "integer" },
    async = function(args)
        return { number = args.number, total = "49.00 EUR", paid_twice = true }
    end,
}

local ping = lash.tool {
    name = "measure_line",
    description = "Measures the customer's network line",
    async = function()
        lash.sleep(0.5)
        return { packet_loss = "31 %", router_firmware = "2.1, two years old" }
    end,
}

local billing = lash.agent {
    name = "billing",
    description = "invoices, payments, refunds",
    model = openai,
    instructions = "You are the billing specialist. Find the invoice, then say what happens next.",
    tools = { invoice },
}

local technical = lash.agent {
    name = "technical",
    description = "network, router, outages",
    model = gemini,
    instructions = "You are the technical specialist. Measure the line, then advise.",
    tools = { ping },
}

local triage = lash.agent {
    name = "triage",
    model = openai,
    instructions = "Decide who can help, and hand over at once. Never answer yourself.",
    handoffs = { billing, technical },
}

if lash.main then
    local result = triage:run(arg[1] or "Handoff to billing please: invoice 4711 was paid twice.", {
        on_event = function(event)
            if event.type == "model.request" then
                print(("%s asks %s"):format(event.agent, event.provider .. "/" .. event.model))
            elseif event.type == "handoff" then
                print(("%s hands over to %s"):format(event.from, event.to))
            elseif event.type == "call.end" and event.name ~= "handoff" then
                print(("%s called %s: %s"):format(event.agent, event.name, event.output))
            end
        end,
    })
    print()
    print(("%s answers: %s"):format(result.agent, result))
end

return triage
