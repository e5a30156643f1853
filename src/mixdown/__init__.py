"""Mixdown: a self-hosted server that speaks Mixpanel's HTTP API.

This room holds the version alone. Everything else is imported from where it lives.
"""

__version__ = "0.1.0"
