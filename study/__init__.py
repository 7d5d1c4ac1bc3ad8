"""Fragility of influence functions: predicted against actual leave-one-out changes, with evidence for both."""

__version__ = "0.1.0"
