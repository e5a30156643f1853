"""FastAPI + asyncpg + PostgreSQL: an upsert for each record, a transaction for each request."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg
import orjson
from fastapi import FastAPI, Response

from bench.competitors.updates import ONLY_CHANGES, SQL, updates

CONNECTIONS: Final = int(os.environ.get("BENCH_CONNECTIONS", "16"))
_SEEN: Final = "jsonb_build_object('$last_seen', $3::text)"
_FIRST: Final = {
    "$append": "(SELECT jsonb_object_agg(k, jsonb_build_array(v)) FROM jsonb_each($2::jsonb) AS p(k, v))"
}


def _statement(operator: str) -> str:
    changed = f"({SQL[operator].format(doc='profiles.doc', payload='$2::jsonb')}) || {_SEEN}"
    if operator in ONLY_CHANGES:
        return f"UPDATE profiles SET doc = {changed} WHERE id = $1"  # noqa: S608 - it is made of constants
    first = f"{_FIRST.get(operator, '$2::jsonb')} || {_SEEN}"
    return f"INSERT INTO profiles VALUES ($1, {first}) ON CONFLICT (id) DO UPDATE SET doc = {changed}"  # noqa: S608


_STATEMENTS: Final = {operator: _statement(operator) for operator in SQL}


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.pool = await asyncpg.create_pool(
        os.environ["BENCH_DSN"], min_size=CONNECTIONS, max_size=CONNECTIONS
    )
    yield
    await app.state.pool.close()


app: Final = FastAPI(lifespan=_lifespan)


@app.post("/engage")
async def engage(records: list[dict[str, Any]]) -> Response:
    """Upsert each record; sorted by profile, for transactions would lock each other out otherwise."""
    async with app.state.pool.acquire() as connection, connection.transaction():
        for record in sorted(records, key=lambda record: str(record["$distinct_id"])):
            for operator, payload, seen in updates(record):
                await connection.execute(
                    _STATEMENTS[operator], record["$distinct_id"], orjson.dumps(payload).decode(), seen
                )
    return Response("1", media_type="application/json")
