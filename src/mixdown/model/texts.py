"""Every error text that a writer can meet, in one table (contract ingestion §6.5).

`docs/http-api.md` lists each of them; a test holds the two together.
"""

from __future__ import annotations

from typing import Final

DATA_MISSING: Final = "data, missing or empty"
DATA_INVALID: Final = "data, invalid JSON"
DATA_NOT_OBJECT: Final = "data, must be an object"
DATA_NOT_UTF8: Final = "data, string should be valid utf8"
TOKEN_MISSING: Final = "$token, missing or empty"
TOKEN_UNKNOWN: Final = "$token, no project has this token"
DISTINCT_ID_MISSING: Final = "$distinct_id, missing or empty"
GROUP_KEY_MISSING: Final = "$group_key, missing or empty"
GROUP_ID_MISSING: Final = "$group_id, missing or empty"
OPERATION_MISSING: Final = "no operation, missing or empty"
ONE_OPERATION: Final = "only one operation is allowed per update"
UNSET_NOT_LIST: Final = "$unset, must be a list of strings"
DISTINCT_ID_ON_GROUP: Final = "$distinct_id, must not be present"
EVENT_TOKEN_MISSING: Final = "token, missing or empty"
EVENT_MISSING: Final = "event, missing"
EVENT_BLANK: Final = "'event' must not be missing or blank"
EVENT_DISTINCT_ID_MISSING: Final = "distinct_id, missing or empty"
IMPORT_DISTINCT_ID_MISSING: Final = "'properties.distinct_id' is invalid: must not be missing"
PROPERTIES_MISSING: Final = "'properties' is invalid: must not be missing"
EVENT_PROPERTIES: Final = "'properties' is invalid: must hold at most {limit} properties"
PROPERTY_NOT_UTF8: Final = "{field} is invalid: string should be valid utf8"
TIME_MISSING: Final = "'properties.time' is invalid: must not be missing"
TIME_NOT_SECONDS: Final = "'properties.time' is invalid: must be specified as seconds since epoch"
TIME_TOO_OLD: Final = "'properties.time' is invalid: must be within the last 5 days"
TIME_TOO_EARLY: Final = "'properties.time' is invalid: must not be before 1971-01-01"
TIME_IN_FUTURE: Final = "'properties.time' is invalid: must be at most 1 hour in the future"
INSERT_ID_MISSING: Final = "'$insert_id' is invalid: must not be missing"
INSERT_ID_CHARACTERS: Final = (
    "'$insert_id' is invalid: must only contain alphanumeric or hyphen '-' characters"
)
INSERT_ID_LONG: Final = "'$insert_id' is invalid: must be at most 36 bytes"
IDENTITY_NOT_ALLOWED: Final = (
    "identity events are not allowed when project is using simplified identity management"
)
STRICT_EVENT_NESTED: Final = (
    "{field}, objects must have fewer than 255 keys and at most 3 levels, lists fewer than 255 elements"
)
NO_CREDENTIALS: Final = "Invalid credentials"
ACCOUNT_INVALID: Final = "Not a valid service account username"
ACCOUNT_OUTSIDE: Final = "not a project member"
ACCOUNT_MAY_NOT: Final = "not a project member who may import: the role {role} may not"
PROJECT_ID_MISSING: Final = "Invalid credentials: a service account needs the parameter project_id"
SECRET_INVALID: Final = (
    "Unauthorized, invalid project secret. See docs for more information:"
    " https://developer.mixpanel.com/reference/authentication#project-secret"
)
PROJECT_MISMATCH: Final = "Credentials in request did not match project_id URL parameter"
RECORD_TOO_LARGE: Final = "record, must be at most {limit} bytes of JSON"
RECORD_TOO_DEAR: Final = "record, holds more than {limit} lists, objects and names"
IDEMPOTENCY_KEY_TOO_LONG: Final = "Idempotency-Key, must be at most 255 characters"
ENCODING_UNKNOWN: Final = "content encoding {encoding} is not supported: send gzip or no encoding"
SOME_FAILED: Final = "some data points in the request failed validation"
BODY_NOT_GZIP: Final = "could not decompress request body"
BODY_TOO_LARGE: Final = "request exceeds max limit of {limit} bytes"
TOO_MANY_RECORDS: Final = "request exceeds max limit of {limit} records"
PLACEHOLDER: Final = "'{field}' is invalid: must not be a placeholder value"
NOT_AN_OBJECT: Final = "{field}, must be an object"
NESTED_TOO_DEEPLY: Final = "{field}, nested too deeply"
STRICT_NUMBER: Final = "{field}, must be a number"
STRICT_UNION_LIST: Final = "{field}, must be a list of strings or numbers"
STRICT_UNSET_EMPTY: Final = "$unset, must name at least one property"
STRICT_OVERFLOW: Final = "{field}, number is out of range"
STRICT_NESTED: Final = "{field}, objects must have fewer than 255 keys and at most 3 levels"
STRICT_TOO_LARGE: Final = "{field}, must be at most {limit} bytes of JSON"
PROFILE_FULL: Final = "profile, takes no more from {limit} bytes of JSON on: remove something first"
LINK_EMPTY: Final = "identity, an id to be linked is missing or empty"
LINK_FIRST_USER: Final = "identity, this device is linked to another user: the first one keeps it"
LINK_DEVICE_AS_USER: Final = "identity, a user id must not begin with $device:"
LINK_NOT_ANONYMOUS: Final = "identity, $anon_id must be a UUID: five groups of hex digits"
LINK_ALREADY_MERGED: Final = "identity, $anon_id is merged with another identified id already"
LINK_ALIAS_TAKEN: Final = "identity, this alias stands for another distinct_id already"
LINK_CLUSTER_FULL: Final = "identity, more than {limit} ids would be one"
RATE_LIMITED: Final = "Project exceeded rate limits. Please retry the request with exponential backoff."
QUERY_RATE_LIMITED: Final = (
    "Query rate limit exceeded for project_id: {project}. It may ask {limit} queries an hour: "
    "try again in {seconds} seconds"
)
LOOKUP_REPLACED_OFTEN: Final = "the project's lookup tables may be replaced {limit} times in 24 hours"
INTERNAL: Final = "internal error"
OVERLOADED_BACKLOG: Final = "the server is behind: too many records wait to be folded"
OVERLOADED_BODIES: Final = "the server holds as many request bodies as it can"
OVERLOADED_DISK: Final = "the server is short of disk space"
NOT_WRITTEN: Final = "the records could not be written"
CALLER_GONE: Final = "the connection was cut before the records were taken: nothing was stored"
SHUTTING_DOWN: Final = "the server is shutting down"
