"""Runs on disk, the queue they wait in, and the processes that work on them."""
