"""Headstart's speed beside named references, each pair timed in the same run: see `__main__`."""
