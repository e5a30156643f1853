"""Cases of contract ingestion §11 about /import and identities, and what §6.3-§8 say beside them."""

from __future__ import annotations

import gzip
import json

from tests.contract.cases_of_events import (
    CHARACTERS,
    DAY_S,
    EARLY,
    FUTURE,
    IDENTITY,
    NOW_S,
    SA,
    SOME,
    TEXT_TIME,
    U1,
    UUID4,
    EventCase,
    I,
    T,
    b64,
    basic,
    import_failed,
    import_refused,
    import_verbose,
    imported,
    imports,
    track,
    unauthorized,
    wrong_time,
)
from tests.contract.support import FORM, ONE, V0, ZERO, Sent

ON_IMPORT = [
    EventCase(
        "127",
        imports(I(), I(**{"$insert_id": "i-2"})),
        [{"insert_id": "i-1", "time": NOW_S * 1000, "properties": {"$import": True}}, {"insert_id": "i-2"}],
    ),
    EventCase(
        "128",
        imports(
            I(),
            I(time=...),
            reply=import_failed(1, (1, "i-1", "properties.time", wrong_time("must not be missing"))),
        ),
        [U1],
        refused=[wrong_time("must not be missing")],
    ),
    EventCase(
        "129",
        imports(
            I(), I(**{"$insert_id": "a_b"}), reply=import_failed(1, (1, "a_b", "$insert_id", CHARACTERS))
        ),
        [U1],
    ),
    EventCase(
        "129: missing",
        imports(
            I(**{"$insert_id": ...}),
            reply=import_failed(0, (0, "", "$insert_id", "'$insert_id' is invalid: must not be missing")),
        ),
    ),
    EventCase(
        "129: long",
        imports(
            I(**{"$insert_id": "a" * 37}),
            reply=import_failed(
                0, (0, "a" * 37, "$insert_id", "'$insert_id' is invalid: must be at most 36 bytes")
            ),
        ),
    ),
    EventCase(
        "130",
        imports(I(time=NOW_S + 3 * 3600), reply=import_failed(0, (0, "i-1", "properties.time", FUTURE))),
    ),
    EventCase("130: a little", imports(I(time=NOW_S + 1800)), [{"arrived": True}]),
    EventCase(
        "130: before 1971",
        imports(I(time=86_400), reply=import_failed(0, (0, "i-1", "properties.time", EARLY))),
    ),
    EventCase("130: 1971", imports(I(time=365 * DAY_S)), [{"time": 365 * DAY_S * 1000}]),
    EventCase(
        "130: iso",
        imports(I(time="2026-01-15"), reply=import_failed(0, (0, "i-1", "properties.time", TEXT_TIME))),
    ),
    EventCase(
        "131",
        imports(
            I(distinct_id="undefined"),
            reply=import_failed(
                0,
                (
                    0,
                    "i-1",
                    "properties.distinct_id",
                    "'properties.distinct_id' is invalid: must not be a placeholder value",
                ),
            ),
        ),
    ),
    EventCase("132", imports(I(distinct_id="")), [{"distinct_id": ""}]),
    EventCase(
        "133: no id",
        imports(
            I(distinct_id=...),
            reply=import_failed(
                0,
                (
                    0,
                    "i-1",
                    "properties.distinct_id",
                    "'properties.distinct_id' is invalid: must not be missing",
                ),
            ),
        ),
        mode="original",
    ),
    EventCase("134", imports(I(), query="?verbose=1&project_id=1", reply=import_verbose(1, None)), [U1]),
    EventCase(
        "134: partial", imports(I(), {}, query="?verbose=1&project_id=1", reply=import_verbose(1, SOME)), [U1]
    ),
    EventCase("134: a probe", imports({}, query="?verbose=1&project_id=1", reply=import_verbose(0, SOME))),
    EventCase(
        "135", Sent("/import", f"data={b64(I())}".encode(), content_type=FORM, headers=basic("SEC:")), [U1]
    ),
    EventCase("135: by token", imports(I(), query="?strict=1", headers=basic("TOK:")), [U1]),
    EventCase("135: in clear", imports(I(), headers={"Authorization": "Basic sa:pw"}), [U1]),
    EventCase(
        "135: GET", Sent(f"/import?data={b64(I())}", None, ONE, method="GET", headers=basic("SEC:")), [U1]
    ),
    EventCase("135: api_key", imports(I(), query="?api_key=SEC", reply=ONE, headers={}), [U1]),
    EventCase("135: another token", imports(I(token="NOPE")), [U1]),
    EventCase(
        "137",
        imports(I(), headers=basic("nobody:x"), reply=unauthorized("Not a valid service account username")),
    ),
    EventCase("138", imports(I(token="TOK"), headers={}, reply=unauthorized("Invalid credentials"))),
    EventCase(
        "138: no project",
        imports(
            I(),
            query="?strict=1",
            reply=unauthorized("Invalid credentials: a service account needs the parameter project_id"),
        ),
    ),
    EventCase(
        "138: another project",
        imports(I(), query="?project_id=77", reply=unauthorized("not a project member")),
    ),
    EventCase(
        "138: another secret",
        imports(
            I(),
            headers=basic("SEC:"),
            query="?project_id=2",
            reply=unauthorized("Credentials in request did not match project_id URL parameter"),
        ),
    ),
    EventCase(
        "138: no secret",
        imports(
            I(),
            headers=basic("NOSEC:"),
            reply=unauthorized(
                "Unauthorized, invalid project secret. See docs for more information: https://developer.mixpanel.com/reference/authentication#project-secret"
            ),
        ),
    ),
    EventCase(
        "139",
        Sent(
            "/import?strict=1&project_id=1",
            gzip.compress(json.dumps(I()).encode() + b"\n\n" + json.dumps(I("F")).encode() + b"\n"),
            imported(2),
            content_type="application/x-ndjson",
            headers={**SA, "Content-Encoding": "gzip"},
        ),
        [{"event": "E"}, {"event": "F"}],
    ),
    EventCase(
        "139: a bad line",
        Sent(
            "/import?strict=1&project_id=1",
            json.dumps(I()).encode() + b"\n{x\n" + json.dumps(I("F")).encode(),
            import_failed(2, (1, "", "", "data, invalid JSON")),
            content_type="application/x-ndjson",
            headers=SA,
        ),
        [{"event": "E"}, {"event": "F"}],
        refused=["data, invalid JSON"],
    ),
    EventCase("255 strict", imports(I(**{f"p{n}": n for n in range(255)})), [{"count": 256}]),
    EventCase(
        "256 strict",
        imports(
            I(**{f"p{n}": n for n in range(256)}),
            reply=import_failed(
                0, (0, "i-1", "properties", "'properties' is invalid: must hold at most 255 properties")
            ),
        ),
    ),
    EventCase(
        "blank",
        imports(I(" "), reply=import_failed(0, (0, "i-1", "event", "'event' must not be missing or blank"))),
    ),
    EventCase(
        "no properties",
        imports(
            {"event": "E"},
            reply=import_failed(0, (0, "", "properties", "'properties' is invalid: must not be missing")),
        ),
    ),
    EventCase("not an object", imports(5, reply=import_failed(0, (0, "", "", "data, must be an object")))),
    EventCase(
        "utf8",
        Sent(
            "/import?strict=1&project_id=1",
            json.dumps([I(utm_source="@")]).encode().replace(b"@", b"\xff"),
            import_failed(
                0,
                (
                    0,
                    "",
                    "properties.utm_source",
                    "properties.utm_source is invalid: string should be valid utf8",
                ),
            ),
            headers=SA,
        ),
    ),
    EventCase("empty", imports(query="?project_id=1", reply=ZERO)),
    EventCase(
        "empty, verbose",
        imports(query="?project_id=1&verbose=1", reply=import_verbose(0, "data, missing or empty")),
    ),
    EventCase("empty, strict", imports(reply=import_refused(0, [], "data, missing or empty"))),
    EventCase(
        "malformed",
        Sent("/import?strict=1&project_id=1", b"{", import_refused(0, [], "data, invalid JSON"), headers=SA),
    ),
    EventCase(
        "malformed, legacy",
        Sent("/import?project_id=1", b"{", import_refused(0, [], "data, invalid JSON", 0), headers=SA),
    ),
    EventCase(
        "not strict",
        imports(
            I(**{"$insert_id": ..., "distinct_id": "null"}), I(time=...), query="?project_id=1", reply=ONE
        ),
        [{"distinct_id": "null", "generated": True}],
    ),
]

