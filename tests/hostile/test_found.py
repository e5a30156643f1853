"""What fuzzing found, as tests: each is an input that once got the wrong answer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mixdown.fold.loop import catch_up
from mixdown.http.jsontext import parse_json
from mixdown.model.updates import record_text
from tests.hostile.seeds import TOKEN, Sent
from tests.hostile.targets import check_body
from tests.hostile.wire import send_all
from tests.http_writes.worker import Worker, running
from tests.serving import Server

DEEP = b"[" * 3000 + b"]" * 3000


@pytest.fixture
def worker() -> Iterator[Worker]:
    yield from running()


@pytest.mark.parametrize(
    ("line", "query"),
    [(DEEP, ""), (b'["\xff"]', "&strict=1"), (b'[1,["\xff"]]', "&strict=1")],
    ids=["deep", "not UTF-8", "not UTF-8 further in"],
)
def test_a_line_that_is_a_list_of_what_cannot_be_read_fails_alone(
    worker: Worker, line: bytes, query: str
) -> None:
    good = b'{"$token":"TOK","$distinct_id":"u1","$set":{"a":1}}'
    body = b"\n".join((good, line, good))
    answer = worker.ask("POST", f"/engage?verbose=1{query}", body, {"Content-Type": "application/x-ndjson"})
    assert answer.status == 200
    assert worker.stored() == 2
    assert [(kept.index, kept.whole) for kept in worker.refusals()] == [(1, False)]


@pytest.mark.parametrize("neighbour", [b'"fine"', b'"\xff"', b"1e999", DEEP], ids=lambda text: text[:8])
@pytest.mark.parametrize(
    "number", [b"99999999999999999999", b"-9223372036854775809", b"18446744073709551616"]
)
def test_an_id_of_too_many_digits_is_the_same_whatever_stands_beside_it(
    worker: Worker, number: bytes, neighbour: bytes
) -> None:
    record = b'{"$token":"TOK","$distinct_id":%b,"$set":{"a":1}}' % number
    worker.ask("POST", "/engage", b"[%b,%b]" % (neighbour, record), {"Content-Type": "application/json"})
    catch_up(worker.store)
    text = f"{float(number):.0f}"
    assert worker.store.state.documents([(worker.project.id, "", text)])[0] is not None


@pytest.mark.parametrize("depth", [200, 300, 531, 800])
def test_a_refused_record_is_kept_whole_however_deep_it_is(depth: int) -> None:
    text = b'{"a":' * depth + b'[1,"\\ud800",{}]' + b"}" * depth
    kept, whole = record_text(parse_json(text).value, 1 << 20)
    assert whole
    assert kept.replace(" ", "") == text.decode()


def test_awkward_text_is_written_as_json_has_it() -> None:
    awkward = {"\ud800": [], "a": {}, "b": [1, {"c": [2.5, None, True]}, float("inf")], "n": 10**20}
    kept, whole = record_text(awkward, 1 << 20)
    assert whole
    assert parse_json(kept.encode()).value == awkward | {"n": 1e20}


@pytest.mark.parametrize("path", ["/explorer/sign-in", "/explorer/sign-out", "/api/query/engage"])
def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_fault_of_ours(
    server: Server, path: str
) -> None:
    credentials = server.authorization()["Authorization"]
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {credentials}\r\nContent-Length: 500\r\n\r\n"
    send_all(server.base_url, head.encode() + b"a=b", patience_s=5)
    assert server.request("GET", "/livez").status == 200
    assert '"level":"error"' not in server.log_text()


@pytest.mark.parametrize(
    "number", [b"99999999999999999999", b"-9223372036854775809", b"1" + b"0" * 400, b"18446744073709551615"]
)
def test_a_record_has_the_same_key_whichever_way_it_is_read(number: bytes) -> None:
    text = b'[{"$token":"%b","$distinct_id":"u","$insert_id":%b,"$set":{"a":1}}]' % (TOKEN, number)
    check_body(Sent("POST", b"application/json", b"", b"", text))
    check_body(Sent("POST", b"application/json", b"", b"", text + b" " * (4 - len(text) % 4 + 1)))
