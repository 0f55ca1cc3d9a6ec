"""Answers as data, computed from a snapshot. No I/O, no colours."""
