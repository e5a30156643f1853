"""Jobs of data protection as engines keep them: a row for each, lists as JSON text. Values alone: no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson

from mixdown.store.privacy import Deletion, Retrieval, later_ends

DELETION: Final = (
    "id, project_id, group_key, ids, count, status, requested_by, compliance_type, requested_ms, due_ms,"
    " claimed_ms, positions, finished_ms, report, parts"
)
"""The columns of a deletion, in the order of its row."""
RETRIEVAL: Final = (
    "id, project_id, group_key, ids, requested_by, compliance_type, disclosure_type, requested_ms"
)
"""The columns of a retrieval, likewise."""


def deletion_row(deletion: Deletion) -> tuple[Any, ...]:
    """A deletion as a row."""
    return (
        deletion.id,
        deletion.project,
        deletion.group_key,
        json_text(deletion.ids),
        deletion.count,
        deletion.status,
        deletion.requested_by,
        deletion.compliance_type,
        deletion.requested_ms,
        deletion.due_ms,
        deletion.claimed_ms,
        json_text(deletion.positions),
        deletion.finished_ms,
        deletion.report,
        json_text(deletion.parts),
    )


def deletion_of(row: Sequence[Any]) -> Deletion:
    """A row as a deletion."""
    fields = dict(zip(DELETION.replace(",", "").split(), row, strict=True))
    fields["project"] = fields.pop("project_id")
    fields["ids"] = tuple(orjson.loads(fields["ids"]))
    fields["positions"] = tuple(orjson.loads(fields["positions"]))
    fields["parts"] = tuple((partition, told) for partition, told in orjson.loads(fields["parts"]))
    return Deletion(**fields)


def positions_with(held: str | None, given: Sequence[int]) -> str:
    """What `positions` of a job that was begun anew is, where it held this (None: there is no such job)."""
    return json_text(later_ends(orjson.loads(held or "[]"), given))


def parts_with(held: str | None, partition: int, report: bytes) -> str:
    """What `parts` is once a partition is done."""
    parts = {**dict(orjson.loads(held or "[]")), partition: report.decode()}
    return json_text(sorted(parts.items()))


def retrieval_row(retrieval: Retrieval) -> tuple[Any, ...]:
    """A retrieval as a row."""
    return (
        retrieval.id,
        retrieval.project,
        retrieval.group_key,
        json_text(retrieval.ids),
        retrieval.requested_by,
        retrieval.compliance_type,
        retrieval.disclosure_type,
        retrieval.requested_ms,
    )


def retrieval_of(row: Sequence[Any]) -> Retrieval:
    """A row as a retrieval."""
    job_id, project, group_key, ids, *rest = row
    return Retrieval(job_id, project, group_key, tuple(orjson.loads(ids)), *rest)


def names_one_of(ids_text: str, wanted: frozenset[str]) -> bool:
    """Whether the ids of a row have one of these."""
    return not wanted.isdisjoint(orjson.loads(ids_text))


def json_text(values: Sequence[Any]) -> str:
    """A list as JSON text."""
    return orjson.dumps(list(values)).decode()
