"""The parameters of a write, and the client that sent it (contract ingestion §2.3, §2.4, §10.3)."""

from __future__ import annotations

import ipaddress

import pytest

from mixdown.http.client_ip import client_ip
from mixdown.http.forms import FIELD_LIMIT, form_fields, read_params
from mixdown.http.ingestion import sdk_name
from mixdown.http.paths import canonical_path

PROXIES = tuple(map(ipaddress.ip_network, ["127.0.0.1/32", "10.0.0.0/8", "::1/128"]))


@pytest.mark.parametrize(
    ("value", "on"),
    [
        ("1", True),
        ("2", True),
        ("01", True),
        ("99999999999999999999999999", True),
        ("true", True),
        ("TRUE", True),
        ("%74rue", True),
        ("+1+", True),
        ("0", False),
        ("00", False),
        ("", False),
        ("false", False),
        ("yes", False),
        ("-1", False),
        ("1.0", False),
        ("1x", False),
        ("%C2%B9", False),
        ("%FF", False),
    ],
)
def test_flags(value: str, on: bool) -> None:
    query = form_fields("&".join(f"{name}={value}" for name in ("verbose", "strict", "img")).encode())
    params = read_params(query, {})
    assert (params.verbose, params.strict, params.img) == (on, on, on)


@pytest.mark.parametrize(
    ("query", "ip"),
    [
        (b"", None),
        (b"ip", None),
        (b"ip=", None),
        (b"ip=1", True),
        (b"ip=0", False),
        (b"ip=false", False),
        (b"ip=FALSE", False),
        (b"ip=no", True),
        (b"ip=203.0.113.9", True),
    ],
)
def test_only_zero_and_false_switch_the_address_off(query: bytes, ip: bool | None) -> None:
    assert read_params(form_fields(query), {}).ip is ip


def test_unknown_parameters_are_ignored() -> None:
    assert read_params(form_fields(b"_=123&foo=bar&test=1&redirect=http"), {}) == read_params({}, {})


def test_fields_beyond_the_limit_are_not_read() -> None:
    names = [f"f{index}" for index in range(FIELD_LIMIT + 5)]
    assert list(form_fields("&".join(names).encode())) == [name.encode() for name in names[:FIELD_LIMIT]]


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "real_ip", "expected"),
    [
        ("192.0.2.1", [b"81.2.69.160"], b"", "192.0.2.1"),  # a stranger's word counts for nothing
        ("127.0.0.1", [], b"", "127.0.0.1"),
        ("127.0.0.1", [b"81.2.69.160"], b"", "81.2.69.160"),
        ("127.0.0.1", [b"1.1.1.1, 81.2.69.160"], b"", "81.2.69.160"),
        ("127.0.0.1", [b"1.1.1.1", b"81.2.69.160, 10.1.2.3"], b"", "81.2.69.160"),
        ("127.0.0.1", [b"81.2.69.160:4711"], b"", "81.2.69.160"),
        ("127.0.0.1", [b"[2001:db8::5]:443"], b"", "2001:db8::5"),
        ("127.0.0.1", [b"2001:db8::5"], b"", "2001:db8::5"),
        ("::ffff:127.0.0.1", [b"::ffff:81.2.69.160"], b"", "81.2.69.160"),
        ("::1", [b"81.2.69.160"], b"", "81.2.69.160"),
        ("127.0.0.1", [b"10.1.1.1, 10.1.2.3"], b"81.2.69.160", "81.2.69.160"),
        ("127.0.0.1", [b""], b"1.1.1.1, 81.2.69.160", "81.2.69.160"),
        ("127.0.0.1", [], b"81.2.69.160", "81.2.69.160"),
        ("127.0.0.1", [], b" , ", "127.0.0.1"),
        ("127.0.0.1", [b"10.1.1.1"], b"", "127.0.0.1"),
        ("127.0.0.1", [b"81.2.69.160, unknown"], b"", ""),
        ("127.0.0.1", [b"\xff\xfe"], b"", ""),
        ("", [b"81.2.69.160"], b"", ""),
    ],
)
def test_the_right_most_hop_that_is_no_trusted_proxy_is_the_client(
    peer: str, forwarded_for: list[bytes], real_ip: bytes, expected: str
) -> None:
    assert client_ip(peer, forwarded_for, real_ip, PROXIES) == expected
    assert client_ip(peer, forwarded_for, real_ip, ()) == peer


@pytest.mark.parametrize(
    ("lib", "query", "user_agent", "expected"),
    [
        ("web", b"mp_lib=y", b"z", "web"),
        (None, b"mp_lib=swift", b"z", "swift"),
        (5, b"", b"python-requests/2.34.2", "python-requests/2.34.2"),
        (None, b"", b"got (https://github.com/sindresorhus/got)", "got"),
        (None, b"", b"", ""),
        ("x" * 100, b"", b"", "x" * 64),
        (None, b"", b"y" * 100, "y" * 64),
    ],
)
def test_the_sdk_is_named_by_the_record_the_request_or_its_user_agent(
    lib: object, query: bytes, user_agent: bytes, expected: str
) -> None:
    assert sdk_name(lib, read_params(form_fields(query), {}), user_agent) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/engage", "/engage"),
        ("/engage/", "/engage"),
        ("//engage//", "/engage"),
        ("/engage#profile-set", "/engage"),
        ("/engage/#profile-set", "/engage"),
        ("/flags//definitions/", "/flags/definitions"),
        ("/", "/"),
        ("//", "/"),
        ("", "/"),
        ("#x", "/"),
        ("/lookup-tables/#", "/lookup-tables/#"),
        ("/lookup-tables/plans#replace", "/lookup-tables/plans"),
    ],
)
def test_a_path_has_one_spelling(path: str, expected: str) -> None:
    assert canonical_path(path) == expected
