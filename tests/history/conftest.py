"""The way of a record, as the tests of the fold have it."""

from __future__ import annotations

from tests.fold.conftest import postgresql, way

__all__ = ["postgresql", "way"]
