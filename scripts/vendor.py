"""Brings the explorer's two JavaScript libraries into `src/mixdown/explorer/static/vendor/`.

`vendor.json` there pins versions, archives and files by SHA-256. `python scripts/vendor.py` fetches the
archives with `npm pack`, from whichever registry npm is configured with, and writes the files whose
checksums match; `--check` compares what is there with the pins, without any network; `--pin` writes the
checksums of what was fetched, once a version was changed in vendor.json. Nothing of a package is ever run.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "src" / "mixdown" / "explorer" / "static" / "vendor"
PINS = "vendor.json"
TIMEOUT_S = 120


class VendorError(Exception):
    """What was fetched, or is there, is not what is pinned."""


def check(folder: Path = FOLDER) -> list[str]:
    """What differs from the pins: files that are missing, changed, or not pinned."""
    pins = _pins(folder)
    wrong = []
    pinned = {PINS}
    for package in pins["packages"]:
        for file in package["files"]:
            pinned.add(file["as"])
            path = folder / file["as"]
            if not path.is_file():
                wrong.append(f"{file['as']} is missing")
            elif _digest(path.read_bytes()) != file["sha256"]:
                wrong.append(f"{file['as']} is not the one that is pinned")
    wrong += [f"{path.name} is not pinned" for path in sorted(folder.iterdir()) if path.name not in pinned]
    return wrong


def fetch(*, pin: bool, folder: Path = FOLDER) -> None:
    """Fetch what is pinned and write it. Raises `VendorError`, and `OSError` where npm cannot be run."""
    pins = _pins(folder)
    found: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for package in pins["packages"]:
            archive = _packed(package, Path(scratch))
            _compare(package, "archive_sha256", _digest(archive.read_bytes()), archive.name, pin=pin)
            with tarfile.open(archive) as opened:
                for file in package["files"]:
                    member = opened.extractfile(file["from"])
                    if member is None:
                        raise VendorError(f"{archive.name} has no file {file['from']}")
                    found[file["as"]] = member.read()
                    _compare(file, "sha256", _digest(found[file["as"]]), file["from"], pin=pin)
    for name, content in found.items():
        (folder / name).write_bytes(content)
    if pin:
        (folder / PINS).write_text(json.dumps(pins, indent=2) + "\n", encoding="utf-8")


def _packed(package: dict[str, Any], scratch: Path) -> Path:
    """The archive of a package, fetched by npm; its scripts are not run."""
    wanted = f"{package['name']}@{package['version']}"
    command = ["npm", "pack", "--ignore-scripts", "--json", "--pack-destination", str(scratch), wanted]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, cwd=scratch
    )
    if done.returncode:
        raise VendorError(f"npm pack {wanted} failed:\n{done.stderr.strip()}")
    return scratch / Path(str(json.loads(done.stdout)[0]["filename"])).name


def _compare(pinned: dict[str, Any], key: str, digest: str, name: str, *, pin: bool) -> None:
    if pin:
        pinned[key] = digest
    elif pinned[key] != digest:
        raise VendorError(f"{name} has the SHA-256 {digest}, and {pinned[key]} is pinned")


def _pins(folder: Path) -> dict[str, Any]:
    pins: dict[str, Any] = json.loads((folder / PINS).read_text(encoding="utf-8"))
    return pins


def _digest(content: bytes) -> str:
    return sha256(content).hexdigest()


def main(arguments: list[str]) -> int:
    """Fetch, pin or check; the exit status."""
    if "--check" not in arguments:
        try:
            fetch(pin="--pin" in arguments)
        except (VendorError, OSError, subprocess.TimeoutExpired) as error:
            print(error, file=sys.stderr)
            return 1
    wrong = check()
    for line in wrong:
        print(f"{FOLDER.name}: {line}: run python scripts/vendor.py", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
