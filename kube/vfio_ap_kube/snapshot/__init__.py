"""From API documents to the core's views: the one border for operator and command line.

Hostile or half-written input is stopped here: a document that does not make sense becomes a view that says so, and
nothing raises on bad content. No I/O.
"""
