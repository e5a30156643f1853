"""Put first on PYTHONPATH: a VFS shim below SQLite that waits BENCH_FSYNC_MS before each flush.

`apsw.VFS` could do it in ten lines, but would send each read and write of a page through Python, and it is
flushes that are to be slow. So the shim sits in SQLite's own structures (https://sqlite.org/c3ref/vfs.html,
https://sqlite.org/c3ref/io_methods.html): files open as always, and get a copy of their table of methods in
which xSync is ours. A flush takes the interpreter's lock twice, for a moment, and holds it while it neither
waits nor flushes.
"""

import ctypes
import os
import time

import apsw

DELAY_S = float(os.environ.get("BENCH_FSYNC_MS", "0")) / 1000
POINTER = ctypes.sizeof(ctypes.c_void_p)
METHODS = 19  # xClose to xUnfetch, after iVersion
SYNC = 5  # iVersion, xClose, xRead, xWrite, xTruncate, xSync

Open = ctypes.CFUNCTYPE(
    *(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
)
Sync = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)


class Vfs(ctypes.Structure):
    """The head of `sqlite3_vfs`."""

    _fields_ = (
        ("iVersion", ctypes.c_int),
        ("szOsFile", ctypes.c_int),
        ("mxPathname", ctypes.c_int),
        ("pNext", ctypes.c_void_p),
        ("zName", ctypes.c_char_p),
        ("pAppData", ctypes.c_void_p),
        ("xOpen", ctypes.c_void_p),
    )


def default_vfs() -> Vfs:
    """SQLite's default VFS, as a database that nobody named tells it."""
    address = ctypes.c_void_p()
    connection = apsw.Connection("")
    connection.file_control("main", apsw.SQLITE_FCNTL_VFS_POINTER, ctypes.addressof(address))
    connection.close()
    assert address.value
    return Vfs.from_address(address.value)


TABLES: dict[int, ctypes.Array[ctypes.c_void_p]] = {}
KEPT: list[object] = []  # what SQLite calls must not be collected


def slow_table(methods: int) -> int:
    """The address of a copy of a file's methods whose xSync waits first."""
    table = TABLES.get(methods)
    if table is None:
        table = (ctypes.c_void_p * (METHODS + 1))()
        ctypes.memmove(table, methods, POINTER * (METHODS + 1))
        flush = Sync(table[SYNC] or 0)

        def slow_flush(file: int, flags: int) -> int:
            time.sleep(DELAY_S)
            return int(flush(file, flags))

        native = Sync(slow_flush)
        KEPT.append(native)
        table[SYNC] = ctypes.cast(native, ctypes.c_void_p).value
        TABLES[methods] = table
    return ctypes.addressof(table)


def slow_down(vfs: Vfs) -> None:
    """Give every file that opens from now on a slow xSync."""
    opened = Open(vfs.xOpen)

    def open_slow(own: int, name: int, file: int, flags: int, out_flags: int) -> int:
        status = int(opened(own, name, file, flags, out_flags))
        methods = ctypes.c_void_p.from_address(file)
        if status == apsw.SQLITE_OK and methods.value:
            methods.value = slow_table(methods.value)
        return status

    native = Open(open_slow)
    KEPT.append(native)
    vfs.xOpen = ctypes.cast(native, ctypes.c_void_p).value


if DELAY_S:
    slow_down(default_vfs())
