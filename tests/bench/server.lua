-- Requests for wrk: a random machine, and a boot of its own each time.
local what, machines
function init(args)
    what, machines = args[1], tonumber(args[2])
    math.randomseed(tonumber(tostring(wrk):match("0x(%x+)") or "1", 16) + os.time())
end

local function mac()
    local n = math.random(0, machines - 1)
    return string.format("02-00-00-00-%02x-%02x", math.floor(n / 256), n % 256)
end

function request()
    if what == "contact" then
        return wrk.format("GET", string.format("/pxe/%s?boot=%x%x", mac(), math.random(0, 2 ^ 30), math.random(0, 2 ^ 30)))
    elseif what == "plan" then
        return wrk.format("GET", string.format("/pxe/%s/plan", mac()))
    end
    return wrk.format("GET", "/machines")
end

function done(summary, latency)
    local errors = summary.errors
    io.write(string.format(
        'RESULT {"requests":%d,"us":%d,"p50":%d,"p99":%d,"bad":%d,"lost":%d}\n',
        summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
        errors.status, errors.connect + errors.read + errors.write + errors.timeout
    ))
end
