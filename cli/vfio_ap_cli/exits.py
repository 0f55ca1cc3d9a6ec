"""Exit codes, and the one way in which a command ends with a sentence and a remedy."""

from __future__ import annotations

from typing import IO, Any

import click

OK = 0
"""Done, or the answer is yes."""
NO = 1
"""The answer is no: refused, cannot move, unhealthy."""
MISUSE = 2
"""The command line or a file that it names makes no sense."""
NO_CLUSTER = 3
"""The cluster cannot be reached, or does not let this user look."""


class Stop(click.ClickException):
    """Ends the command with an exit code; the sentence and its remedy go to standard error."""

    def __init__(self, code: int, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.exit_code = code  # type: ignore[misc]  # click reads it from the instance
        self.remedy = remedy

    def show(self, file: IO[Any] | None = None) -> None:
        """Print one line: the sentence, then what to do."""
        text = f"{self.message}; {self.remedy}" if self.remedy else self.message
        click.echo(f"kubectl ap: {text}", file=file, err=file is None)
