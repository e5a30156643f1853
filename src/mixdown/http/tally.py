"""How metrics are counted: cheaply, in files that every process of a server shares.

Declarations and numbers enter; memory-mapped files that `prometheus_client` can merge leave. A count is
one addition to a double in a mapped page: no lock, no system call. That holds because each metric is
counted by one thread of a process; only the making of a new label set is guarded.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values
from prometheus_client.mmap_dict import MmapedDict, mmap_key

CHILD_LIMIT: Final = 500
"""Label sets that one metric may have; beyond it everything counts as `other` (bounded memory)."""
OTHER: Final = "other"

Labels = tuple[str, ...]
Add = Callable[[float], None]


class Metric(msgspec.Struct, frozen=True):
    """One declaration. `buckets` are a histogram's upper bounds."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: Labels = ()
    buckets: tuple[float, ...] = ()


def count_as(slot: str, folder: Path) -> Callable[[], None]:
    """Count in the files of `slot` ("worker-0", "fold") in `folder`; no other living process uses them.

    Call it before the first metric is made. A process that takes the place of one that died goes on with
    its counts; files named by process id, the library's own way, would pile up with every restart.

    Returns:
        What closes the files, for who does not end with the process. What is counted later still arrives.
    """
    files: dict[str, Any] = {}
    values.ValueClass = _shared_values(slot, folder, files)

    def close() -> None:
        for file in files.values():
            file._f.close()  # noqa: SLF001 - not the mapping: counters hold it

    return close


def _shared_values(slot: str, folder: Path, files: dict[str, Any]) -> type[Any]:
    """What `prometheus_client` calls a value class: one number each, kept in the files of a slot."""
    making = threading.Lock()

    class SharedValue:
        """A number in a mapped file. Only one thread may change it."""

        __slots__ = ("_cells", "_index", "inc")
        _multiprocess = True

        def __init__(
            self,
            typ: str,
            metric_name: str,
            name: str,
            labelnames: Iterable[str],
            labelvalues: Iterable[str],
            help_text: str,
            multiprocess_mode: str = "",
            **_: object,
        ) -> None:
            kind = f"{typ}_{multiprocess_mode}" if typ == "gauge" else typ
            with making:
                if kind not in files:
                    path = str(folder / f"{kind}_{slot}.db")
                    files[kind] = MmapedDict(path)  # type: ignore[no-untyped-call]
                key = mmap_key(metric_name, name, list(labelnames), list(labelvalues), help_text)
                files[kind].read_value(key)  # makes it where it is new
                # A file that grows is mapped anew; this mapping of its start stays as good as the new one.
                self._cells = memoryview(files[kind]._m).cast("d")  # noqa: SLF001
                self._index: int = files[kind]._positions[key] // self._cells.itemsize  # noqa: SLF001
            self.inc = _adding(self._cells, self._index)

        def set(self, value: float, timestamp: float | None = None) -> None:
            del timestamp
            self._cells[self._index] = value

        def get(self) -> float:
            return self._cells[self._index]

    return SharedValue


def _adding(cells: memoryview[float], index: int) -> Add:
    def add(amount: float) -> None:
        cells[index] += amount

    return add


class Counters:
    """A counter by its label values: `known` ones show from the start, so that a first count is a rise."""

    def __init__(self, metric: Metric, registry: CollectorRegistry, known: Iterable[Labels] = ()) -> None:
        self._counter = Counter(metric.name, metric.help, metric.labels, registry=registry)
        self._adders: dict[Labels, Add] = {}
        self._other = (OTHER,) * len(metric.labels)
        for labels in known:
            self.adder(labels)

    def add(self, labels: Labels, amount: float = 1) -> None:
        """Count."""
        adder = self._adders.get(labels) or self.adder(labels)
        adder(amount)

    def adder(self, labels: Labels) -> Add:
        """What counts for these label values, for whoever keeps it at hand."""
        if len(self._adders) >= CHILD_LIMIT:
            labels = self._other
        child = self._counter.labels(*labels) if labels else self._counter
        # The value itself: the library's own `inc` checks what cannot be wrong here, for a microsecond.
        adder: Add = child._value.inc  # noqa: SLF001
        return self._adders.setdefault(labels, adder)


class Histograms:
    """A histogram by its label values, likewise."""

    def __init__(self, metric: Metric, registry: CollectorRegistry, known: Iterable[Labels] = ()) -> None:
        self._histogram = Histogram(
            metric.name, metric.help, metric.labels, buckets=metric.buckets, registry=registry
        )
        self._bounds = metric.buckets  # beyond the last: +Inf
        self._adders: dict[Labels, tuple[Add, tuple[Add, ...]]] = {}
        self._other = (OTHER,) * len(metric.labels)
        for labels in known:
            self.adders(labels)

    def observe(self, labels: Labels, amount: float) -> None:
        """Count one observation."""
        add_sum, buckets = self._adders.get(labels) or self.adders(labels)
        add_sum(amount)
        buckets[bisect_left(self._bounds, amount)](1)

    def adders(self, labels: Labels) -> tuple[Add, tuple[Add, ...]]:
        """What counts the sum and each bucket for these label values, for whoever keeps it at hand."""
        if len(self._adders) >= CHILD_LIMIT:
            labels = self._other
        child = self._histogram.labels(*labels) if labels else self._histogram
        adders = (child._sum.inc, tuple(bucket.inc for bucket in child._buckets))  # noqa: SLF001
        return self._adders.setdefault(labels, adders)


class Gauges:
    """A gauge by its label values; over a server's processes the values add up, or the largest counts."""

    def __init__(self, metric: Metric, registry: CollectorRegistry, *, over: Literal["sum", "max"]) -> None:
        self._gauge = Gauge(
            metric.name, metric.help, metric.labels, registry=registry, multiprocess_mode=over
        )

    def set(self, labels: Labels, amount: float) -> None:
        """Show this from now on."""
        (self._gauge.labels(*labels) if labels else self._gauge).set(amount)
