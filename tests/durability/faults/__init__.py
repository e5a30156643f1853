"""Faults for servers under test: moments at which a process dies, a lossy disk, a clock that jumps, mutants.

`sitecustomize` is what a server's processes import by themselves; the other modules are shared with the
tests that steer them.
"""
