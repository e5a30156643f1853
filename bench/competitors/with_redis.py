"""FastAPI + Redis: profiles as JSON texts, the operators in one Lua script, run once for a request.

As in anyone's Lua, a list that has become empty comes back from `cjson` as an object.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import orjson
from fastapi import FastAPI, Request, Response
from redis.asyncio import BlockingConnectionPool, Redis, UnixDomainSocketConnection

from bench.competitors.updates import by_profile

CONNECTIONS: Final = int(os.environ.get("BENCH_CONNECTIONS", "32"))
SCRIPT: Final = """
local apply = {
    ['$set'] = function(doc, payload) for k, v in pairs(payload) do doc[k] = v end end,
    ['$set_once'] = function(doc, payload)
        for k, v in pairs(payload) do if doc[k] == nil then doc[k] = v end end
    end,
    ['$unset'] = function(doc, payload) for _, k in ipairs(payload) do doc[k] = nil end end,
    ['$add'] = function(doc, payload) for k, v in pairs(payload) do doc[k] = (doc[k] or 0) + v end end,
    ['$append'] = function(doc, payload)
        for k, v in pairs(payload) do
            if doc[k] == nil then doc[k] = {} end
            table.insert(doc[k], v)
        end
    end,
    ['$union'] = function(doc, payload)
        for k, list in pairs(payload) do
            if doc[k] == nil then doc[k] = {} end
            local known = {}
            for _, v in ipairs(doc[k]) do known[v] = true end
            for _, v in ipairs(list) do
                if not known[v] then known[v] = true; table.insert(doc[k], v) end
            end
        end
    end,
    ['$remove'] = function(doc, payload)
        for k, v in pairs(payload) do
            if doc[k] ~= nil then
                local kept = {}
                for _, e in ipairs(doc[k]) do if e ~= v then table.insert(kept, e) end end
                doc[k] = kept
            end
        end
    end,
}
local makes = {['$set'] = true, ['$set_once'] = true, ['$add'] = true, ['$append'] = true, ['$union'] = true}
for i, key in ipairs(KEYS) do
    local stored = redis.call('GET', key)
    local doc = stored and cjson.decode(stored)
    for _, update in ipairs(cjson.decode(ARGV[i])) do
        if not doc and makes[update[1]] then doc = {} end
        if doc then
            apply[update[1]](doc, update[2])
            doc['$last_seen'] = update[3]
        end
    end
    if doc then redis.call('SET', key, cjson.encode(doc)) end
end
"""


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    pool = BlockingConnectionPool(
        max_connections=CONNECTIONS,
        timeout=None,
        connection_class=UnixDomainSocketConnection,
        path=os.environ["BENCH_REDIS"],
    )
    async with Redis(connection_pool=pool) as redis:
        app.state.apply = redis.register_script(SCRIPT)
        yield
    await pool.disconnect()


app: Final = FastAPI(lifespan=_lifespan)


@app.post("/engage")
async def engage(request: Request) -> Response:
    """Run the script on the profiles of the request."""
    profiles = by_profile(orjson.loads(await request.body()))
    await app.state.apply(keys=list(profiles), args=[orjson.dumps(updates) for updates in profiles.values()])
    return Response("1", media_type="application/json")
