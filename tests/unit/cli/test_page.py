"""docs/cli.md shows what the program says."""

from .page import PAGE, rendered


def test_the_page_shows_what_the_program_says(monkeypatch):
    monkeypatch.delenv("KUBECONFIG", raising=False)
    text = PAGE.read_text()
    assert rendered(text) == text, "python -m tests.unit.cli.page writes the page anew"
