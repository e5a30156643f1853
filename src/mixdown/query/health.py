"""How a server does: log and readers, backlog, disk, files, and a plain sentence for each thing looked at.

A store, settings and what the other processes counted enter; facts and findings leave. It reads a few rows
and file sizes, never a whole file: what `mixdown doctor` reads besides (pages, checksums, Parquet files) it
does not look at. Everything here blocks.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from mixdown.model.times import iso_seconds
from mixdown.query.findings import Finding, check_disk, check_modes, check_versions
from mixdown.query.processes import ServerProcess
from mixdown.settings import SETTINGS, Settings, unknown_variables
from mixdown.store.backups import LastBackup, last_backup
from mixdown.store.chunk import FOR_EVENTS, FOR_PROFILES
from mixdown.store.places import Backlog, backlog_of
from mixdown.store.protocols import Account, Store

DATABASES: Final = ("log.db", "state.db", "events.db", "catalog.db", "scratch.db")
LATE_S: Final = 10.0
VERY_LATE_S: Final = 300.0
LARGE_WAL_BYTES: Final = 1024 * 1024 * 1024
HELD_BACK_PERCENT: Final = 80
CLOCK_AHEAD_S: Final = 60.0
CERTIFICATE_DAYS: Final = 14
BACKUP_DAYS: Final = 7
_DAY_S: Final = 86_400
_DAY_MS: Final = 1000 * _DAY_S
_DOCTOR: Final = "Run `mixdown doctor`: it reads every page and says what can be done."
_MASKED: Final = frozenset({"database_url", "database_password_file", "database_url_file"})


class Waiting(msgspec.Struct, frozen=True):
    """A reader of the log: its place, and what it has still before it; the bytes are estimated."""

    reader: str
    process: str
    place: int
    behind_records: int
    behind_bytes: int
    behind_seconds: float


class Counted(msgspec.Struct, frozen=True):
    """What all processes of the server have counted since it started; empty where nothing is shared."""

    starts: Mapping[str, float] = msgspec.field(default_factory=dict)
    up: Mapping[str, bool] = msgspec.field(default_factory=dict)
    restarts: Mapping[str, int] = msgspec.field(default_factory=dict)
    fold_faults: int = 0
    fold_failed: int = 0
    events_faults: int = 0
    certificate_end_s: float = 0


class Seen(msgspec.Struct, frozen=True):
    """What a look at the server is made of; `closed_because` says why it takes no writes, "" if it does."""

    store: Store
    settings: Settings
    now_ms: int
    closed_because: str
    accounts: Sequence[Account]
    counted: Counted
    processes: Sequence[ServerProcess]


def waiting_of(store: Store, now_ms: int) -> tuple[Waiting, Waiting]:
    """Both readers of the log: the fold, and that of events."""
    return (
        _waiting("profiles", "fold", backlog_of(store, FOR_PROFILES), now_ms),
        _waiting("events", "events", backlog_of(store, FOR_EVENTS), now_ms),
    )


def _waiting(reader: str, process: str, backlog: Backlog, now_ms: int) -> Waiting:
    oldest_ms = backlog.oldest_ms
    return Waiting(
        reader,
        process,
        backlog.place,
        backlog.records,
        backlog.size_bytes,
        max(0, now_ms - oldest_ms) / 1000 if oldest_ms else 0.0,
    )


# --- findings


def shared_findings(closed_because: str, readers: Sequence[Waiting]) -> Iterator[Finding]:
    """What everyone may know: whether records are taken, and how fresh answers are."""
    if closed_because:
        hint = "SDKs keep what they could not send and try again; the reason says what to mend."
        yield Finding("writes", "fail", f"Records are refused: {closed_because}.", hint)
    else:
        yield Finding("writes", "ok", "Records can be stored.")
    for each in readers:
        yield _lateness(each)


def _records(count: int) -> str:
    return "1 record" if count == 1 else f"{count:,} records"


def _lateness(reader: Waiting) -> Finding:
    what = "Profiles are" if reader.reader == "profiles" else "Events are"
    if not reader.behind_records or reader.behind_seconds < LATE_S:
        return Finding(reader.reader, "ok", f"{what} up to date.")
    message = (
        f"{what} {reader.behind_seconds:.0f} s behind: {_records(reader.behind_records)} waiting for the"
        f" process `{reader.process}`."
    )
    hint = "If this grows, look at the server's log for errors of this process; else wait, or send less."
    return Finding(reader.reader, "fail" if reader.behind_seconds > VERY_LATE_S else "warn", message, hint)


def server_findings(seen: Seen, readers: Sequence[Waiting]) -> list[Finding]:
    """Everything that an owner should know, in the order in which to read it."""
    found = list(shared_findings(seen.closed_because, readers))
    found += _backlog(seen.settings, readers)
    found += _counted_findings(seen)
    found += _log_findings(seen)
    found += _token_findings(seen.store)
    if has_folder(seen):
        found += check_disk(seen.settings)
        found += _wal_findings(seen.settings.data_dir)
        found += check_modes(seen.settings)
        found += _backup_findings(seen)
    found += _certificate(seen)
    found += _account_findings(seen)
    found += _variables()
    found += check_versions()
    return found


def has_folder(seen: Seen) -> bool:
    """Whether the data lies in files of a folder."""
    return getattr(seen.store, "folder", None) is not None


def _backlog(settings: Settings, readers: Sequence[Waiting]) -> Iterator[Finding]:
    share = max(
        max(each.behind_records for each in readers) / settings.backlog_limit_records,
        max(each.behind_bytes for each in readers) / settings.backlog_limit_bytes,
    )
    percent = round(100 * share)
    if percent >= HELD_BACK_PERCENT:
        hint = "Raise backlog_limit_records and backlog_limit_bytes if the disk has room, or send less."
        yield Finding("backlog", "fail", f"The backlog is {percent} % full: replies are held back.", hint)
    elif percent >= HELD_BACK_PERCENT / 2:
        hint = "From 80 % on replies are held back. Look at what makes the readers late."
        yield Finding("backlog", "warn", f"The backlog is {percent} % full.", hint)
    else:
        yield Finding("backlog", "ok", f"The backlog is {percent} % full.")


def _counted_findings(seen: Seen) -> Iterator[Finding]:
    counted = seen.counted
    down = sorted(name for name, up in counted.up.items() if not up)
    died = {name: times for name, times in sorted(counted.restarts.items()) if times}
    if down:
        hint = "It is started again within 5 s; if it keeps dying, the server's log says why."
        yield Finding("processes", "fail", f"Not running at the moment: {', '.join(down)}.", hint)
    elif died:
        told = ", ".join(f"{name} ({times})" for name, times in died.items())
        hint = "The log line `a process died and is started again` has its exit status; -9 is mostly memory."
        yield Finding("processes", "warn", f"Died and were started again since the start: {told}.", hint)
    elif counted.up:
        yield Finding("processes", "ok", f"All {len(counted.up)} processes run, and none has died.")
    faults = counted.fold_faults + counted.events_faults
    if faults:
        hint = "Each was tried again every second. A full disk, mostly: the server's log names the error."
        yield Finding("faults", "warn", f"Steps of the readers that failed since the start: {faults}.", hint)
    if counted.fold_failed:
        hint = "They are among the refusals as `internal error`, and can be sent again once it is mended."
        yield Finding("set aside", "fail", f"{_records(counted.fold_failed)} could not be applied.", hint)


def _log_findings(seen: Seen) -> Iterator[Finding]:
    logs = seen.store.logs()
    if logs.damaged:
        message = f"Parts of the log cannot be read and were stepped over: {logs.damaged}."
        hint = f"Bytes have changed on the disk or in memory: check both. {_DOCTOR}"
        yield Finding("log", "fail", message, hint)
    ahead_s = (logs.newest_ms - seen.now_ms) / 1000
    if ahead_s > CLOCK_AHEAD_S:
        hint = (
            "Mend the machine's time service. Nothing is lost, but times of arrival stand still until then."
        )
        yield Finding("clock", "warn", f"The clock went back: the log is {ahead_s:.0f} s ahead of it.", hint)


def _token_findings(store: Store) -> Iterator[Finding]:
    records, _ = store.refusals.counts().get(0, (0, 0))
    if records:
        message = f"{_records(records)} came with a token that no project has."
        hint = "An app uses an old or a wrong token: `mixdown refusals list` shows what it sent."
        yield Finding("tokens", "warn", message, hint)


def _wal_findings(folder: Path) -> Iterator[Finding]:
    large = [name for name in DATABASES if _bytes_of(folder / f"{name}-wal") > LARGE_WAL_BYTES]
    if large:
        message = f"The write-ahead log of {', '.join(large)} is larger than 1 GiB."
        hint = "Some program holds a long read open, `mixdown sql` or a BI tool: end it."
        yield Finding("wal", "warn", message, hint)


def _backup_findings(seen: Seen) -> Iterator[Finding]:
    if seen.settings.ephemeral:
        yield Finding("backup", "ok", "The data is temporary: it goes when the server ends.")
        return
    last = last_backup(seen.settings.data_dir)
    age_ms = seen.now_ms - last.finished_ms if last else None
    oldest_ms = min((project.created_ms for project in seen.store.catalog.projects()), default=seen.now_ms)
    hint = "Make one with `mixdown backup FILE`, and keep it on another disk."
    if age_ms is None and seen.now_ms - oldest_ms < _DAY_MS:
        yield Finding("backup", "ok", "No backup yet: the server is younger than a day.")
    elif age_ms is None:
        yield Finding("backup", "warn", "No backup of this folder is known.", hint)
    elif age_ms > BACKUP_DAYS * _DAY_MS:
        yield Finding("backup", "warn", f"The last backup is {age_ms // _DAY_MS} days old.", hint)
    else:
        yield Finding("backup", "ok", "The last backup is less than a week old.")


def _certificate(seen: Seen) -> Iterator[Finding]:
    end_s = seen.counted.certificate_end_s
    if not end_s:
        return
    days = (end_s - seen.now_ms / 1000) / _DAY_S
    if days < 0:
        yield Finding("certificate", "fail", "The TLS certificate has ended.", "Renew it: see docs/tls.md.")
    elif days < CERTIFICATE_DAYS:
        message = f"The TLS certificate ends in {days:.0f} days."
        yield Finding("certificate", "warn", message, "Renew it: see docs/tls.md.")
    else:
        yield Finding("certificate", "ok", f"The TLS certificate is good for {days:.0f} more days.")


def _account_findings(seen: Seen) -> Iterator[Finding]:
    owners = [account for account in seen.accounts if account.is_owner]
    if not any(not account.expires_ms for account in owners):
        message = "Every owner account ends some day: after that nobody administers this server."
        hint = "Make an owner without an end, here or with `mixdown account create NAME --role owner`."
        yield Finding("accounts", "warn", message, hint)
    ended = sorted(account.username for account in seen.accounts if account.is_expired(seen.now_ms))
    if ended:
        message = f"Accounts whose time is over: {', '.join(ended[:5])}{', …' if len(ended) > 5 else ''}."
        yield Finding("accounts", "ok", message)


def _variables() -> Iterator[Finding]:
    unknown = unknown_variables(os.environ)
    if unknown:
        message = f"Not a setting: {', '.join(unknown)}."
        yield Finding("settings", "warn", message, "It may be misspelt: `mixdown config` lists all settings.")


# --- facts


def server_facts(seen: Seen, readers: Sequence[Waiting]) -> dict[str, Any]:
    """The figures behind the findings, as values for JSON; None where they are not known here."""
    store, settings, now_ms = seen.store, seen.settings, seen.now_ms
    logs, history = (
        store.logs(),
        store.state.history_reach(),
    )  # its size would take a look at each large value
    keys, oldest_ms = store.state.key_window()
    folder = settings.data_dir if has_folder(seen) else None
    last = last_backup(folder) if folder is not None else None
    return {
        "log": {
            "head": logs.records,
            "tail": logs.dropped,
            "size_bytes": logs.size_bytes,
            "newest": iso_seconds(logs.newest_ms) if logs.newest_ms else None,
            "damaged_chunks": logs.damaged,
        },
        "backlog": {
            "records": max(each.behind_records for each in readers),
            "bytes": max(each.behind_bytes for each in readers),
            "limit_records": settings.backlog_limit_records,
            "limit_bytes": settings.backlog_limit_bytes,
        },
        "checkpoint": _checkpoint(store, folder),
        "events": msgspec.to_builtins(store.events.size()),
        "history": {
            "segments": history.segments,
            "since": None if history.since_ms is None else iso_seconds(history.since_ms),
        },
        "keys": {"held": keys, "oldest": iso_seconds(oldest_ms) if oldest_ms else None},
        "disk": None if folder is None else _disk(settings),
        "files": [] if folder is None else files_of(folder),
        "backup": {
            "last": None if last is None else backup_view(last, now_ms),
            "command": f"mixdown backup FILE.tar.gz --data-dir {settings.data_dir.absolute()}",
        },
        "processes": _processes(seen),
        "settings": changed_settings(settings),
    }


def _checkpoint(store: Store, folder: Path | None) -> dict[str, Any]:
    """When profiles were last moved into `state.db`: in WAL mode nothing else writes that file."""
    found: dict[str, Any] = {"position": store.state.durable_watermark(), "time": None}
    if folder is not None:
        with suppress(OSError):
            found["time"] = iso_seconds(int((folder / "state.db").stat().st_mtime * 1000))
    return found


def _disk(settings: Settings) -> dict[str, int]:
    usage = shutil.disk_usage(settings.data_dir)
    reserve = max(settings.disk_reserve_bytes, usage.total * settings.disk_reserve_percent // 100)
    return {"free_bytes": usage.free, "total_bytes": usage.total, "reserve_bytes": reserve}


def files_of(folder: Path) -> list[dict[str, Any]]:
    """The databases with their write-ahead logs."""
    return [
        {"name": name, "size_bytes": _bytes_of(folder / name), "wal_bytes": _bytes_of(folder / f"{name}-wal")}
        for name in DATABASES
    ]


def _bytes_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _processes(seen: Seen) -> list[dict[str, Any]]:
    """Each process that lives, and each that should."""
    counted = seen.counted
    living = {each.process: each for each in seen.processes}
    return [
        {
            "process": name,
            "up": name in living or counted.up.get(name, False),
            "pid": living[name].pid if name in living else None,
            "memory_bytes": living[name].memory_bytes if name in living else None,
            "started": iso_seconds(int(counted.starts[name] * 1000)) if name in counted.starts else None,
            "restarts": counted.restarts.get(name, 0),
        }
        for name in dict.fromkeys((*living, *sorted(counted.up)))
    ]


def changed_settings(settings: Settings) -> list[dict[str, Any]]:
    """The settings in force that are not the default; secrets are left out."""
    return [
        {
            "name": setting.name,
            "value": _plain(getattr(settings, setting.name)),
            "default": _plain(setting.default),
            "variable": setting.env,
            "flag": setting.flag,
            "help": setting.help,
        }
        for setting in SETTINGS
        if getattr(settings, setting.name) != setting.default
        and not setting.secret
        and setting.name not in _MASKED
    ]


def _plain(value: object) -> str | int | bool:
    return value if isinstance(value, (bool, int)) else str(value)


def backup_view(last: LastBackup, now_ms: int) -> dict[str, Any]:
    """The last backup, as this API shows it."""
    return {
        "finished": iso_seconds(last.finished_ms),
        "age_s": max(0, now_ms - last.finished_ms) // 1000,
        "size_bytes": last.size_bytes,
        "head": last.head,
        "version": last.version,
    }
