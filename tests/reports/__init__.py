"""Tests of reports: figures of events against plain Python over all of them."""
