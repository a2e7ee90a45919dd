-- One JSON object: how many keys there are of each type, and a sum over their contents that does not
-- depend on order or encoding. Keys that expire are left out: they go while a dump lies around.
local function pairs_sorted(list)
    local fields = {}
    for i = 1, #list, 2 do fields[#fields + 1] = list[i] .. '\0' .. list[i + 1] end
    table.sort(fields)
    return table.concat(fields, '\1')
end
local function sorted(list)
    table.sort(list)
    return table.concat(list, '\1')
end
local function flat(value)
    if type(value) ~= 'table' then return tostring(value) end
    local parts = {}
    for i = 1, #value do parts[i] = flat(value[i]) end
    return '(' .. table.concat(parts, '\1') .. ')'
end
local contents = {
    string = function(key) return redis.call('get', key) end,
    list = function(key) return table.concat(redis.call('lrange', key, 0, -1), '\1') end,
    set = function(key) return sorted(redis.call('smembers', key)) end,
    hash = function(key) return pairs_sorted(redis.call('hgetall', key)) end,
    zset = function(key) return pairs_sorted(redis.call('zrange', key, 0, -1, 'withscores')) end,
    stream = function(key) return flat(redis.call('xrange', key, '-', '+')) end,
}
local keys, sum = {}, {0, 0, 0, 0}
-- As many as there are unless told otherwise; `start` tells nothing else.
for database = 0, 15 do
    redis.call('select', database)
    local cursor = '0'
    repeat
        local answer = redis.call('scan', cursor, 'count', 1000)
        cursor = answer[1]
        for _, key in ipairs(answer[2]) do
            if redis.call('pttl', key) == -1 then
                local kind = redis.call('type', key).ok
                local read = contents[kind] or function() return redis.call('dump', key) end
                local digest = redis.sha1hex(database .. '\0' .. key .. '\0' .. kind .. '\0' .. read(key))
                for i = 1, 4 do
                    local part = tonumber(string.sub(digest, i * 8 - 7, i * 8), 16)
                    sum[i] = (sum[i] + part) % 4294967296
                end
                keys[kind] = (keys[kind] or 0) + 1
            end
        end
    until cursor == '0'
end
local kinds = {}
for kind, count in pairs(keys) do kinds[#kinds + 1] = string.format('"%s":%d', kind, count) end
table.sort(kinds)
return '{"keys":{' .. table.concat(kinds, ',') .. '},"sum":"' ..
    string.format('%08x%08x%08x%08x', sum[1], sum[2], sum[3], sum[4]) .. '"}'
