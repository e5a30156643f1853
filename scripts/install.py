"""Build `.venv`: the pinned packages of requirements-dev.lock, and this project, editable.

`make install` runs it with the Python that the environment is to have. It may be interrupted at any moment
and run again, and several may run at once: they take turns. It does nothing when what is there is what is
asked for. It needs the standard library alone, and never touches anything but `.venv` and its lock file.
"""

import fcntl
import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / ".installed"
UNFINISHED = VENV / ".unfinished"
INPUTS = ("requirements-dev.lock", "pyproject.toml", "scripts/install.py")


def fingerprint() -> str:
    """What the environment depends on: the files of INPUTS, and where the folder lies."""
    digest = hashlib.sha256(f"{VENV}\n".encode())
    for name in INPUTS:
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def pip(lock: int, *arguments: str) -> None:
    """Run the environment's pip; on failure, leave with a message.

    It inherits the lock, so that a pip whose parent was killed is waited for, not built over.
    """
    command = [str(VENV / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    result = subprocess.run([*command, "--no-deps", *arguments], cwd=ROOT, check=False, pass_fds=(lock,))
    if result.returncode:
        sys.exit("make install: pip failed, see above. Run `make install` again to start afresh.")


def install(lock: int, wanted: str) -> None:
    """Make the environment, or bring it up to date, and write the stamp last."""
    old = STAMP.read_text() if STAMP.exists() else ""
    # pip takes a half-written package for a whole one, so what was left unfinished is made anew.
    clear = UNFINISHED.exists() or not old or not (VENV / "bin" / "python").exists()
    print(f"make install: {'building' if clear else 'updating'} .venv (about a minute)", flush=True)
    if clear:
        STAMP.unlink(missing_ok=True)
        venv.create(VENV, clear=True, with_pip=True)
    UNFINISHED.touch()
    pip(lock, "--require-hashes", "--requirement", "requirements-dev.lock")
    pip(lock, "--no-build-isolation", "--editable", ".")
    STAMP.write_text(wanted)
    UNFINISHED.unlink()


def main() -> None:
    """Take the turn, look whether there is anything to do, and do it."""
    # The lock lies beside the environment, since making that anew empties it.
    lock = os.open(ROOT / ".venv.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("make install: waiting for another install in this folder", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
    wanted = fingerprint()
    if not UNFINISHED.exists() and STAMP.exists() and STAMP.read_text() == wanted:
        STAMP.touch()
        return
    try:
        install(lock, wanted)
    except subprocess.CalledProcessError:
        sys.exit("make install: this Python has no venv; on Debian: apt install python3-venv")


if __name__ == "__main__":
    main()
