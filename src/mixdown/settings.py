"""Settings: each declared once, with its default, its bounds and its help.

What enters: the environment (`MIXDOWN_<NAME>`) and command-line flags (which win). What leaves: one
frozen `Settings`, checked. The flags of the command line, `docs/configuration.md` and `mixdown config`
derive from `SETTINGS`. This room reads no files, opens no sockets and never prints a secret.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_origin, get_type_hints

from mixdown.model.errors import SettingsError

ENV_PREFIX: Final = "MIXDOWN_"
_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off"})
_KIB: Final = 1024
_MIB: Final = 1024 * _KIB
_GIB: Final = 1024 * _MIB

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclasses.dataclass(frozen=True, kw_only=True)
class _About:
    """What a declaration says beside type and default: help, bounds of whole numbers, how it is shown."""

    help: str
    low: int = 0
    high: int = 0
    advanced: bool = False
    secret: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that can be set. Units stand last in the names; "" means "none" throughout."""

    host: Annotated[
        str, _About(help="Address to listen on. `0.0.0.0` or `::` listens on every address of the machine.")
    ] = "127.0.0.1"
    port: Annotated[
        int, _About(help="Port to listen on; 0 takes any free one and prints which.", high=65535)
    ] = 6493
    data_dir: Annotated[Path, _About(help="Folder that holds all data; made when it is missing.")] = Path(
        "mixdown-data"
    )
    workers: Annotated[
        int, _About(help="HTTP worker processes. One is enough for most loads.", low=1, high=64)
    ] = 1
    tls_cert: Annotated[str, _About(help="Certificate chain (PEM file) for HTTPS; needs `tls_key` too.")] = ""
    tls_key: Annotated[str, _About(help="Private key (PEM file) of `tls_cert`.")] = ""
    ephemeral: Annotated[
        bool,
        _About(
            help="Keep all data in a temporary folder, removed at the end (for tests); `data_dir` is ignored."
        ),
    ] = False
    internal_port: Annotated[
        int,
        _About(
            help="Serve the explorer, `/api` and `/metrics` on this port of their own, and only "
            "ingestion and health on `port`; 0 serves all on `port`.",
            high=65535,
        ),
    ] = 0
    explorer: Annotated[
        bool,
        _About(
            help="Serve the web explorer, and the page `/docs`; without it `/` answers browsers as it "
            "answers everyone else."
        ),
    ] = True
    database_url: Annotated[
        str,
        _About(
            help="PostgreSQL to keep data in, as `postgresql://user@host/database`; without one all is in "
            "`data_dir`, which keeps sockets, TLS files and what is spilled in any case."
        ),
    ] = ""
    database_url_file: Annotated[
        str, _About(help="File that holds `database_url`: a flag or a variable may be seen by others.")
    ] = ""
    database_password_file: Annotated[
        str, _About(help="A file that holds the password of `database_url`; read anew at each connection.")
    ] = ""
    events_url: Annotated[
        str,
        _About(
            help="Where files of events lie beside `database_url`: a folder that every node mounts, or "
            "`s3://bucket/prefix` (credentials in `AWS_…`). Without it: `events` in `data_dir`, for one node."
        ),
    ] = ""
    fold_workers: Annotated[
        int,
        _About(
            help="Fold processes with `database_url`: they share the partitions with those of other nodes. "
            "The embedded store has one.",
            low=1,
            high=64,
        ),
    ] = 1

    token: Annotated[
        str,
        _About(
            help="Token of the project `default`, instead of a generated one. Variable only.", secret=True
        ),
    ] = ""
    secret: Annotated[
        str,
        _About(
            help="Secret of the project `default`, instead of a generated one. Variable only.", secret=True
        ),
    ] = ""
    account: Annotated[
        str,
        _About(
            help="Owner account as `user:password`, instead of a generated one. Variable only.", secret=True
        ),
    ] = ""

    unknown_token: Annotated[
        Literal["refuse", "accept"],
        _About(
            help="What happens to records whose token no project has: `refuse` says so and keeps them as "
            "refusals; `accept` answers 1 and drops them, as Mixpanel does."
        ),
    ] = "refuse"
    geo_database: Annotated[
        str,
        _About(
            help="MaxMind-format database (`.mmdb`) for locations; without one, countries alone are known."
        ),
    ] = ""
    geo_default: Annotated[
        Literal["request", "none"],
        _About(
            help="Where a location comes from when the sender names none: the address of the `request`, or "
            "`none` at all."
        ),
    ] = "request"
    trusted_proxies: Annotated[
        str,
        _About(
            help="Addresses or networks (`10.0.0.0/8`), separated by commas, of the proxies whose "
            "`X-Forwarded-For` is believed."
        ),
    ] = ""
    read_wait_ms: Annotated[
        int,
        _About(
            help="How long a read waits, in milliseconds, until all that was stored before it is visible.",
            high=600_000,
        ),
    ] = 2000

    erasure_delay_minutes: Annotated[
        int,
        _About(
            help="How long an erasure that is asked for over HTTP waits before it begins, and can be "
            "cancelled; 0: it begins at once.",
            high=43_200,
        ),
    ] = 0
    read_timeout_s: Annotated[
        int,
        _About(
            help="Seconds that a read may take, waiting for its turn included; beyond it: 503.",
            low=1,
            high=3600,
            advanced=True,
        ),
    ] = 60
    event_read_memory_bytes: Annotated[
        int,
        _About(
            help="Memory that a read of events may take; what it has beyond goes to disk.",
            low=128 * _MIB,
            high=64 * _GIB,
            advanced=True,
        ),
    ] = 512 * _MIB
    sql_timeout_s: Annotated[
        int,
        _About(help="Seconds that an SQL query over HTTP may take.", low=1, high=600, advanced=True),
    ] = 10
    sql_memory_bytes: Annotated[
        int,
        _About(
            help="Memory that an SQL query over HTTP may take.", low=16 * _MIB, high=64 * _GIB, advanced=True
        ),
    ] = 256 * _MIB
    sql_rows: Annotated[
        int,
        _About(help="Most rows in an answer to SQL over HTTP.", low=1, high=10_000_000, advanced=True),
    ] = 100_000
    sql_processes: Annotated[
        int,
        _About(
            help="SQL queries over HTTP that one worker runs at a time, each in a process of its own.",
            low=1,
            high=64,
            advanced=True,
        ),
    ] = 2
    string_limit_bytes: Annotated[
        int,
        _About(
            help="Longer strings in properties are cut to this many bytes; 0 keeps them whole.",
            high=_MIB,
            advanced=True,
        ),
    ] = 255
    body_limit_bytes: Annotated[
        int,
        _About(
            help="Largest body of a write, before and after decompression; beyond it: 413.",
            low=_KIB,
            high=_GIB,
            advanced=True,
        ),
    ] = 10 * _MIB
    records_per_request: Annotated[
        int, _About(help="Most records in one request; beyond it: 413.", low=1, high=100_000, advanced=True)
    ] = 2000
    log_retention_hours: Annotated[
        int, _About(help="How long the log of records is kept for replay.", high=87_600, advanced=True)
    ] = 24
    history_retention_days: Annotated[
        int,
        _About(
            help="How many days the history of profiles is kept: every change, for reading it, for reading "
            "back in time, and for undoing; 0 keeps none.",
            high=36_500,
        ),
    ] = 90
    history_limit_gb: Annotated[
        int,
        _About(
            help="How much of the disk the history of profiles may take, in GB; the oldest goes first. "
            "0 is no bound but the days.",
            high=1_000_000,
        ),
    ] = 10
    event_retention_days: Annotated[
        int,
        _About(
            help="How many days events are kept, by their own time; whole days of UTC that are older are "
            "dropped. 0 keeps all.",
            high=36_500,
        ),
    ] = 0
    backlog_limit_records: Annotated[
        int,
        _About(
            help="Stored records that may wait for the fold; from 80 % on replies are held back, "
            "beyond it: 503.",
            low=1,
            high=10**12,
            advanced=True,
        ),
    ] = 10_000_000
    backlog_limit_bytes: Annotated[
        int, _About(help="The same limit in bytes of the log.", low=1, high=10**15, advanced=True)
    ] = 4 * _GIB
    disk_reserve_bytes: Annotated[
        int,
        _About(help="Free disk space below which writes are answered with 503.", high=10**15, advanced=True),
    ] = 2 * _GIB
    disk_reserve_percent: Annotated[
        int,
        _About(
            help="The same in percent of the disk.",
            high=90,
            advanced=True,
        ),
    ] = 5

    rate_limit_records_per_s: Annotated[
        int,
        _About(
            help="Records a second that one project may send; beyond it: 429. 0 sets no limit. A project may "
            "have a limit of its own (`mixdown project set`).",
            high=10**9,
            advanced=True,
        ),
    ] = 0
    rate_limit_requests_per_s: Annotated[
        int,
        _About(help="The same in requests of writes a second.", high=10**9, advanced=True),
    ] = 0
    rate_limit_queries_per_hour: Annotated[
        int,
        _About(
            help="Queries an hour that one project may ask (Mixpanel's limit is 60); beyond it: 429. "
            "0 sets no limit.",
            high=10**9,
            advanced=True,
        ),
    ] = 0

    header_limit_bytes: Annotated[
        int,
        _About(
            help="Largest request line with headers: beyond it 414 for the URL, 431 for the headers.",
            low=_KIB,
            high=16 * _MIB,
            advanced=True,
        ),
    ] = 128 * _KIB
    header_timeout_s: Annotated[
        int,
        _About(
            help="Seconds a client may take to send the headers of a request.",
            low=1,
            high=3600,
            advanced=True,
        ),
    ] = 30
    body_timeout_s: Annotated[
        int,
        _About(
            help="Seconds a client may take to send the body of a request.", low=1, high=3600, advanced=True
        ),
    ] = 60
    idle_timeout_s: Annotated[
        int,
        _About(
            help="Seconds an idle connection is kept open between requests.", low=1, high=3600, advanced=True
        ),
    ] = 75
    connection_limit: Annotated[
        int,
        _About(help="Open connections of one worker; beyond it: 503.", low=1, high=1_000_000, advanced=True),
    ] = 10_000
    shutdown_timeout_s: Annotated[
        int,
        _About(
            help="Seconds that requests in flight may take to finish when the server is stopped.",
            low=1,
            high=3600,
            advanced=True,
        ),
    ] = 10

    log_format: Annotated[
        Literal["auto", "text", "json"],
        _About(help="Form of the server's log lines; `auto` is text on a terminal and JSON otherwise."),
    ] = "auto"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], _About(help="Least severity that is logged.")
    ] = "info"

    @property
    def on_postgres(self) -> bool:
        """Whether data is kept in PostgreSQL."""
        return bool(self.database_url or self.database_url_file)

    def trusted_networks(self) -> tuple[Network, ...]:
        """`trusted_proxies` as networks. Raises `SettingsError` for what is neither address nor network."""
        return tuple(_network(part) for part in _parts(self.trusted_proxies))

    def account_parts(self) -> tuple[str, str]:
        """(user, password) of the preset owner account; two empty strings when none is set."""
        user, _, password = self.account.partition(":")
        return user, password


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting as documentation and the command line see it.

    `flag` is "" where a secret would show in the list of processes, and `--no-…` for what is on unless it is
    switched off. `low` and `high` bound whole
    numbers; `choices` are the values allowed, if they are few.
    """

    name: str
    type: type[str | int | bool | Path]
    default: str | int | bool | Path
    help: str
    env: str
    flag: str
    advanced: bool
    secret: bool
    low: int
    high: int
    choices: tuple[str, ...]


def _flag(name: str, *, is_on: bool, secret: bool) -> str:
    if secret:
        return ""
    return ("--no-" if is_on else "--") + name.replace("_", "-")


def _declared() -> Iterable[Setting]:
    hints = get_type_hints(Settings, include_extras=True)
    for field in dataclasses.fields(Settings):
        kind, about = get_args(hints[field.name])
        assert isinstance(about, _About)
        choices = get_args(kind) if get_origin(kind) is Literal else ()
        yield Setting(
            name=field.name,
            type=str if choices else kind,
            default=field.default,  # type: ignore[arg-type]  # dataclasses types a default as Any or MISSING
            help=about.help,
            env=ENV_PREFIX + field.name.upper(),
            flag=_flag(field.name, is_on=field.default is True, secret=about.secret),
            advanced=about.advanced,
            secret=about.secret,
            low=about.low,
            high=about.high,
            choices=choices,
        )


SETTINGS: Final[tuple[Setting, ...]] = tuple(_declared())


def load(env: Mapping[str, str], flags: Mapping[str, Any]) -> Settings:
    """The settings in force.

    Args:
        env: environment variables; an empty one counts as not set.
        flags: values by setting name; `None` counts as not given. A flag wins over its variable.

    Raises:
        SettingsError: naming what was given, by which variable or flag, and what is allowed.
    """
    names = {setting.name for setting in SETTINGS}
    for name in flags:
        if name not in names:
            raise SettingsError(f"there is no setting {name!r}", hint="`mixdown config` lists all settings")
    values: dict[str, Any] = {}
    for setting in SETTINGS:
        given = flags.get(setting.name)
        if given is not None:
            values[setting.name] = _read(setting, given, setting.flag or setting.name)
        elif env.get(setting.env):
            values[setting.name] = _read(setting, env[setting.env], setting.env)
    settings = Settings(**values)
    _check_together(settings)
    return settings


def as_env(settings: Settings) -> dict[str, str]:
    """All settings as variables, from which `load` makes the same settings again (for child processes)."""
    return {setting.env: _as_text(getattr(settings, setting.name)) for setting in SETTINGS}


def unknown_variables(env: Mapping[str, str]) -> list[str]:
    """Variables that look like settings but are none: most likely misspelled."""
    known = {setting.env for setting in SETTINGS}
    return sorted(name for name in env if name.startswith(ENV_PREFIX) and name not in known)


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    return str(value)


def _read(setting: Setting, given: object, origin: str) -> str | int | bool | Path:
    """One value, read by the setting's type. `origin` is the flag or variable that gave it."""
    text = str(given).strip() if setting.type is not str else str(given)
    if "\0" in text or "\n" in text:
        raise SettingsError(f"{origin} holds a line break or a NUL character")
    if setting.type is bool:
        return _read_bool(text.lower(), origin)
    if setting.type is int:
        return _read_int(setting, text, origin)
    if setting.type is Path:
        if not text:  # `--data-dir "$NOT_SET"` would mean, and lock away, the working directory
            raise SettingsError(f"{origin} is empty: the path of a folder is allowed")
        return Path(text)
    if setting.choices and text not in setting.choices:
        raise SettingsError(f"{origin} is {text!r}: {_alternatives(setting.choices)} is allowed")
    return text