IDENTITIES = [
    EventCase(
        "141",
        Sent(
            "/track",
            (
                "data="
                + b64(
                    {
                        "event": "$identify",
                        "properties": {"token": "TOK", "$identified_id": "u1", "$anon_id": UUID4},
                    }
                )
            ).encode(),
            content_type=FORM,
        ),
        [{"event": "$identify", "distinct_id": "u1"}],
        [("identify", "u1", UUID4)],
        "original",
    ),
    EventCase(
        "142",
        track(T("$identify", **{"$anon_id": "not-a-uuid"})),
        [{"event": "$identify"}],
        [("identify", "u1", "not-a-uuid")],
        "original",
    ),
    EventCase(
        "141: SDK",
        track(T("$identify", **{"$anon_distinct_id": UUID4})),
        [U1],
        [("identify", "u1", UUID4)],
        "original",
    ),
    EventCase(
        "143",
        track(T("$create_alias", alias="a1")),
        [{"event": "$create_alias"}],
        [("create_alias", "u1", "a1")],
        "original",
    ),
    EventCase(
        "143: legacy",
        track(T("$create_alias", alias="a1"), T("$identify", **{"$anon_id": UUID4})),
        [U1, U1],
        [("create_alias", "u1", "a1")],
        "legacy",
    ),
    EventCase(
        "145",
        track(
            {"event": "$create_alias", "properties": {"token": "TOK"}},
            query="?verbose=1",
            reply=V0("distinct_id, missing or empty"),
        ),
    ),
    EventCase(
        "146",
        imports({"event": "$merge", "properties": {"$distinct_ids": ["u1", "u2"]}}),
        [{"event": "$merge"}],
        [("merge", "u1", "u2")],
        "original",
    ),
    EventCase(
        "146: on /track",
        track(T("$merge", **{"$distinct_ids": ["u1", "u2"]})),
        [{"event": "$merge"}],
        (),
        "original",
    ),
    EventCase(
        "148",
        [
            track({"event": "E", "properties": {"token": "TOK", "$device_id": "D1"}}),
            track(
                *[{"event": "E", "properties": {"token": "TOK", "$device_id": "D1", "$user_id": "U1"}}] * 3
            ),
        ],
        [{"distinct_id": "$device:D1"}, *[{"distinct_id": "U1"}] * 3],
        [("device", "$device:D1", "U1")],
    ),
    EventCase(
        "149",
        track(T(**{"$device_id": "$device:D1", "$user_id": "U2"})),
        [{"distinct_id": "U2"}],
        [("device", "$device:D1", "U2")],
    ),
    EventCase(
        "150: on ordinary events", track(T(**{"$device_id": "D1", "$user_id": "U2"})), [U1], (), "original"
    ),
    EventCase(
        "151", imports(I("$identify"), I(), reply=import_refused(0, [IDENTITY])), refused=[IDENTITY, IDENTITY]
    ),
    EventCase(
        "151: not strict",
        imports(I("$identify"), I(), query="?project_id=1", reply=ONE),
        [{"event": "$identify"}, U1],
    ),
    EventCase("151: on /track", track(T("$identify", **{"$anon_id": UUID4})), [{"event": "$identify"}]),
]

CASES = [*ON_IMPORT, *IDENTITIES]
