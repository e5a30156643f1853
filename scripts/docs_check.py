"""Check the documents: `make docs-check`.

In README.md, CHANGELOG.md, CONTRIBUTING.md and docs/*.md, every link to a file or heading of this repository
must lead somewhere, every code fence must be closed, and every `make TARGET` must be one of the Makefile.
It reads; it never changes a document, and never asks the network.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

LINK = re.compile(r"\]\(<?([^()\s>]+(?:\([^()\s]*\))?)>?(?:\s+\"[^\"]*\")?\)")
HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$")
ANCHOR = re.compile(r"<a\s+(?:id|name)=\"([^\"]+)\"")
MAKE = re.compile(r"(?:^|`|\$ |&& )make ([a-z][a-z-]*)")
TARGET = re.compile(r"^([a-z][a-z-]*):", re.MULTILINE)


def documents(root: Path) -> list[Path]:
    """The documents that are checked, those at the top first."""
    return [*sorted(root.glob("*.md")), *sorted(root.glob("docs/**/*.md"))]


def lines_of(path: Path) -> Iterator[tuple[int, str, bool]]:
    """Each line of a document: its number from 1, its text, and whether it lies in a code fence."""
    fence = ""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        mark = re.match(r"\s*(`{3,}|~{3,})", line)
        if mark and not fence:
            fence = mark[1]
            yield number, line, True
        elif mark and line.strip() == mark[1] and mark[1].startswith(fence):
            fence = ""
            yield number, line, True
        else:
            yield number, line, bool(fence)
    if fence:
        yield 0, fence, True


def slug(heading: str) -> str:
    """The anchor that a heading gets, by GitHub's rule."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")


def anchors_of(path: Path) -> set[str]:
    """Every anchor of a document; a heading that comes again gets -1, -2 and so on."""
    found: set[str] = set()
    seen: dict[str, int] = {}
    for _, line, fenced in lines_of(path):
        if fenced:
            continue
        found.update(ANCHOR.findall(line))
        if heading := HEADING.match(line):
            name = slug(heading[1])
            count = seen.get(name, 0)
            seen[name] = count + 1
            found.add(f"{name}-{count}" if count else name)
    return found


def link_fault(root: Path, document: Path, link: str) -> str:
    """What is wrong with a link, or nothing. Links to other sites are not followed."""
    if re.match(r"[a-z][a-z0-9+.-]*:", link):
        return ""
    name, _, anchor = link.partition("#")
    target = (document.parent / name).resolve() if name else document
    if not target.is_relative_to(root) or not target.exists():
        return f"link to {link}: there is no such file"
    if anchor and target.suffix == ".md" and anchor not in anchors_of(target):
        return f"link to {link}: no heading has that anchor"
    return ""


def faults_of(root: Path, document: Path, targets: set[str]) -> Iterator[str]:
    """Each fault of a document, as `file:line: what is wrong`."""
    name = document.relative_to(root)
    for number, line, fenced in lines_of(document):
        if number == 0:
            yield f"{name}: a code fence ({line}) is never closed"
            continue
        # A word after `make` in running text is English; in code it is a target.
        code = line if fenced else " ".join(f"`{part}`" for part in re.findall(r"`([^`]+)`", line))
        for target in MAKE.findall(code):
            if target not in targets:
                yield f"{name}:{number}: `make {target}`: the Makefile has no such target"
        if fenced:
            continue
        for link in LINK.findall(re.sub(r"`[^`]*`", "", line)):
            if fault := link_fault(root, document, link):
                yield f"{name}:{number}: {fault}"


def faults(root: Path) -> list[str]:
    """Every fault of every document below `root`."""
    targets = set(TARGET.findall((root / "Makefile").read_text(encoding="utf-8")))
    return [fault for document in documents(root) for fault in faults_of(root, document, targets)]


def main() -> None:
    """Print the faults, and leave with 1 when there are any."""
    found = faults(ROOT)
    for fault in found:
        print(fault)
    if found:
        sys.exit(f"docs-check: {len(found)} faults")
    print(f"docs-check: {len(documents(ROOT))} documents, no faults")


if __name__ == "__main__":
    main()
