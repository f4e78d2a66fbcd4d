-- Much of the gateway's job in nginx: verifies the auth-v2 signature, judges the body, limits the access key, and
-- answers from a shared dictionary, or lets nginx forward the request and keeps its response. Only what the bench
-- needs: nothing is converted or signed again, counted or reloaded.

local ffi = require "ffi"
local bit = require "bit"
local cjson = require "cjson.safe"

ffi.cdef [[
    typedef struct evp_md_st EVP_MD;
    const EVP_MD *EVP_sha256(void);
    unsigned char *HMAC(const EVP_MD *md, const void *key, int key_length, const char *text, size_t length,
                        unsigned char *tag, unsigned int *tag_length);
    int CRYPTO_memcmp(const void *one, const void *other, size_t length);
]]

local job = {}
local crypto = ffi.C
local sha256 = crypto.EVP_sha256()
local rshift, band = bit.rshift, bit.band

local tag = ffi.new "unsigned char[32]"
local digits = ffi.new "unsigned char[64]"
local LOWER = ffi.new("const char[17]", "0123456789abcdef")
local UPPER = ffi.new("const char[17]", "0123456789ABCDEF")

-- Returns the HMAC-SHA256 in hexadecimal digits.
local function hmac(key, text)
    crypto.HMAC(sha256, key, #key, text, #text, tag, nil)
    for at = 0, 31 do
        digits[2 * at] = LOWER[rshift(tag[at], 4)]
        digits[2 * at + 1] = LOWER[band(tag[at], 15)]
    end
    return ffi.string(digits, 64)
end

local PLAIN = ffi.new "bool[256]"
for character in ("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"):gmatch "." do
    PLAIN[character:byte()] = true
end
local MAX_BODY = 16384
local room = ffi.new("unsigned char[?]", 3 * MAX_BODY)

-- Percent-encodes at most MAX_BODY bytes.
local function encode(text)
    local from, at = ffi.cast("const unsigned char *", text), 0
    for index = 0, #text - 1 do
        local byte = from[index]
        if PLAIN[byte] then
            room[at] = byte
            at = at + 1
        else
            room[at], room[at + 1], room[at + 2] = 0x25, UPPER[rshift(byte, 4)], UPPER[band(byte, 15)]
            at = at + 3
        end
    end
    return ffi.string(room, at)
end

local secrets = {}

-- Reads lines of an access key and its secret.
function job.load(path)
    for line in io.lines(path) do
        local access_key, secret = line:match "^(%S+) (%S+)$"
        secrets[access_key] = secret
    end
end

-- The signing keys of recent prefixes, which clients use for a second or longer.
local signing_keys, kept = {}, 0
local WINDOW = 900

local function signing_key(prefix, access_key, time)
    local known = signing_keys[prefix]
    if not known then
        local year, month, day, hour, minute, second = time:match "^(%d%d%d%d)-(%d%d)-(%d%d)T(%d%d):(%d%d):(%d%d)Z$"
        local secret = secrets[access_key]
        if not year or not secret then
            return nil
        end
        local zone = os.time() - os.time(os.date "!*t")
        local date = { year = year, month = month, day = day, hour = hour, min = minute, sec = second, isdst = false }
        known = { key = hmac(secret, prefix), signed_at = os.time(date) + zone }
        if kept == 1000 then
            signing_keys, kept = {}, 0
        end
        signing_keys[prefix], kept = known, kept + 1
    end
    if math.abs(ngx.time() - known.signed_at) > WINDOW then
        return nil
    end
    return known.key
end

-- Returns the verified access key, or nil.
local function caller(fields, body)
    local value = fields.authorization
    if type(value) ~= "string" then
        return nil
    end
    local prefix, access_key, time, names, signature = value:match "^(auth%-v2/([^/]+)/([^/]+)/([^/]+))/(%x+)$"
    local key = prefix and #signature == 64 and signing_key(prefix, access_key, time)
    if not key then
        return nil
    end
    local lines = { ngx.req.get_method(), ngx.var.uri }
    if ngx.var.args then
        lines[3] = ngx.var.args
    end
    lines[#lines + 1] = names
    for name in names:gmatch "[^;]+" do
        local field = fields[name]
        if type(field) ~= "string" then
            return nil
        end
        lines[#lines + 1] = encode(name) .. ":" .. encode(field)
    end
    lines[#lines + 1] = encode(body)
    local expected = hmac(key, table.concat(lines, "\n"))
    return crypto.CRYPTO_memcmp(expected, signature, 64) == 0 and access_key or nil
end

local TIME = "^%d%d%d%d%-%d%d%-%d%d %d%d:%d%d:%d%d$"

-- Returns what the cache knows a request by, or nil if its body is not as documented.
local function subject(fields, body)
    local kind = fields["content-type"]
    if type(kind) ~= "string" or kind:lower():sub(1, 16) ~= "application/json" then
        return nil
    end
    local request = cjson.decode(body)
    if type(request) ~= "table" or type(request.callId) ~= "string" then
        return nil
    end
    local first, last = request.beginTime, request.endTime
    if type(first) ~= "string" or type(last) ~= "string" or not first:match(TIME) or not last:match(TIME) then
        return nil
    end
    return request.callId .. "|" .. first .. "|" .. last
end

local function refuse(status, code)
    ngx.status = status
    ngx.header["Content-Type"] = "application/json;charset=UTF-8"
    ngx.print('{"resultData":null,"resultCode":"', code, '","resultDesc":"refused"}')
    return ngx.exit(ngx.HTTP_OK)
end

local PER_SECOND = 1000000

-- The access phase: answers, or returns so that the request is forwarded.
function job.admit()
    ngx.req.read_body()
    local fields, body = ngx.req.get_headers(), ngx.req.get_body_data() or ""
    local access_key = #body <= MAX_BODY and caller(fields, body)
    if not access_key then
        return refuse(401, "0300001")
    end
    local wanted = subject(fields, body)
    if not wanted then
        return refuse(400, "0300002")
    end
    local used = ngx.shared.used:incr(access_key .. ngx.time(), 1, 0, 2)
    if used and used > PER_SECOND then
        return refuse(429, "0300009")
    end
    local key = access_key .. "|" .. wanted
    local answer = ngx.shared.answers:get(key)
    ngx.header["Cache-Control"] = "no-store"
    if answer then
        ngx.header["Content-Type"] = "application/json;charset=UTF-8"
        ngx.header["Content-Length"] = #answer
        ngx.header["X-Cache"] = "HIT"
        ngx.print(answer)
        return ngx.exit(ngx.HTTP_OK)
    end
    ngx.header["X-Cache"] = "MISS"
    ngx.ctx.key = key
end

local MARGIN = 300

-- The body filter: keeps a successful response until shortly before its URL expires.
function job.keep()
    local context = ngx.ctx
    if not context.key then
        return
    end
    context.body = (context.body or "") .. ngx.arg[1]
    if not ngx.arg[2] or ngx.status ~= 200 then
        return
    end
    local response = cjson.decode(context.body)
    if type(response) ~= "table" or response.resultCode ~= "0" or type(response.resultData) ~= "string" then
        return
    end
    local expires = tonumber(response.resultData:match "[?&]Expires=(%d+)")
    local lifetime = expires and expires - MARGIN - ngx.time()
    if lifetime and lifetime > 0 then
        ngx.shared.answers:set(context.key, context.body, lifetime)
    end
end

return job
