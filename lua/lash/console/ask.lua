--- Ask mode: a line goes to the current agent, its answer streams in.
local display = require "lash.console.display"
local engine = require "lash.core.engine"
local lazy = require "lash.lazy"
local script = require "lash.script"
local turn = require "lash.console.turn"

local attach = lazy "lash.console.attach"

local M = {}

local CANCELLED = "cancelled; the conversation can go on"

-- Runs as a task that Ctrl-C ends, with a clock beside it.
local function send(conversation, line, workspace, view)
    local clock <close> = engine.group(false)
    local ticking = clock:spawn(view.refresh, view)
    local result = conversation:send(line, {
        no_raise = true,
        model = workspace.model,
        on_event = function(event)
            view:take(event)
        end,
    })
    ticking:cancel()
    return result
end

-- What is told behind the answer.
local function close(view, result)
    if result.reason == "cancelled" then
        script.say(CANCELLED)
    elseif result.error then
        script.say(result.error.message)
    end
    view:closing_line(not result.ok and not result.error and result.reason or nil)
end

-- What a model refused is not sent again and again: it is as if it had not been asked.
local function take_back(conversation, upto, workspace, files)
    if #conversation.entries == upto + 1 then
        conversation.entries[upto + 1], conversation.scratch = nil, nil
        workspace.attached = files
        script.say "the files are still attached; .attach - takes them back"
    end
end

--- ask(workspace, line, paint): asks, with what is attached, shows, and returns when the answer is complete or
-- Ctrl-C has cancelled it.
function M.ask(workspace, line, paint)
    local ready, conversation = pcall(workspace.talk, workspace)
    if not ready then
        return script.say(tostring(conversation))
    end
    local view = display.new(paint)
    local files, upto, message = workspace.attached, #conversation.entries, line
    if files[1] then
        message, workspace.attached = attach.message(files, line), {}
        view:note("with " .. attach.names(files))
    end
    local ok, result = turn.run(send, conversation, message, workspace, view)
    view:finish()
    if ok then
        close(view, result)
    elseif engine.cancel_reason(result) then
        script.say(CANCELLED)
    else
        script.say(tostring(result))
    end
    if files[1] and (not ok or result.error) then
        take_back(conversation, upto, workspace, files)
    end
end

return M
