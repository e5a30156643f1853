"""A request of events, judged and encoded: the part of `prepare` that is about /track and /import.

The raw events and the projects of the catalog enter; a share of a chunk leaves, with what the reply says.
What an event means for identities is fixed here, by the mode that its project has now; the fold applies it.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final, cast

import msgspec

from mixdown.ingest.geo import valid_ip
from mixdown.ingest.links import Known, link_name
from mixdown.ingest.placing import Envelope
from mixdown.ingest.submission import NO_PROJECT, Prepared, Rules, Submission, kept, weight
from mixdown.model import texts
from mixdown.model.events import (
    IDENTITY_EVENTS,
    Event,
    EventReading,
    LinkAsked,
    Properties,
    Target,
    device_id,
    read_event,
)
from mixdown.model.identity import DEVICE, SIMPLIFIED
from mixdown.model.quick_events import judge_quickly
from mixdown.model.updates import Refusal, number_text
from mixdown.model.values import clean_text
from mixdown.store.chunk import FOR_ALL, FOR_EVENTS, Link, Outcome, encode_event_segment, encode_filter
from mixdown.store.protocols import Append, Project, RefusedRecord

GEO_NAMES: Final = {"$city": "$city", "$region": "$region", "$country_code": "mp_country_code"}
"""What a lookup finds, and what it is called on an event (contract ingestion §10.4)."""
_INSERT_ID_CHARS: Final = 255


def prepare_events(
    submission: Submission,
    tokens: Mapping[str, int],
    projects: Mapping[int, Project],
    rules: Rules,
    key: bytes | None,
) -> Prepared:
    """Judge every event of a request and encode the good ones (`prepare.prepare`)."""
    batch = _Batch(submission, tokens, projects, rules, keyed=key is not None)
    if submission.project and batch.reading.target is None:
        return _deleted(submission, key, rules)
    if submission.quick_events is not None:
        batch.judge_plain()
    else:
        batch.judge_all()
    return batch.prepared(key)


def target_of(project: Project) -> Target:
    """A project as its events are judged by it."""
    salt = blake2b(project.secret_hash, person=b"mixdown address").digest()
    return Target(project.id, project.id_merge, late=project.late_events, salt=salt)


def _deleted(submission: Submission, key: bytes | None, rules: Rules) -> Prepared:
    """An /import into a project that was deleted while the request was under way."""
    if not submission.records:
        submission.take_long_way()
    refusals = [Refusal(index, "", texts.TOKEN_UNKNOWN) for index in range(len(submission.records))]
    outcome = Outcome(len(refusals), 0, tuple((each.index, "", each.message) for each in refusals))
    kept_refusals = tuple(kept(submission, each, key) for each in refusals)
    partition = 0 if rules.placing is None else rules.placing.home(NO_PROJECT)
    return Prepared(Append(b"", 0, b"", kept_refusals, partition=partition), outcome)


class _Batch:
    """The events of one request while they are judged."""

    def __init__(
        self,
        submission: Submission,
        tokens: Mapping[str, int],
        projects: Mapping[int, Project],
        rules: Rules,
        *,
        keyed: bool,
    ) -> None:
        self._submission = submission
        self._rules = rules
        self._projects = projects
        self._keyed = keyed  # the fold may leave such a request out, with the links that it brings
        flag = submission.ip_flag
        wanted = flag if flag is not None else rules.geo_from_request
        address = valid_ip(submission.client_ip) if wanted else ""
        self._request_geo = self._located(address)
        importing = projects.get(submission.project) if submission.project else None
        targets: dict[str, Target | None] = {}

        def find(token: str) -> Target | None:
            if token not in targets:
                project = projects.get(tokens.get(token, 0))
                targets[token] = None if project is None else target_of(project)
            return targets[token]

        self.reading = EventReading(
            now_ms=submission.now_ms,
            fresh=submission.fresh,
            find=find,
            target=None if importing is None else target_of(importing),
            strict=submission.strict,
            hostile=submission.hostile,
            address=address,
            limits=rules.limits,
        )
        self._events: list[tuple[int, Event]] = []
        self._links: dict[tuple[int, LinkAsked], int] = {}
        self._plain_links: list[Link] = []
        self._names: list[str] = []
        self._parted = -1
        self._refusals: list[Refusal] = []
        self._ignored = 0
        self._total = 0

    def judge_plain(self) -> None:
        """Judge on the quick way what can go there, and the rest of it as it came."""
        submission = self._submission
        quick = submission.quick_events
        assert quick is not None
        judged = judge_quickly(quick, self.reading)
        self._total = len(judged.events)
        left_out = not all(judged.events)  # a pair is never empty
        if left_out:
            submission.take_long_way()
            self.reading = msgspec.structs.replace(self.reading, hostile=submission.hostile)
            if self._refuse_identity_events():
                return
        else:
            submission.quick_events = None  # taken apart: whoever judges again reads again
        if not (left_out or self._request_geo or judged.ips):
            self._events = cast("list[tuple[int, Event]]", judged.events)
            self._link_plainly(judged.links)
            return
        links = {at: (project, _device_link(*ids)) for (project, *ids), at in judged.links.items()}
        for index, pair in enumerate(judged.events):
            if pair is None:
                self._judge(submission.records[index], index)
                continue
            self._locate(pair[1].properties, judged.ips.get(index))
            if index in links:
                self._links.setdefault(links[index], len(self._events))
            self._events.append(pair)

    def _link_plainly(self, asked: Mapping[tuple[int, str, str], int]) -> None:
        """Keep the links of plain events, but for those that stand in the log."""
        known = None if self._keyed else self._known_links(asked)
        for pair, at in asked.items():
            project, device, user = pair
            if known is not None:
                name = link_name(project, device, user)
                if name in known.young or name in known.old:
                    self._parted = known.parted
                    continue
                self._names.append(name)
            self._plain_links.append(Link(at, project, SIMPLIFIED, DEVICE, device_id(device), user))

    def _known_links(self, asked: Mapping[tuple[int, str, str], int]) -> Known | None:
        """The links that may be left out: those of one partition, for what parts them again is there."""
        links, placing = self._rules.links, self._rules.placing
        if not links or placing is None:
            return links[0].known if links else None
        numbers = {project for project, _, _ in asked}
        homes = {placing.home(number) for number in numbers}
        if len(homes) != 1 or any(project.large for project in map(self._projects.get, numbers) if project):
            return None
        return links[homes.pop()].known

    def judge_all(self) -> None:
        """Judge every event as it came."""
        submission = self._submission
        if not submission.records:
            submission.take_long_way()
        self._total = len(submission.records)
        if self._refuse_identity_events():
            return
        for index, raw in enumerate(submission.records):
            self._judge(raw, index)

    def _refuse_identity_events(self) -> bool:
        """Whether the batch goes as a whole: identity events, sent to a strict /import (§8.4)."""
        target, records = self.reading.target, self._submission.records
        if target is None or not self.reading.strict or target.mode != SIMPLIFIED:
            return False
        named = [type(raw) is dict and _is_identity_event(raw) for raw in records]
        if not any(named):
            return False
        self._refusals = [
            Refusal(index, "event" if identity else "", texts.IDENTITY_NOT_ALLOWED, target.id)
            for index, identity in enumerate(named)
        ]
        return True

    def _judge(self, raw: Any, index: int) -> None:
        result = read_event(raw, index, self.reading)
        if isinstance(result, Refusal):
            self._refusals.append(result)
            return
        limit = self._rules.limits.record_limit_bytes
        if self._submission.body_bytes > limit and weight(raw) > limit:
            text = texts.RECORD_TOO_LARGE.format(limit=limit)
            self._refusals.append(Refusal(index, "", text, result.project))
            return
        if result.event is None:
            self._ignored += 1
            return
        self._locate(result.event.properties, result.ip)
        self._note(result.project, result.link)
        self._events.append((result.project, result.event))

    def _note(self, project: int, link: LinkAsked | None) -> None:
        """Keep a link of the event that comes next; each pair once."""
        if link is not None:
            self._links.setdefault((project, link), len(self._events))

    def _located(self, address: str) -> dict[str, str]:
        if not address:
            return {}
        found = self._rules.geo.lookup(address)
        return {GEO_NAMES[name]: value for name, value in found.items() if name in GEO_NAMES}

    def _locate(self, properties: Properties, own: Any) -> None:
        """Add where the sender is: by the event's own address, or else the request's (§10.2)."""
        geo = self._request_geo if own is None else self._located(valid_ip(own))
        for name, value in geo.items():
            properties.setdefault(name, value)

    def prepared(self, key: bytes | None) -> Prepared:
        """The share of a chunk, and the outcome."""
        submission, refusals = self._submission, self._refusals
        good = len(self._events) + self._ignored
        if self._rules.accept_unknown_token:
            stay = [refusal for refusal in refusals if refusal.message != texts.TOKEN_UNKNOWN]
            good += len(refusals) - len(stay)
            refusals = stay
        failed = tuple((each.index, each.field, each.message) for each in refusals)
        insert_ids: tuple[str, ...] = ()
        if submission.project:
            insert_ids = tuple(_insert_id(submission.records[each.index]) for each in refusals)
        outcome = Outcome(self._total, good, failed, insert_ids)
        if not self._events and not refusals:
            return Prepared(None, outcome)
        links = self._plain_links + [
            Link(at, project, *asked) for (project, asked), at in self._links.items()
        ]
        told_why = tuple(kept(submission, refusal, key) for refusal in refusals)
        names = tuple(self._names)
        if self._rules.placing is None:
            return Prepared(self._append(key, outcome, told_why, links), outcome, names, self._parted)
        envelope = Envelope(submission.endpoint, submission.sdk, key, outcome)
        first, *more = self._rules.placing.events(envelope, self._events, links, told_why, self._projects)
        return Prepared(first, outcome, names, self._parted, tuple(more))

    def _append(
        self, key: bytes | None, outcome: Outcome, told_why: tuple[RefusedRecord, ...], links: list[Link]
    ) -> Append:
        submission, events = self._submission, self._events
        segment = b""
        if events:
            segment = encode_event_segment(
                submission.endpoint,
                submission.sdk,
                key,
                outcome if key is not None else None,
                links,
                events,
            )
        ids = {event.distinct_id for _, event in events}
        ids.update([link.one for link in links])
        if self._links:  # of plain ones, the other is the event's own id
            ids.update([link.other for link in links])
        return Append(
            segment=segment,
            count=len(events),
            id_filter=encode_filter(ids),
            refusals=told_why,
            kinds=FOR_ALL if links or key is not None else FOR_EVENTS,
        )


def _device_link(device: str, user: str) -> LinkAsked:
    return LinkAsked(SIMPLIFIED, DEVICE, device_id(device), user)


def _is_identity_event(raw: Properties) -> bool:
    name = raw.get("event")
    return type(name) is str and name in IDENTITY_EVENTS


def _insert_id(raw: Any) -> str:
    """The insert id that a refused event brought, "" where it brought none."""
    properties = raw.get("properties") if type(raw) is dict else None
    value = properties.get("$insert_id") if type(properties) is dict else None
    text = value if type(value) is str else number_text(value)
    return clean_text(text[:_INSERT_ID_CHARS])
