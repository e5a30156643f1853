"""Benchmarks: what the server does, beside a floor that was taken in the same run on the same machine."""
