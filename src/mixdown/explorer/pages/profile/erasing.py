"""Erasing somebody: a confirmation that takes the id itself, the job, and how far it is.

Forms of admins enter; jobs of the data-deletions API leave. Nothing is erased unless the id was typed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import Response

from mixdown.explorer.frame import Do, Frame, Problem, Visit, see_other
from mixdown.explorer.pages.profile.subject import Subject, is_typed, ms_of, shortened, subject_of
from mixdown.http.reading import in_thread

DELETIONS: Final = "/api/app/data-deletions/v3.0"
NOT_TYPED: Final = "Type the id exactly as it stands above."
RUNNING: Final = frozenset({"PENDING", "STAGING", "STARTED"})
_WORDS: Final = {
    "PENDING": "waits for its time",
    "STAGING": "is about to begin",
    "STARTED": "is under way",
    "SUCCESS": "is done: nothing is left",
    "REVOKED": "was cancelled",
}
_JOB_CHARS: Final = 64


async def build_erase(visit: Visit) -> Mapping[str, Any]:
    """The question whether somebody shall be erased."""
    return await question(visit, subject_of(visit))


async def question(visit: Visit, subject: Subject, *, problem: str = "") -> dict[str, Any]:
    """What the confirmation shows: whose data that is, all linked ids included."""
    ids = [subject.id]
    if not subject.group_key:
        told = (await visit.ask("GET", "/api/mixdown/identity", params={"distinct_id": subject.id})).good()
        ids = told["results"]["ids"]
    return {
        "title": "Erase for good?",
        "section": "groups" if subject.group_key else "users",
        "asked": subject.asked,
        "what": subject.what,
        "id": subject.id,
        "others": [one for one in ids if one != subject.id],
        "problem_text": problem,
    }


async def build_job(visit: Visit) -> Mapping[str, Any]:
    """How far an erasure is."""
    job_id = visit.text("job")
    if not job_id or len(job_id) > _JOB_CHARS or not job_id.isalnum():
        raise Problem("job: missing, or no job's id.", status=400)
    answer = await visit.ask("GET", f"{DELETIONS}/{job_id}", headers={"X-Mixdown-Wait": "0"})
    job = answer.good()["results"]
    return {
        "asked": subject_of(visit).asked,
        "job": {
            "id": job["task_id"],
            "status": job["status"],
            "words": _WORDS.get(job["status"], job["status"].lower()),
            "running": job["status"] in RUNNING,
            "requested_ms": ms_of(job["date_requested"]),
            "by": job["requesting_user"],
            "report": job["report"],
        },
    }


async def job_about(visit: Visit, subject: Subject) -> str:
    """The job that is going to erase a subject, "" where there is none that is not finished."""

    def look() -> str:
        jobs = visit.services.store.privacy.unfinished()
        of_kind = [
            job for job in jobs if (job.project, job.group_key) == (visit.project.id, subject.group_key)
        ]
        return next((job.id for job in of_kind if subject.id in job.ids), "")

    return await in_thread(visit.services, look)


def actions_of(frame: Frame) -> dict[str, Do]:
    """The actions of this file: `erase` begins a job, `cancel` takes one back that has not begun."""

    async def erase(visit: Visit) -> Response:
        form = await visit.form()
        subject = subject_of(form)
        if not is_typed(form.text("confirm"), subject.id):
            values = await question(visit, subject, problem=NOT_TYPED)
            return frame.render(visit, "profile/erase.html", status=400, **values)
        body = {"distinct_ids": [subject.id], "compliance_type": "GDPR"}
        if subject.group_key:
            body["group_key"] = subject.group_key
        job = (await visit.ask("POST", DELETIONS, body=body)).good()["results"]
        back = visit.path("profile", **subject.asked, erased=job["task_id"])
        return see_other(back, f"Erasing {shortened(subject.id)} has been ordered.")

    async def cancel(visit: Visit) -> Response:
        form = await visit.form()
        subject, job_id = subject_of(form), form.text("job")
        if not job_id or len(job_id) > _JOB_CHARS or not job_id.isalnum():
            raise Problem("job: missing, or no job's id.", status=400)
        back = visit.path("profile", **subject.asked, erased=job_id)
        answer = await visit.ask("DELETE", f"{DELETIONS}/{job_id}")
        if answer.status == 405:
            return see_other(back, problem="It has begun and cannot be cancelled any more.")
        answer.good()
        return see_other(back, "The erasure was cancelled.")

    return {"erase": erase, "cancel": cancel}
