"""The page of ``kubectl ap explain``."""

from __future__ import annotations

from vfio_ap_cli.pages import out
from vfio_ap_cli.questions.explain import Explanation


def page(found: Explanation) -> list[str]:
    """Return what an object does, what holds it, what was said of it and what to do."""
    parts = [f"{found.object}: {out.coloured(found.says)}", out.facts(found.facts)]
    if found.holds:
        parts.append(out.heading("held by"))
        parts += [
            "\n".join(_item(f"{r.reason}: {r.subject}: {r.message}" if r.subject else f"{r.reason}: {r.message}"))
            for r in found.holds
        ]
    if found.notes:
        parts.append(out.heading("also"))
        parts += ["\n".join(_item(note)) for note in found.notes]
    if found.events:
        rows = (
            (e.age, e.type, e.reason, e.object, e.message + (f" (x{e.count})" if e.count > 1 else ""))
            for e in found.events
        )
        parts += [
            out.heading("said lately"),
            out.table(("AGE", "TYPE", "REASON", "OBJECT", "MESSAGE"), rows, sentence=True),
        ]
    if not found.holds:
        parts.append("\nnothing holds it")
    if found.next:
        parts.append(out.heading("what to do" if found.holds else "see also"))
        parts += ["\n".join([f"  {text}"] if text.startswith("kubectl ") else _item(text)) for text in found.next]
    return parts


def _item(text: str) -> list[str]:
    return out.folded(text, 2)
