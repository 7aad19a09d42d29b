"""The speed suite: ratios in one process, against named alternatives on the same work."""
