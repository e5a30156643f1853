"""Reads of events: raw lines, figures over time, what there is, and what one person or group did."""
