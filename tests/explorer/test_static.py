"""The explorer's static files: what is served and how, what is not, and what was brought from elsewhere."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import httpx
import pytest

from mixdown.explorer import static_files
from mixdown.explorer.static_files import FOLDER, asset, files
from scripts import vendor
from tests.explorer.support import SIGN_IN, Site, tags_of
from tests.reads.support import READER

ROOT = Path(__file__).parents[2]
VENDOR = FOLDER / "vendor"


def fetch(site: Site, target: str, **headers: str) -> httpx.Response:
    own = {name.replace("_", "-"): value for name, value in headers.items()}
    sent = {"Accept-Encoding": "identity", **own}
    return site.world.run(site.client.get(target, headers=sent))


def test_what_pages_link_to_is_there_and_kept_for_good(site: Site) -> None:
    pages = [site.get(SIGN_IN)]
    site.sign_in(READER)
    pages.append(site.get(f"{site.here}/page"))
    links = {
        a.get("href") or a.get("src")
        for page in pages
        for tag, a in tags_of(page)
        if tag in ("link", "script", "img")
    }
    types = set()
    for link in links:
        reply = fetch(site, str(link))
        assert reply.status_code == 200, link
        assert "immutable" in reply.headers["cache-control"]
        assert reply.headers["x-content-type-options"] == "nosniff"
        types.add(reply.headers["content-type"].partition(";")[0])
    assert types == {"text/css", "text/javascript", "image/svg+xml"}


def test_a_file_whose_address_does_not_name_its_contents_is_asked_about_again(site: Site) -> None:
    for target in ("/static/app.css", "/static/app.css?v=other", "/static/app.css?v="):
        reply = fetch(site, target)
        assert reply.headers["cache-control"] == "no-cache"
        tag = reply.headers["etag"]
        for given in (tag, f"W/{tag}", f'"x", {tag}'):
            again = fetch(site, target, If_None_Match=given)
            assert (again.status_code, again.content) == (304, b"")
        assert fetch(site, target, If_None_Match='"other"').status_code == 200


def test_files_are_compressed_for_those_who_take_it(site: Site) -> None:
    plain = fetch(site, asset("app.css"))
    assert "content-encoding" not in plain.headers
    zipped = fetch(site, asset("app.css"), Accept_Encoding="br, gzip")
    assert zipped.headers["content-encoding"] == "gzip"
    assert zipped.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
    assert zipped.content == plain.content == (FOLDER / "app.css").read_bytes()
    assert int(zipped.headers["content-length"]) < len(plain.content) / 2
    assert gzip.decompress(files()["app.css"].zipped) == plain.content
    head = site.world.run(site.client.head(asset("app.css")))
    assert (head.status_code, head.content) == (200, b"")
    assert site.world.run(site.client.post(asset("app.css"))).status_code == 405


@pytest.mark.parametrize(
    "name",
    [
        "",
        "none.js",
        "..%2fframe.py",
        "%2e%2e/frame.py",
        "%2e%2e%2fframe.py",
        "vendor/%2e%2e/%2e%2e/frame.py",
        "..%5cframe.py",
        "vendor",
        "vendor/vendor.json",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "app.css%00.py",
        "app.css/",
        "APP.CSS",
        "x" * 5000,
        "%F0%A7%A1%A6%0A%29%C2%93r",
        "app.css%0A",
    ],
)
def test_nothing_but_the_files_themselves_is_served(site: Site, name: str) -> None:
    reply = fetch(site, f"/static/{name}")
    assert reply.status_code == (200 if name == "app.css/" else 404)
    assert "import" not in reply.text or name == "app.css/"
    assert not name or reply.headers["content-type"].startswith("text/")  # without one it is no path here


def test_no_file_is_too_long_to_read_and_the_first_visit_is_light() -> None:
    own = [
        path for path in FOLDER.rglob("*") if path.suffix in (".css", ".js") and VENDOR not in path.parents
    ]
    own += (FOLDER.parent / "templates").rglob("*.html")
    assert len(own) > 10
    assert {path.name: count for path in own if (count := len(path.read_text().splitlines())) >= 600} == {}
    first = ("app.css", "parts.css", "app.js", "theme.js", "icon.svg", "vendor/htmx.min.js")
    assert sum(len(files()[name].zipped or files()[name].body) for name in first) < 60_000


def test_own_files_load_nothing_from_elsewhere_and_run_no_text_as_code() -> None:
    forbidden = re.compile(
        r"https?://(?!www\.w3\.org)|\binnerHTML\b|\bouterHTML\b|insertAdjacentHTML|\beval\(|new Function"
        r"|document\.write"
    )
    for path in [*FOLDER.glob("*.css"), *FOLDER.glob("*.js"), *FOLDER.glob("*.svg")]:
        assert forbidden.search(path.read_text()) is None, path.name
    unsafe = re.compile(
        r"\|\s*safe\b|Markup\(|autoescape false|hx-on|javascript:|\sstyle=|\son[a-z]+=|hx-vals=['\"]js:"
    )
    for path in (FOLDER.parent / "templates").rglob("*.html"):
        assert unsafe.search(path.read_text()) is None, path.name


def test_a_name_that_is_none_cannot_be_linked_to() -> None:
    with pytest.raises(KeyError):
        asset("none.js")
    assert static_files.files() is static_files.files(), "they are read once"


# --- what was brought from elsewhere


def test_what_was_vendored_is_what_is_pinned() -> None:
    assert vendor.check() == []


def test_a_vendored_file_that_is_changed_missing_or_not_pinned_is_found(tmp_path: Path) -> None:
    for path in VENDOR.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert vendor.check(tmp_path) == []
    (tmp_path / "htmx.min.js").write_bytes(b"alert(1)")
    (tmp_path / "uPlot.min.css").unlink()
    (tmp_path / "extra.js").write_bytes(b"")
    assert vendor.check(tmp_path) == [
        "htmx.min.js is not the one that is pinned",
        "uPlot.min.css is missing",
        "extra.js is not pinned",
    ]


def test_every_library_comes_with_its_licence_and_from_no_named_registry() -> None:
    pins = json.loads((VENDOR / vendor.PINS).read_text())
    assert {package["name"] for package in pins["packages"]} == {"htmx.org", "uplot"}
    for package in pins["packages"]:
        assert re.fullmatch(r"\d+\.\d+\.\d+", package["version"])
        assert any("LICENSE" in file["as"] for file in package["files"])
    for text in ((VENDOR / vendor.PINS).read_text(), (ROOT / "scripts" / "vendor.py").read_text()):
        assert "://" not in text
