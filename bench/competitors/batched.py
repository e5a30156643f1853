"""FastAPI + asyncpg + PostgreSQL, as well as it can be batched.

The records of all requests that wait go to the database in one statement, grouped by profile: one update for
each profile, its operators applied by one SQL function. Replies are written when that has been committed.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg
import orjson
from fastapi import FastAPI, Request, Response

from bench.competitors.updates import SQL, Update, by_profile

WRITERS: Final = int(os.environ.get("BENCH_CONNECTIONS", "2"))
RECORDS_AT_ONCE: Final = 2000
TRIES: Final = 20
_CASES: Final = "\n".join(
    f"WHEN '{operator}' THEN doc := {expression.format(doc='doc', payload='payload')};"
    for operator, expression in SQL.items()
)
FUNCTION: Final = f"""
CREATE OR REPLACE FUNCTION applied(doc jsonb, updates jsonb) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE payload jsonb; many int := jsonb_array_length(updates) / 3;
BEGIN
    FOR at IN 0 .. many - 1 LOOP
        payload := updates -> (3 * at + 1);
        CASE updates ->> (3 * at)
            {_CASES}
        END CASE;
    END LOOP;
    RETURN doc || jsonb_build_object('$last_seen', updates -> -1);
END $$
"""
_UPDATE: Final = """
    UPDATE profiles SET doc = applied(doc, updates) FROM unnest($1::text[], $2::jsonb[]) AS u(id, updates)
    WHERE profiles.id = u.id RETURNING profiles.id
"""
_INSERT: Final = """
    INSERT INTO profiles
    SELECT id, applied('{}', updates) FROM unnest($1::text[], $2::jsonb[]) AS u(id, updates)
    ON CONFLICT (id) DO UPDATE SET doc = applied(profiles.doc, $3::jsonb -> excluded.id)
"""
_Waiting = tuple[list[dict[str, Any]], "asyncio.Future[None]"]


async def _initialise(connection: Any) -> None:
    # the plan that a table of a million rows wants, whatever the statistics say while it is new; and its
    # order of updates is that of the ids, so that two writers do not lock each other out
    await connection.execute(
        "SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_seqscan = off"
    )


async def _write(pool: Any, waiting: asyncio.Queue[_Waiting]) -> None:
    while True:
        taken = [await waiting.get()]
        count = len(taken[0][0])
        while count < RECORDS_AT_ONCE and not waiting.empty():
            taken.append(waiting.get_nowait())
            count += len(taken[-1][0])
        try:
            await _write_all(pool, [record for records, _ in taken for record in records])
        except Exception as error:  # noqa: BLE001 - whoever waits must be told
            for _, done in taken:
                done.set_exception(error)
        else:
            for _, done in taken:
                if not done.done():
                    done.set_result(None)


async def _write_all(pool: Any, records: list[dict[str, Any]]) -> None:
    """Write records in one transaction; again where it met another that held its rows the other way round."""
    for _ in range(TRIES):
        try:
            await _write_once(pool, records)
        except asyncpg.DeadlockDetectedError:
            continue
        return
    raise RuntimeError("the same records were in a deadlock again and again")


async def _write_once(pool: Any, records: list[dict[str, Any]]) -> None:
    profiles = by_profile(records)
    encoded = [_encoded(updates) for updates in profiles.values()]
    async with pool.acquire() as connection, connection.transaction():
        found = {row[0] for row in await connection.fetch(_UPDATE, list(profiles), encoded)}
        if len(found) < len(profiles):
            new = {name: _encoded(updates) for name, updates in profiles.items() if name not in found}
            all_of_them = "{" + ",".join(f"{orjson.dumps(k).decode()}:{v}" for k, v in new.items()) + "}"
            await connection.execute(_INSERT, list(new), list(new.values()), all_of_them)


def _encoded(updates: list[Update]) -> str:
    """One flat list, which SQL reads by index: operator, payload, last seen, and again."""
    return orjson.dumps([part for update in updates for part in update]).decode()


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool(
        os.environ["BENCH_DSN"], min_size=WRITERS, max_size=WRITERS, init=_initialise
    ) as pool:
        app.state.waiting = asyncio.Queue()
        writers = [asyncio.create_task(_write(pool, app.state.waiting)) for _ in range(WRITERS)]
        yield
        for writer in writers:
            writer.cancel()
        await asyncio.gather(*writers, return_exceptions=True)


app: Final = FastAPI(lifespan=_lifespan)


@app.post("/engage")
async def engage(request: Request) -> Response:
    """Queue the records, and answer when they are committed."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    app.state.waiting.put_nowait((orjson.loads(await request.body()), done))
    await done
    return Response("1", media_type="application/json")
