"""The pages that a must-gather has, as they were at that moment."""

from __future__ import annotations

import click

from vfio_ap_cli.pages import doctor, matrix, nodes
from vfio_ap_cli.questions import doctor as doctor_questions
from vfio_ap_cli.questions import matrix as matrix_questions
from vfio_ap_cli.questions import nodes as node_questions
from vfio_ap_cli.snapshot import Snapshot


def pages(snapshot: Snapshot) -> dict[str, str]:
    """Return the texts by name, without colours."""
    documents = snapshot.documents
    found = {
        "nodes": nodes.listing(node_questions.rows(snapshot), wide=True),
        "matrices": matrix.listing(matrix_questions.rows(snapshot), wide=True),
        "doctor": "\n".join(doctor.page(doctor_questions.checks(snapshot), documents.where, documents.version)),
    }
    for name in snapshot.nodes:
        if (node := node_questions.answer(snapshot, name)) is not None:
            found[f"node-{name}"] = "\n".join(nodes.one(node))
    return {name: click.unstyle(text) + "\n" for name, text in found.items()}
