-- The globals that scripts see. Runs once for each engine, before any script.
--
-- Lua 5.1 has no tables that cannot be changed, so scripts get stand-ins: an empty table whose
-- metatable reads from the real one and refuses to write. Functions that go around metatables
-- (rawset, next and so on) are wrapped, so that they see through or refuse. No script ever gets
-- hold of a real table, which is what everything here has to keep true.
--
-- Nothing below uses a global: what a script shares is only what it is given.

local raw, rust, libraries = ...

local error, type, tonumber, select = raw.error, raw.type, raw.tonumber, raw.select
local READONLY = "Attempt to modify a readonly table"

-- From a stand-in to the real table.
local behind = {}
-- From a stand-in to what getmetatable tells about it.
local shown_metatables = {}

local function stand_in(real)
    local proxy = {}
    local metatable = { __index = real, __newindex = rust.readonly }
    raw.setmetatable(proxy, metatable)
    behind[proxy] = real
    return proxy, metatable
end

-- Reading what is not there is an error.
local function refuse_missing(real)
    raw.setmetatable(real, { __index = rust.missing })
    return real
end

local function copy(from)
    local to = {}
    for name, value in raw.pairs(from) do
        to[name] = value
    end
    return to
end

-- Base functions that are as they were.
local base = {
    _VERSION = raw._VERSION,
    assert = raw.assert,
    error = error,
    gcinfo = raw.gcinfo,
    ipairs = raw.ipairs,
    load = rust.load,
    loadstring = rust.loadstring,
    rawequal = raw.rawequal,
    select = select,
    tonumber = tonumber,
    tostring = raw.tostring,
    type = type,
}

-- Tables -----------------------------------------------------------------------------------

do
    local rawset = raw.rawset
    function base.rawset(table, key, value)
        if behind[table] then
            error(READONLY, 0)
        end
        return rawset(table, key, value)
    end
end

do
    local rawget = raw.rawget
    function base.rawget(table, key)
        return rawget(behind[table] or table, key)
    end
end

do
    local next, pairs = raw.next, raw.pairs

    local function visible_next(table, key)
        return next(behind[table] or table, key)
    end
    base.next = visible_next

    function base.pairs(...)
        local table = ...
        if behind[table] then
            return visible_next, table, nil
        end
        if type(table) ~= "table" then
            local got = select("#", ...) == 0 and "no value" or type(table)
            error("bad argument #1 to 'pairs' (table expected, got " .. got .. ")", 2)
        end
        return pairs(table)
    end
end

do
    local setmetatable = raw.setmetatable
    function base.setmetatable(...)
        if behind[(...)] then
            error(READONLY, 0)
        end
        return setmetatable(...)
    end
end

local string_metatable

do
    local getmetatable = raw.getmetatable
    function base.getmetatable(...)
        local value = ...
        if type(value) == "string" then
            return string_metatable
        end
        if behind[value] then
            return shown_metatables[value]
        end
        return getmetatable(...)
    end
end

do
    local unpack = raw.unpack
    -- More than Lua's own limit, and less than what overflows its arithmetic.
    local RESULTS_MAX, INDEX_MAX = 8000, 2 ^ 31 - 1

    function base.unpack(table, first, last)
        if first ~= nil or last ~= nil then
            local from = first == nil and 1 or tonumber(first)
            local to = last ~= nil and tonumber(last) or last == nil and type(table) == "table" and #table
            if from and to then
                if from > to then
                    return
                end
                if not (to - from < RESULTS_MAX and from >= -INDEX_MAX and to <= INDEX_MAX) then
                    error("too many results to unpack", 2)
                end
            end
        end
        if type(table) ~= "table" then
            error("bad argument #1 to 'unpack' (table expected, got " .. type(table) .. ")", 2)
        end
        return unpack(table, first, last)
    end
end

local table = copy(raw.table)

do
    local insert = table.insert
    function table.insert(table, ...)
        if behind[table] then
            error(READONLY, 0)
        end
        return insert(table, ...)
    end

    local foreach = table.foreach
    function table.foreach(table, call)
        return foreach(behind[table] or table, call)
    end
end

-- Errors -----------------------------------------------------------------------------------

-- Rust functions raise opaque objects; `rust.caught` makes of them what they stand for, and lets
-- pass those that nobody may catch.
do
    local pcall, caught = raw.pcall, rust.caught

    local function after(ok, result, ...)
        if ok then
            return true, result, ...
        end
        return false, caught(result)
    end

    function base.pcall(...)
        return after(pcall(...))
    end
end

