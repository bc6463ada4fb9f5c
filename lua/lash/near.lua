--- The nearest known word to a mistyped one.
local M = {}

--- The names in a table, sorted: what M.list and M.hint choose from.
function M.names(fields)
    local names = {}
    for name in pairs(fields) do
        names[#names + 1] = name
    end
    table.sort(names)
    return names
end

-- Insertions, deletions, replacements and swaps of neighbours that turn a into b.
local function distance(a, b)
    local before, row = {}, {}
    for j = 0, #b do
        row[j] = j
    end
    for i = 1, #a do
        local next_row = { [0] = i }
        for j = 1, #b do
            local cost = a:byte(i) == b:byte(j) and 0 or 1
            local best = math.min(row[j] + 1, next_row[j - 1] + 1, row[j - 1] + cost)
            if i > 1 and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
                best = math.min(best, before[j - 2] + 1)
            end
            next_row[j] = best
        end
        before, row = row, next_row
    end
    return row[#b]
end

--- @return the words of `list` that are near to `word`, nearest first, at most `max` (3)
function M.list(word, list, max)
    local found = {}
    local lower = word:lower()
    for _, known in ipairs(list) do
        local d = distance(lower:sub(1, 64), known:lower():sub(1, 64))
        local inside = #word >= 3 and known:lower():find(lower, 1, true)
        if d <= math.max(1, #known // 3) or inside then
            found[#found + 1] = { word = known, d = inside and math.min(d, 1) or d }
        end
    end
    table.sort(found, function(x, y)
        if x.d ~= y.d then
            return x.d < y.d
        end
        return x.word < y.word
    end)
    local words = {}
    for i = 1, math.min(#found, max or 3) do
        words[i] = found[i].word
    end
    return words
end

--- @return the nearest word of `list`, or nil when none is near
function M.best(word, list)
    return M.list(word, list, 1)[1]
end

--- A phrase for error messages: " (did you mean 'x'?)", or "".
function M.hint(word, list)
    local best = M.best(word, list)
    return best and (" (did you mean '%s'?)"):format(best) or ""
end

return M
