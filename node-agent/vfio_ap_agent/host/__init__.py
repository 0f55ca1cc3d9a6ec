"""The way to a host: file operations with deadlines, uevents and kernel log lines.

Everything that may block in the kernel happens in another process, so that the event loop never does
(kernel-ap.md hazard 5). Nothing here knows what the files mean.
"""