do
    local xpcall, caught, uncatchable = raw.xpcall, rust.caught_as_is, rust.uncatchable

    local function after(ok, result, ...)
        if not ok and uncatchable(result) then
            error(result, 0)
        end
        return ok, result, ...
    end

    function base.xpcall(call, handler)
        return after(xpcall(call, function(problem)
            if uncatchable(problem) then
                return problem
            end
            return handler(caught(problem))
        end))
    end

    local coroutine = copy(raw.coroutine)
    local resume = coroutine.resume

    local function resumed(ok, result, ...)
        if ok then
            return true, result, ...
        end
        return false, caught(result)
    end

    function coroutine.resume(...)
        return resumed(resume(...))
    end

    base.coroutine = stand_in(coroutine)
end

-- Memory -----------------------------------------------------------------------------------

do
    local collectgarbage = raw.collectgarbage
    -- Stopping the collector or changing its pace would outlast the script.
    local ignored = { stop = 0, restart = 0, setpause = 200, setstepmul = 200 }

    function base.collectgarbage(option, ...)
        if option ~= nil and ignored[option] then
            return ignored[option]
        end
        return collectgarbage(option, ...)
    end
end

-- Strings ----------------------------------------------------------------------------------

-- Matching recurses in C for every repetition in the pattern, so a pattern has a bound. Below
-- this length none can be reached.
local PATTERN_BYTES_CHECKED = 1000

local string = copy(raw.string)
local too_complex = rust.too_complex

do
    local find = string.find
    function string.find(text, pattern, first, plain)
        if type(pattern) == "string" and #pattern > PATTERN_BYTES_CHECKED and not plain and too_complex(pattern) then
            error("pattern too complex", 2)
        end
        return find(text, pattern, first, plain)
    end

    local match = string.match
    function string.match(text, pattern, first)
        if type(pattern) == "string" and #pattern > PATTERN_BYTES_CHECKED and too_complex(pattern) then
            error("pattern too complex", 2)
        end
        return match(text, pattern, first)
    end

    local gmatch = string.gmatch
    function string.gmatch(text, pattern)
        if type(pattern) == "string" and #pattern > PATTERN_BYTES_CHECKED and too_complex(pattern) then
            error("pattern too complex", 2)
        end
        return gmatch(text, pattern)
    end

    local gsub = string.gsub
    function string.gsub(text, pattern, replacement, count)
        if type(pattern) == "string" and #pattern > PATTERN_BYTES_CHECKED and too_complex(pattern) then
            error("pattern too complex", 2)
        end
        return gsub(text, pattern, replacement, count)
    end
end

string.gfind = string.gmatch
string.rep = rust.rep

do
    local shared = raw.getmetatable("")
    shared.__index = string
    base.string = stand_in(string)
    string_metatable = stand_in({ __index = base.string })
end

-- The libraries ----------------------------------------------------------------------------

base.table = stand_in(table)

local math = copy(raw.math)
math.random = rust.random
math.randomseed = rust.randomseed
base.math = stand_in(math)

for name, library in raw.pairs(libraries.common) do
    base[name] = stand_in(library)
end

-- Three kinds of globals -------------------------------------------------------------------

local function globals(real)
    local proxy, metatable = stand_in(refuse_missing(real))
    real._G = proxy
    shown_metatables[proxy] = stand_in({ __index = rust.missing })
    return proxy, metatable
end

local for_scripts = copy(base)
for_scripts.redis = stand_in(libraries.script)
for_scripts.server = stand_in(libraries.server)
for_scripts.os = stand_in(libraries.os)
for_scripts.__redis__err__handler = rust.describe_error

local for_functions = copy(base)
for_functions.redis = stand_in(libraries.functions)
for_functions.server = stand_in(libraries.server_functions)
for_functions.os = for_scripts.os

-- While a library is loaded it sees no more than what registers functions.
local for_loading = refuse_missing({
    redis = stand_in(refuse_missing(libraries.loading)),
    server = stand_in(refuse_missing(libraries.server_loading)),
})

local script_globals = globals(for_scripts)
local function_globals, function_metatable = globals(for_functions)

-- Running ----------------------------------------------------------------------------------

local xpcall, uncaught = raw.xpcall, rust.uncaught
local callee, keys, args

local function call()
    local call, first, second = callee, keys, args
    callee, keys, args = nil, nil, nil
    return call(first, second)
end

local function run(call_this, with_keys, with_args)
    callee, keys, args = call_this, with_keys, with_args
    return xpcall(call, uncaught)
end

return {
    run = run,
    -- The real tables, for the engine alone.
    for_scripts = for_scripts,
    for_functions = for_functions,
    for_loading = for_loading,
    function_metatable = function_metatable,
    -- What chunks get as their environment.
    script_globals = script_globals,
    function_globals = function_globals,
}