def _read_bool(text: str, origin: str) -> bool:
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise SettingsError(f"{origin} is {text!r}: yes or no (or true, false, on, off, 1, 0) is allowed")


def _read_int(setting: Setting, text: str, origin: str) -> int:
    allowed = f"a whole number from {setting.low} to {setting.high} is allowed"
    try:
        number = int(text)
    except ValueError:
        hint = ""
        if text.startswith("tcp://"):
            # Kubernetes sets MIXDOWN_PORT for every pod beside a service that is named `mixdown`.
            hint = "Kubernetes sets this variable for a service of that name: use `enableServiceLinks: false`"
        raise SettingsError(f"{origin} is {text!r}: {allowed}", hint=hint) from None
    if not setting.low <= number <= setting.high:
        raise SettingsError(f"{origin} is {number}: {allowed}")
    return number


def _alternatives(choices: tuple[str, ...]) -> str:
    return " or ".join((", ".join(choices[:-1]), choices[-1]))


def _check_together(settings: Settings) -> None:
    """What one value alone cannot tell."""
    if settings.database_url and settings.database_url_file:
        raise SettingsError("database_url and database_url_file are both set: one of them is enough")
    if not settings.on_postgres and (settings.fold_workers > 1 or settings.events_url):
        given = "events_url" if settings.events_url else "fold_workers"
        raise SettingsError(
            f"{given} is set without database_url",
            hint="the embedded store has one fold, and keeps all in data_dir",
        )
    if settings.on_postgres and settings.ephemeral:
        raise SettingsError(
            "ephemeral is set with database_url", hint="what is in a database stays: leave one of them out"
        )
    if bool(settings.tls_cert) != bool(settings.tls_key):
        given, missing = ("tls_cert", "tls_key") if settings.tls_cert else ("tls_key", "tls_cert")
        raise SettingsError(f"{given} is set without {missing}", hint="HTTPS needs both, as PEM files")
    if settings.internal_port and settings.internal_port == settings.port:
        raise SettingsError(
            f"port and internal_port are both {settings.port}: two different ports are needed"
        )
    user, password = settings.account_parts()
    if settings.account and not (user and password):
        raise SettingsError(
            "account is not of the form user:password", hint="set MIXDOWN_ACCOUNT=user:password"
        )
    settings.trusted_networks()


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise SettingsError(
            f"trusted_proxies holds {text!r}, which is neither an address nor a network",
            hint="write addresses or networks with commas between them, such as 127.0.0.1,10.0.0.0/8",
        ) from None
