"""Log records as single lines of ``key=value``, whatever is in them."""

from __future__ import annotations

import json
import logging


class OneLine(logging.Formatter):
    """Texts are quoted as JSON strings: nothing that was read elsewhere can begin a line of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        text = record.getMessage()
        if record.exc_info:
            text = f"{text}: {self.formatException(record.exc_info)}"
        time = self.formatTime(record, self.datefmt)
        return f"time={time} level={record.levelname.lower()} logger={record.name} msg={json.dumps(text)}"
