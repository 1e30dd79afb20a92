"""Headstart: from a zip of labelled photos to a trained, explained image classifier."""

__version__ = "0.1.0"
