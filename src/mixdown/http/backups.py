"""`POST /api/mixdown/backup`: an archive of the whole data folder, sent while it is made.

A request of an owner enters; a tar archive leaves, as `mixdown backup -` writes it: a process of its own
runs that command, so that it is the same archive, and nothing of the copying falls on the worker. One at a
time for a folder. A backup that fails later than its first bytes breaks the connection; its archive lacks
the manifest, and no restore takes it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import mixdown
from mixdown.http.auth import OWNERS, refuse_other_sites, require
from mixdown.http.own import PREFIX
from mixdown.http.read_errors import answering
from mixdown.http.reading import authenticated
from mixdown.http.services import Services
from mixdown.http.streaming import streamed
from mixdown.model.errors import OverloadedError, QueryError
from mixdown.model.times import iso_seconds

PATH: Final = f"{PREFIX}/backup"
MEDIA: Final = "application/x-tar"
PIECE_BYTES: Final = 256 * 1024
_SAID_BYTES: Final = 4096
_RETRY_S: Final = 60


def routes(services: Services) -> list[Route]:
    """The route of this file."""

    async def backup(request: Request) -> Response:
        refuse_other_sites(request)
        caller, _ = await authenticated(request, services)
        require(caller, OWNERS, "make backups")
        folder: Path | None = getattr(services.store, "folder", None)
        if folder is None:
            raise QueryError("backup, this server's data is not in files", status=400)
        stamp = iso_seconds(services.now_ms()).replace(":", "")
        headers = {"Content-Disposition": f'attachment; filename="mixdown-{stamp}.tar"'}
        pieces = archive_of(folder)
        return await streamed(request, services, pieces, MEDIA, headers=headers, compresses=False)

    return [Route(PATH, answering(backup), methods=["POST"])]


def archive_of(folder: Path) -> Iterator[bytes]:
    """The archive in pieces; closing the iterator ends the backup. Blocks.

    Raises `OverloadedError` (503), in the words of the command, where there can be none now.
    """
    source = str(Path(mixdown.__file__).parent.parent)
    path = os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))
    with (
        # the command's copies lie in it: ended in the middle, it does not take them away itself
        tempfile.TemporaryDirectory(prefix="mixdown-backup-", ignore_cleanup_errors=True) as workspace,
        tempfile.TemporaryFile() as said,
        subprocess.Popen(
            [sys.executable, "-P", "-m", "mixdown", "backup", "-", "--data-dir", str(folder.absolute())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
            env={**os.environ, "PYTHONPATH": path, "TMPDIR": workspace},
        ) as process,
    ):
        assert process.stdout is not None
        try:
            while piece := process.stdout.read(PIECE_BYTES):
                yield piece
            if process.wait():
                said.seek(0)
                text = said.read(_SAID_BYTES).decode("utf-8", "replace").strip().replace("\n", ": ")
                raise OverloadedError(f"backup, {text}", retry_after_s=_RETRY_S)
        finally:
            process.kill()
