"""What to do about each reason that a record or a body is refused for: the sentences of `docs/http-api.md`.

Names of texts stand for reasons, as in `mixdown_refusals_total`; a test holds the two together.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from mixdown.model import texts

ADVICE: Final[Mapping[str, str]] = {
    "data_missing": "send `data`, or a body with at least one record",
    "data_invalid": "the body, or `data` after base64, must be JSON; `NaN` and `Infinity` are not",
    "data_not_object": "each element of the list must be a JSON object",
    "data_not_utf8": "with `strict`: send UTF-8; without it, invalid bytes become U+FFFD",
    "token_missing": "put the project's token into every record",
    "token_unknown": (
        "look the token up with `mixdown project list`; records that came with a wrong one can "
        "be sent again with `mixdown refusals resend --set-token`"
    ),
    "distinct_id_missing": "give a non-empty text or a number",
    "group_key_missing": "give the group key's name, such as `Company`",
    "group_id_missing": "give a non-empty text, number or boolean",
    "operation_missing": "add an operator, such as `$set`",
    "one_operation": "with `strict`: send a record for each operator",
    "unset_not_list": 'send names: `["plan"]`',
    "distinct_id_on_group": "with `strict`, on `/groups`: leave out `$distinct_id`",
    "event_token_missing": "put the project's token into every event's `properties`",
    "event_missing": "give the event's name",
    "event_blank": "give the event's name",
    "event_distinct_id_missing": "an identity event must say whose it is",
    "import_distinct_id_missing": 'with `strict`: give the id, or `""` for an event of nobody',
    "properties_missing": "give `properties`, an object",
    "event_properties": "with `strict`: send fewer; without it the first ones are kept",
    "property_not_utf8": "with `strict`: send UTF-8",
    "time_missing": "give the time, in seconds since 1970",
    "time_not_seconds": "send a number: seconds, or milliseconds from 10¹¹ on",
    "time_too_old": (
        "send old events to `/import`, or let the project take them: `mixdown project set P "
        "--late-events accept`"
    ),
    "time_too_early": "look at the sender's clock, and at the unit",
    "time_in_future": "look at the sender's clock, and at the unit",
    "insert_id_missing": "with `strict`: give each event an id of its own, by which a retry is known",
    "insert_id_characters": "with `strict`: use letters, digits and hyphens",
    "insert_id_long": "with `strict`: shorten it",
    "identity_not_allowed": (
        "send `$device_id` and `$user_id` with events, or `mixdown project set P --id-merge original`"
    ),
    "strict_event_nested": "with `strict`: flatten the value",
    "record_too_large": "split the record",
    "record_too_dear": (
        "split the record; looked at where a body is longer than 1 MiB and the record longer than 256 KiB"
    ),
    "encoding_unknown": "use gzip",
    "body_not_gzip": "the gzip stream is broken or not gzip: send it whole, or without `Content-Encoding`",
    "body_too_large": "send smaller batches, or raise `body_limit_bytes`",
    "too_many_records": "send smaller batches, or raise `records_per_request`",
    "placeholder": "with `strict`: ids such as `undefined`, `null` or `0` are refused; send a real id",
    "not_an_object": "the operator's payload is an object of properties",
    "nested_too_deeply": "at most 64 levels of lists and objects in one another",
    "strict_number": "with `strict`, in `$add`: send a number, not text",
    "strict_union_list": "with `strict`, in `$union`: send a non-empty list of scalars",
    "strict_unset_empty": "with `strict`: leave out an empty `$unset`",
    "strict_overflow": "with `strict`: the number fits no double",
    "strict_nested": "with `strict`: flatten the value",
    "strict_too_large": "with `strict`: shorten the value",
    "profile_full": (
        "the profile has reached its limit: `$unset` or `$remove` what it does not need, then "
        "send the kept record again (`mixdown refusals resend`)"
    ),
    "link_empty": "send both ids",
    "link_first_user": "nothing, if people share the device; else `mixdown identity unmerge` frees it",
    "link_device_as_user": "send the user's own id as `$user_id`",
    "link_not_anonymous": "link an id of another shape with `$merge` or `$create_alias`",
    "link_already_merged": "join the two users with `$merge`, if they are one",
    "link_alias_taken": "`mixdown identity unmerge` frees the alias",
    "link_cluster_full": "find out why so many ids are one: see `mixdown identity show`",
    "internal": (
        "a fault of Mixdown: the record is kept as a refusal with its position; send it again "
        "once the fault is mended"
    ),
}


_PLACE: Final = re.compile(r"\{(\w+)\}")
_STAND_IN: Final[Mapping[str, str]] = {"field": "a field", "encoding": "this one", "limit": "so many"}
_TOLD_APART: Final = 3


def text_of(reason: str, messages: Sequence[str] = ()) -> str:
    """The text of a reason, "" for one that is none: with what differed in these messages of it.

    Without messages, words stand for what differs.
    """
    text = getattr(texts, reason.upper(), "")
    if type(text) is not str or "{" not in text:
        return text if type(text) is str else ""
    names = _PLACE.findall(text)
    pattern = re.compile("(.+)".join(map(re.escape, _PLACE.split(text)[::2])), re.DOTALL)
    found = [match.groups() for message in messages if (match := pattern.fullmatch(message))]
    told = {
        name: _listed([values[place] for values in found]) or _STAND_IN.get(name, name)
        for place, name in enumerate(names)
    }
    return _PLACE.sub(lambda match: told[match[1]], text)


def _listed(values: Sequence[str]) -> str:
    """Different values, the first of them by name."""
    different = list(dict.fromkeys(values))
    more = ", …" if len(different) > _TOLD_APART else ""
    return ", ".join(different[:_TOLD_APART]) + more
