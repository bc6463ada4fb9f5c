--- Reading lines: with the editor on a terminal that has a cursor, else plainly.
local engine = require "lash.core.engine"
local system = require "lash.core.system"
local terminal = require "lash.core.terminal"
local turn = require "lash.console.turn"

local M = {}

local editor -- lash.core.editor, when lines are edited

--- open() -> whether lines are edited; else why not
function M.open()
    local core = require "lash.core.editor"
    local ok, why = core.open()
    editor = ok and core or nil
    return ok, why
end

--- is_edited() -> whether lines are edited
function M.is_edited()
    return editor ~= nil
end

--- complete_with(fn): see completer() of lash.core.editor; nothing without an editor
function M.complete_with(fn)
    if editor then
        editor.completer(fn)
    end
end

--- area(text | nil): lines at the bottom of the terminal, see lash.core.editor
function M.area(text)
    if editor then
        editor.area(text)
    end
end

--- tail(text): a piece of a text that comes in pieces; what others write stands above its last line
function M.tail(text)
    if editor then
        editor.tail(text)
    else
        system.write(1, text)
    end
end

--- quiet(): until the next line keys are not shown but kept for it, as what is drawn must not be broken by them
function M.quiet()
    if editor then
        editor.quiet()
    end
end

--- fresh_line(): below what stands in the cursor's line, such as the ^C that the terminal shows
function M.fresh_line()
    if editor then
        system.flush()
        editor.fresh_line()
    end
end

--- recover(): after a child that has perhaps left the terminal in disorder
function M.recover()
    if editor then
        editor.recover()
    end
end

--- add_history(entry): for the arrow keys
function M.add_history(entry)
    if editor then
        editor.add_history(entry)
    end
end

-- Ctrl-C is for the task that reads. @return true, result | false: Ctrl-C came
local function interruptible(fn, ...)
    local ok, result = turn.run(fn, ...)
    if not ok and not engine.cancel_reason(result) then
        error(result, 0)
    end
    return ok, result
end

local function edited(prompt)
    local ok, line = interruptible(editor.read, prompt)
    if ok then
        return line
    end
    return nil, true
end

-- A terminal keeps a line until it is whole; a file or a pipe holds the loop only for a moment, or as long as
-- who writes into it likes.
local function plain(prompt)
    if system.isatty(1) then
        system.flush()
        system.write(1, prompt)
    end
    if system.isatty(0) and not interruptible(terminal.readable, 0) then
        system.write(1, "\n")
        return nil, true
    end
    return io.stdin:read "l"
end

--- line(prompt) -> text | nil at the end of the input | nil, true when Ctrl-C took what was typed
function M.line(prompt)
    if editor then
        return edited(prompt)
    end
    return plain(prompt)
end

return M
