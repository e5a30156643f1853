"""The code blocks of a document, and a terminal to run them in.

A block whose fence says `sh tour` is run by the tests as it stands; a `text` block right behind it is what a
terminal then shows. Other blocks are for reading.
"""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

COLUMNS = 160
LINES = 1000
TIMEOUT_S = 240
FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]")

BAR = re.compile(r"((\r|(?<![^\r\n]))[^\r\n]*━[^\r\n]*[\r\n]*)+")
"""What shows how far something is that takes longer than half a second; a terminal takes it away again.

It is looked for where lines begin alone: an answer may be one line of a megabyte.
"""


class Block(NamedTuple):
    """A fenced block: its language, the words after it, its code."""

    language: str
    tags: tuple[str, ...]
    code: str


class Step(NamedTuple):
    """A block to run, and what a terminal shows then; None where the document does not tell."""

    tags: tuple[str, ...]
    code: str
    shown: str | None


def blocks(text: str) -> list[Block]:
    """All fenced blocks of a document, in order."""
    found = []
    for match in FENCE.finditer(text):
        language, *tags = match["info"].split() or [""]
        found.append(Block(language, tuple(tags), match["code"]))
    return found


def tour(text: str) -> Iterator[Step]:
    """The blocks to run, each with its output."""
    found = blocks(text)
    for block, following in zip(found, [*found[1:], Block("", (), "")], strict=True):
        if block.language == "sh" and "tour" in block.tags:
            yield Step(block.tags, block.code, following.code if following.language == "text" else None)


def shown_by(code: str, *, folder: Path, environment: Mapping[str, str]) -> str:
    """What a terminal shows, without colours, when a shell runs `code`; fails where the shell fails."""
    reader, writer = pty.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    process = subprocess.Popen(
        ["bash", "-euc", code],
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=writer,
        stderr=writer,
    )
    os.close(writer)
    pieces = []
    try:
        while piece := _read(reader):
            pieces.append(piece)
        status = process.wait(TIMEOUT_S)
    finally:
        os.close(reader)
        if process.poll() is None:
            process.kill()
            process.wait()
    text = ESCAPE.sub("", b"".join(pieces).decode()).replace("\r\n", "\n")
    assert status == 0, f"{code}\nended with status {status}:\n{text}"
    return BAR.sub("", text)


def _read(reader: int) -> bytes:
    try:
        return os.read(reader, 65536)
    except OSError:  # Linux's way to say that the other end is closed
        return b""
