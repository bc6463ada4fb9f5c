--- lash help [TOPIC], and --help after any command. The pages are lua/lash/help/*.txt.
local failure = require "lash.failure"
local near = require "lash.near"
local output = require "lash.cmd.output"
local system = require "lash.core.system"

local M = {}

-- Other names of pages.
local ALIASES = { [""] = "overview", model = "providers", keys = "providers", key = "providers",
    provider = "providers", config = "providers", quirks = "providers",
    openai = "providers", anthropic = "providers", gemini = "providers", ollama = "providers",
    stop = "misbehaving", cancel = "tasks",
    numbers = "json", sync = "sync-vs-async", async = "sync-vs-async",
    marks = "sync-vs-async", exit = "exit-codes", env = "environment", script = "scripts", tool = "tools",
    agent = "agents", handoffs = "handoff", example = "examples", prompt = "console", params = "tools",
    conversation = "agents", conversations = "agents", lash = "overview", demo = "providers", timeout = "limits",
    sha256 = "hash", hmac = "hash", urls = "url", date = "time", templates = "template", paths = "path",
    process = "exec", processes = "exec", shell = "exec", mutex = "locks", limit = "locks", lock = "locks",
    semaphore = "locks", group = "tasks", race = "tasks", retry = "tasks", every = "tasks", spawn = "tasks",
    gather = "tasks", map = "tasks", task = "tasks", sleep = "scripts", now = "scripts", hrtime = "scripts",
    log = "scripts", main = "scripts", in_worker = "sync-vs-async", null = "json",
    file = "fs", files = "fs", memory = "limits", budgets = "limits",
    watchdog = "signals", ["ctrl-c"] = "signals", signal = "signals", channels = "channel", progress = "tools",
    idempotent = "tools", fail_fast = "agents", stream = "streaming", event = "events", on_event = "events",
    jsonl = "events",
    settings = "agents", usage = "events",
    delta = "streaming", image = "attachments", images = "attachments", document = "attachments",
    documents = "attachments", attach = "attachments", pdf = "attachments", structured = "output", value = "output",
    outputs = "output" }

--- page(name) -> the text of a page, or nil
local function page(name)
    local path = "lash/help/" .. name .. ".txt"
    local dir = os.getenv("LASH_LUA")
    if dir and dir ~= "" then
        local file = io.open(dir .. "/" .. path, "rb")
        local text = file and file:read("a")
        if file then
            file:close()
        end
        return text
    end
    return system.embedded(path)
end

M.page = page

--- The names of all pages, sorted.
function M.pages()
    local names = {}
    for _, path in ipairs(system.embedded_names("lash/help/")) do
        names[#names + 1] = path:match("([^/]+)%.txt$")
    end
    table.sort(names)
    return names
end

local function topics()
    local names = M.pages()
    for alias in pairs(ALIASES) do
        if alias ~= "" then
            names[#names + 1] = alias
        end
    end
    return names
end

--- @param topic of `lash COMMAND --help`, else nil
-- @return exit status
function M.run(parsed, topic)
    if parsed.options.annotations then
        output.write(require("lash.reference").annotations())
        return 0
    end
    topic = topic or parsed.words[1] or ""
    if #parsed.words > 1 and not parsed.options.help then
        failure.raise(64, "lash help takes one topic; what is '%s'?", parsed.words[2])
    end
    local name = topic:lower():gsub("^lash%.", ""):gsub("%(.*$", "") -- as in a script: lash.exec, lash.uuid()
    name = ALIASES[name] or name
    local text = name:find("^[%w_-]+$") and page(name)
    local entry = not text and require("lash.reference").find(topic:gsub("%(.*$", ""))
    if entry then
        text = require("lash.reference").text(entry) .. "\n"
    elseif not text then
        failure.raise(64, "there is no help on '%s'%s; `lash help` lists the topics", topic, near.hint(topic, topics()))
    end
    output.write(text)
    return 0
end

return M
