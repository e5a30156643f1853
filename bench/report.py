"""Results as JSON, as Markdown, and in the documents that quote them.

`python -m bench.report` writes the figures of the kept results into README.md and docs/performance.md,
between marks; `tests/bench` sees that they are the same. Nobody copies a figure by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import orjson

from bench import report_table

ROOT: Final = Path(__file__).parent.parent
RESULTS: Final = Path(__file__).parent / "results"
PUBLISHED: Final = ("full", "quick")
"""The results that documents quote: the first of these that is kept."""
_MARK: Final = "<!-- bench:{name} {edge} (python -m bench.report) -->"
_MISSING: Final = "not measured"
_BURST: Final = 1
"""The cell of 50-record requests, by which competitors are compared."""
Result = dict[str, Any]


def save(name: str, result: Result) -> Path:
    """Keep a result, and its tables, as bench/results/NAME.json and NAME.md; the first of them."""
    return _save(name, result, markdown(result))


def _save(name: str, result: Result, tables: str) -> Path:
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_bytes(orjson.dumps(result, option=orjson.OPT_INDENT_2) + b"\n")
    path.with_suffix(".md").write_text(tables + "\n")
    return path


def published() -> Result | None:
    """The kept result that documents quote, None where there is none."""
    for name in PUBLISHED:
        path = RESULTS / f"{name}.json"
        if path.exists():
            found: Result = orjson.loads(path.read_bytes())
            return found
    return None


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table; numbers with thousands separated."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *[[_cell(value) for value in row] for row in rows]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and (value < 100 and not value.is_integer()):
        return f"{value:,.2f}" if value < 10 else f"{value:,.1f}"
    return f"{value:,.0f}" if isinstance(value, (int, float)) else str(value)


# --- the whole result


def markdown(result: Result, *, heading: str = "##") -> str:
    """All tables of a result."""
    parts = [machine_words(result)]
    for disk in result["disks"].values():
        parts.append(f"{heading} {disk_words(result, disk)}")
        parts += [make(disk) for name, make in _TABLES.items() if name in disk]
    return "\n\n".join(parts)


def machine_words(result: Result, *, loads: bool = True) -> str:
    """The machine in one sentence, and what was in place."""
    options = result["options"]
    length = f"loads of {options['seconds']:g} s, " if loads else ""
    return (
        f"{facts(result['machine'])}; {options['profiles']:,} profiles in place, {length}"
        f"the load generator on the same cores.{databases(result['machine'])}"
    )


def facts(machine: Result) -> str:
    """The machine, and what was measured on it: the commit where it is one that others can find."""
    commit = f" ({machine['commit']})" if machine["commit"] else ""
    return (
        f"{machine['cores']} cores of {machine['processor']}, {machine['memory_gib']:g} GiB, Linux"
        f" {machine['kernel']}, {machine['file_system']}, Python {machine['python']},"
        f" SQLite {machine['sqlite']};"
        f" Mixdown {machine['mixdown']}{commit}, {machine['at'][:10]}"
    )


def databases(machine: Result) -> str:
    """What else was measured beside."""
    found = machine.get("databases", {}).values()
    return f" Compared with {', '.join(found)}." if found else ""


def disk_words(result: Result, disk: Result) -> str:
    """A disk by what a flush costs on it."""
    flush = f"fdatasync {result['machine']['fdatasync_ms']:.2g} ms"
    return f"{flush}, and {disk['added_ms']:g} ms more" if disk["added_ms"] else flush


def _acknowledged(disk: Result) -> str:
    head = ["keys, records a request", "acknowledged/s", "p50 ms", "p99 ms", "max ms", "sustained/s"]
    head += ["floor: decode + append + fsync/s", "floor: same HTTP server/s", "worker µs", "fold µs"]
    head += ["written B a record", "generator, cores"]
    fields = ["records_s", "p50_ms", "p99_ms", "max_ms", "sustained_records_s", "floor_append_records_s"]
    fields += ["floor_echo_records_s", "worker_cpu_us_a_record", "fold_cpu_us_a_record"]
    fields += ["written_bytes_a_record", "generator_cpu"]
    rows = [
        [f"{keys}, {cell['records_a_request']:,}{mark}", *[cell.get(field) for field in fields]]
        for part, mark in (("ack", ""), ("keyed", " with `$insert_id`"))
        for keys, cells in disk.get(part, {}).items()
        for cell in (cells if isinstance(cells, list) else [cells])
    ]
    return "Over HTTP, records, everything flushed:\n\n" + table(head, rows)


def _fold(disk: Result) -> str:
    head = ["keys", "fold alone, records/s", "floor: the same documents upserted, no logic", "of the floor"]
    head += ["µs of processor a record", "the floor's", "of the floor by processor"]
    fields = ["records_s", "floor_records_s", "of_floor"]
    fields += ["cpu_us_a_record", "floor_cpu_us_a_record", "of_floor_cpu"]
    return table(
        head, [[keys, *[cell.get(field) for field in fields]] for keys, cell in disk["fold"].items()]
    )


def _readable(disk: Result) -> str:
    head = ["from acknowledged to readable, keys", "while records/s come in"]
    head += ["p50 ms", "p99 ms", "max ms", "probes"]
    fields = ("offered_records_s", "p50_ms", "p99_ms", "max_ms", "probes")
    cells = disk["readable"].items()
    return table(head, [[keys, *[cell[field] for field in fields]] for keys, cell in cells])


def _import(disk: Result) -> str:
    cell = disk["import"]
    return f"{cell['profiles']:,} new profiles in no order, until folded: {cell['profiles_s']:,} a second."


def _competitors(disk: Result) -> str:
    head = ["what a user would build", "50-record zipf requests, records/s", "p99 ms"]
    head += ["1-record requests/s", "p99 ms"]
    rows = [["Mixdown, sustained", *_own(disk)]] if "zipf" in disk.get("ack", {}) else []
    for cell in disk["competitors"]:
        if "missing" in cell:
            rows.append([cell["name"], cell["missing"], None, None, None])
        else:
            figures = [shape[field] for shape in cell["cells"] for field in ("records_s", "p99_ms")]
            rows.append([cell["name"], *figures])
    return table(head, rows)


def _own(disk: Result) -> list[Any]:
    cells = disk["ack"]["zipf"]
    fifty, one = cells[_BURST], cells[_BURST + 1]
    return [fifty["sustained_records_s"], fifty["p99_ms"], one["sustained_records_s"], one["p99_ms"]]


def _growth(disk: Result) -> str:
    head = ["profiles", "fold alone/s, zipf", "uniform", "read by id p50 ms", "p99 ms", "first page p50 ms"]
    head += ["next page p50 ms", "memory MiB", "written B a record, zipf", "uniform", "state.db MiB"]
    rows = [
        [
            cell["profiles"],
            *[cell["fold"].get(keys, {}).get("records_s") for keys in ("zipf", "uniform")],
            *[cell["reads"]["by id"][field] for field in ("p50_ms", "p99_ms")],
            *[cell["reads"][name]["p50_ms"] for name in ("first page", "next page")],
            cell["memory_mib"],
            *[cell["fold"].get(keys, {}).get("written_bytes_a_record") for keys in ("zipf", "uniform")],
            cell["state_mib"],
        ]
        for cell in disk["growth"]
    ]
    return table(head, rows)


_TABLES: Final = {
    "ack": _acknowledged,
    "fold": _fold,
    "readable": _readable,
    "import": _import,
    "competitors": _competitors,
    "growth": _growth,
}


# --- what the README quotes


def summary(result: Result) -> str:
    """Both disks side by side, in a dozen lines."""
    disks = list(result["disks"].values())
    head = ["", *[disk_words(result, disk) for disk in disks]]
    rows = [[label, *[_or_missing(make, disk) for disk in disks]] for label, make in _LINES.items()]
    for number, cell in enumerate(disks[0].get("competitors", ())):
        rows.append([cell["name"], *[_or_missing(_rival(number), disk) for disk in disks]])
    return machine_words(result) + "\n\n" + table(head, rows)


def _or_missing(make: Any, disk: Result) -> str:
    try:
        return str(make(disk))
    except (KeyError, IndexError):
        return _MISSING


def _burst_words(at: int, unit: str) -> Any:
    def words(disk: Result) -> str:
        cell = disk["ack"]["zipf"][at]
        return f"{cell['records_s']:,} {unit}/s, p99 {cell['p99_ms']:,.0f} ms"

    return words


def _rival(number: int) -> Any:
    def words(disk: Result) -> str:
        cell = disk["competitors"][number]
        if "missing" in cell:
            return str(cell["missing"])
        rate = cell["cells"][0]["records_s"]
        times = disk["ack"]["zipf"][_BURST]["sustained_records_s"] / rate
        return f"{rate:,} records/s; Mixdown {times:.1f} times"

    return words


def _sustained(keys: str) -> Any:
    return lambda disk: f"{disk['ack'][keys][_BURST]['sustained_records_s']:,} records/s"


def _fold_words(keys: str) -> Any:
    def words(disk: Result) -> str:
        cell = disk["fold"][keys]
        return f"{cell['records_s']:,} records/s, {100 * cell['of_floor']:.0f} % of the floor"

    return words


def _readable_words(disk: Result) -> str:
    cell = disk["readable"]["zipf"]
    return f"p50 {cell['p50_ms']:.0f} ms, p99 {cell['p99_ms']:.0f} ms"


_LINES: Final = {
    "Acknowledged, 2,000 records a request": _burst_words(0, "records"),
    "Acknowledged, 50 records a request": _burst_words(1, "records"),
    "Acknowledged, 1 record a request": _burst_words(2, "requests"),
    "Sustained until folded, 50 records a request, zipf keys": _sustained("zipf"),
    "the same, uniform keys": _sustained("uniform"),
    "the same, zipf, an `$insert_id` on every record": lambda disk: (
        f"{disk['keyed']['zipf']['sustained_records_s']:,} records/s"
    ),
    "Fold alone, zipf": _fold_words("zipf"),
    "Fold alone, uniform": _fold_words("uniform"),
    "New profiles in any order": lambda disk: f"{disk['import']['profiles_s']:,} a second",
    "From acknowledged to readable, at half of the sustained rate": _readable_words,
}


# --- reads


_READS: Final = {
    "by id": ("one profile by its id", 2.0),
    "two properties": ("a filter on two properties, first page of 1,000", 1500.0),
    "next page": ("its next pages", 20.0),
    "properties": ("`engage/properties`", 50.0),
    "count": ("`engage/stats`, count() of a filter", None),
    "one company": ('`properties["company"] == …`, one in 5,000, first page', None),
    "one plan": ('`properties["plan"] == …` and another, one in 8, first page', None),
}
"""Kinds of reads: their words, and the aim in ms where nothing else goes on (under load twice as much)."""
_FOLDS: Final = {
    "neither": "without history and indexes",
    "history": "with history, as it comes",
    "history and index": "with history, and an index on `score`",
}


def reads(result: Result) -> str:
    """The tables of `bench.reads`."""
    parts = [machine_words(result, loads=False), _read_table(result)]
    built = ", ".join(f"`{name}` {cell['built_s']:g} s" for name, cell in result["indexes"].items())
    exports = ", ".join(
        f"{form} {cell['seconds']:g} s ({cell['mib']:,.0f} MiB)" for form, cell in result["exports"].items()
    )
    load = result["reads"]["plain"]["load"]
    parts.append(
        f"Under load: {load['records_s']:,} updates/s came in, their p99 {load['p99_ms']:,.0f} ms."
        f" Properties of all these profiles, stored without counting, were counted in"
        f" {result['counting_s']:g} s."
        f" Indexes were built in: {built}. A whole export took: {exports}."
    )
    head = ["the fold alone, records/s", *(f"{keys}" for keys in ("zipf", "uniform"))]
    head += [f"µs of processor a record, {keys}" for keys in ("zipf", "uniform")]
    rows = [
        [
            words,
            *[
                result["fold"][name][keys][field]
                for field in ("records_s", "cpu_us_a_record")
                for keys in ("zipf", "uniform")
            ],
        ]
        for name, words in _FOLDS.items()
    ]
    return "\n\n".join([*parts, table(head, rows)])


def _read_table(result: Result) -> str:
    head = ["read", "aim ms", "quiet p50 ms", "p99 ms", "server's mean ms"]
    head += ["under load p50 ms", "p99 ms", "server's mean ms"]
    rows = []
    for way, words in (("plain", ""), ("indexed", ", with an index")):
        measured = result["reads"][way]
        for kind, (name, aim) in _READS.items():
            if kind in measured["quiet"]:
                cells = [
                    measured[state][kind][field]
                    for state in ("quiet", "loaded")
                    for field in ("p50_ms", "p99_ms", "server_ms")
                ]
                rows.append([name + words, aim, *cells])
    return table(head, rows)


def save_reads(name: str, result: Result) -> Path:
    """Keep a result of `bench.reads`, and its tables; the first of them."""
    return _save(name, result, reads(result))


# --- PostgreSQL


def postgres(result: Result) -> str:
    """The tables of `bench.postgres`."""
    made = [make(result[name]) for name, make in _POSTGRES.items() if name in result]
    return "\n\n".join([machine_words(result), *made])


def _postgres_ack(cells: Result) -> str:
    return f"Over HTTP, records, everything flushed:\n\n{_loads(cells)}"


def _postgres_node(cells: Result) -> str:
    return f"The same over HTTP with that project, two fold workers and no delay:\n\n{_loads(cells)}"


def _loads(cells: Result) -> str:
    head = ["keys, records a request", "acknowledged/s", "p50 ms", "p99 ms", "sustained/s", "worker \u00b5s"]
    head += ["fold \u00b5s", "PostgreSQL \u00b5s", "written B a record"]
    fields = ["records_s", "p50_ms", "p99_ms", "sustained_records_s", "worker_cpu_us_a_record"]
    fields += ["fold_cpu_us_a_record", "database_cpu_us_a_record", "written_bytes_a_record"]
    rows = [
        [f"{keys}, {cell['records_a_request']:,}", *[cell[field] for field in fields]]
        for keys, some in cells.items()
        for cell in some
    ]
    return table(head, rows)


def _postgres_fold(cells: Result) -> str:
    head = ["keys", "records/s", "fold \u00b5s", "PostgreSQL \u00b5s", "profiles a record"]
    fields = ["records_s", "cpu_us_a_record", "database_cpu_us_a_record"]
    rows = [
        [keys, *[cell[field] for field in fields], cell["profiles"] / cell["records"]]
        for keys, cell in cells.items()
    ]
    floors = [
        [f"{keys}: {words}", cell[f"floor_{name}_records_s"], cell[f"of_{name}"]]
        for keys, cell in cells.items()
        for name, words in _POSTGRES_FLOORS.items()
        if f"of_{name}" in cell
    ]
    beside = table(["floors of the same run", "records/s", "the fold reaches of it"], floors)
    return f"The fold alone:\n\n{table(head, rows)}\n\n{beside}"


def _postgres_workers(cells: list[Result]) -> str:
    head = [
        "a round trip's added ms",
        "fold workers",
        "records/s",
        "times one",
        "fold \u00b5s",
        "PostgreSQL \u00b5s",
    ]
    one = {cell["delay_ms"]: cell["records_s"] for cell in cells if cell["workers"] == 1}
    rows = [
        [
            f"{cell['delay_ms']:g}",
            cell["workers"],
            cell["records_s"],
            round(cell["records_s"] / one[cell["delay_ms"]], 2),
            cell["cpu_us_a_record"],
            cell["database_cpu_us_a_record"],
        ]
        for cell in cells
    ]
    return "A project spread over two partitions, uniform keys, the fold alone:\n\n" + table(head, rows)


_POSTGRES_FLOORS: Final = {
    "copy": "COPY of each step's final rows into an empty table",
    "put": "the same rows, by COPY and one upsert, in the place of those before",
    "read_put": "the same, and read first as they are",
    "plain": "plain read-modify-write, 2,000 records a transaction",
}
_POSTGRES: Final[dict[str, Callable[[Any], str]]] = {
    "ack": _postgres_ack,
    "fold": _postgres_fold,
    "workers": _postgres_workers,
    "node": _postgres_node,
}


def save_postgres(name: str, result: Result) -> Path:
    """Keep a result of `bench.postgres`, and its tables; the first of them."""
    return _save(name, result, postgres(result))


# --- events


def stored_events(result: Result) -> str:
    """The tables of `bench.stored_events`."""
    write, size, counts, export = (result[name] for name in ("write", "size", "counts", "export"))
    rival = result.get("postgres", {})
    times = result["options"]["postgres_events"] / result["options"]["events"]
    scaled = "" if times == 1 else f" ({result['options']['postgres_events']:,} events)"
    head = ["", "Mixdown", "plain DuckDB, same files", f"PostgreSQL, `jsonb`{scaled}"]
    rows = [
        ["bytes an event on disk", size["bytes_an_event"], None, rival.get("bytes_an_event")],
        [
            f"counts by one property, {counts['mixdown']['events']:,} events, s",
            counts["mixdown"]["seconds"],
            counts["floor"]["seconds"],
            rival.get("counts_s"),
        ],
        [f"one day exported, {export['events']:,} events, s", export["seconds"], None, rival.get("export_s")],
    ]
    words = (
        f"An event has {write['bytes_an_event']:,.0f} bytes as a line. Written to recent files:"
        f" {write['written_s']:,} events/s ({write['written_cpu_us']} \u00b5s of processor each); split into"
        f" days and merged: {write['tended_s']:,} events/s on one thread ({write['tended_cpu_us']} \u00b5s),"
        f" the longest piece {write['longest_piece_s']} s. The export held {export['peak_mib']} MiB at most,"
        f" {export['early_mib']} MiB after its first tenth; the count {counts['mixdown']['peak_mib']} MiB."
    )
    layouts = [[each["name"], each["bytes_an_event"], each["count_cpu_us"]] for each in result["layouts"]]
    own = ["typed columns, sorted by id (Mixdown)", size["bytes_an_event"], _count_us(counts["mixdown"])]
    others = table(
        ["the first day in other layouts", "bytes an event", "\u00b5s an event of a count by one property"],
        [own, *layouts],
    )
    machine = f"{facts(result['machine'])}.{databases(result['machine'])}"
    return "\n\n".join([machine, table(head, rows), words, others])


def _count_us(counts: Result) -> float:
    return round(float(counts["cpu_s"] / counts["events"] * 1e6), 3)


def save_stored_events(name: str, result: Result) -> Path:
    """Keep a result of `bench.stored_events`, and its tables; the first of them."""
    return _save(name, result, stored_events(result))


def published_stored_events() -> Result | None:
    """The kept result of `bench.stored_events`, None where there is none."""
    path = RESULTS / "stored-events.json"
    return orjson.loads(path.read_bytes()) if path.exists() else None


def published_reads() -> Result | None:
    """The kept result of `bench.reads`, None where there is none."""
    return kept("reads")


def kept(name: str) -> Result | None:
    """The kept result of that name, None where there is none."""
    path = RESULTS / f"{name}.json"
    return orjson.loads(path.read_bytes()) if path.exists() else None


# --- pages


_FIRST_BYTE_AIM_MS: Final = 150
_SHOWN_AIM_MS: Final = 1000
_FIRST_VISIT_AIM_KB: Final = 200


def pages(result: Result) -> str:
    """The tables of `bench.pages`."""
    options = result["options"]
    head = ["page", "first byte ms", "longest", "all shown ms", "longest", "first visit: shown ms", "kB"]
    rows = [
        [
            page["name"],
            *[page[name] for name in ("first_byte_ms", "first_byte_max_ms", "shown_ms", "shown_max_ms")],
            page["cold"]["shown_ms"],
            page["cold"]["bytes"] / 1000,
        ]
        for page in result["pages"]
    ]
    aims = ["aim", _FIRST_BYTE_AIM_MS, None, _SHOWN_AIM_MS, None, None, _FIRST_VISIT_AIM_KB]
    live_head = ["live view, records/s", "frames/s", "p99 between two ms", "longest ms", "frames over 25 ms"]
    fields = ("offered_records_s", "frames_s", "gap_p99_ms", "gap_max_ms", "late_frames")
    live = [[cell[name] for name in fields] for cell in result["live"]]
    words = (
        f"{facts(result['machine'])}; {result['machine']['chromium']}, headless, on the same cores;"
        f" {options['profiles']:,} profiles and {options['events']:,} events in place. Medians of"
        f" {options['rounds']} visits with a warm cache; a first visit has none."
    )
    return "\n\n".join([words, table(head, [aims, *rows]), table(live_head, live)])


def save_pages(name: str, result: Result) -> Path:
    """Keep a result of `bench.pages`, and its tables; the first of them."""
    return _save(name, result, pages(result))


# --- documents


def filled(text: str, name: str, content: str) -> str:
    """`text` with what stands between the marks of block `name` replaced by `content`.

    Raises `ValueError` where the marks are missing.
    """
    begin, end = (_MARK.format(name=name, edge=edge) for edge in ("begins", "ends"))
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"the marks of block {name} are missing: {begin} … {end}")
    return f"{before}{begin}\n{content}\n{end}{after}"


UNMEASURED: Final = "Not measured yet: `make bench-full ARGS=--save`, then `python -m bench.report`."
BLOCKS: Final[dict[str, tuple[str, Callable[[Result], str]]]] = {
    "README.md": ("summary", summary),
    "docs/performance.md": ("tables", partial(markdown, heading="###")),
}


READS_DOCUMENT: Final = "docs/performance.md"
READS_UNMEASURED: Final = "Not measured yet: `python -m bench.reads --save`, then `python -m bench.report`."


STORED_UNMEASURED: Final = "Not measured yet: `make bench-events ARGS=--save`, then `python -m bench.report`."
POSTGRES_UNMEASURED: Final = (
    "Not measured yet: `make bench-postgres ARGS=--save`, then `python -m bench.report`."
)
REPORTS_UNMEASURED: Final = "No figures are kept yet: run `make bench-reports ARGS=--save`, then this."
PAGES_UNMEASURED: Final = "Not measured yet: `make bench-pages ARGS=--save`, then `python -m bench.report`."


def documents(
    result: Result | None, read: Result | None = None, stored: Result | None = None
) -> dict[Path, str]:
    """Each document that quotes results, with the figures of these results in it (None: none)."""
    texts = {
        ROOT / name: filled(
            (ROOT / name).read_text(encoding="utf-8"), block, make(result) if result else UNMEASURED
        )
        for name, (block, make) in BLOCKS.items()
    }
    path = ROOT / READS_DOCUMENT
    texts[path] = filled(texts[path], "reads", reads(read) if read else READS_UNMEASURED)
    tables = stored_events(stored) if stored else STORED_UNMEASURED
    texts[path] = filled(texts[path], "stored-events", tables)
    shown = kept("pages")
    texts[path] = filled(texts[path], "pages", pages(shown) if shown else PAGES_UNMEASURED)
    other = kept("postgres")
    texts[path] = filled(texts[path], "postgres", postgres(other) if other else POSTGRES_UNMEASURED)
    told = kept("reports")
    texts[path] = filled(texts[path], "reports", report_table.reports(told) if told else REPORTS_UNMEASURED)
    return texts


def main() -> None:
    """Write the published figures into the documents."""
    result = published()
    for path, text in documents(result, published_reads(), published_stored_events()).items():
        path.write_text(text, encoding="utf-8")
        print(f"{path.relative_to(ROOT)}: {result['machine']['at'] if result else 'not measured'}")


if __name__ == "__main__":
    main()
