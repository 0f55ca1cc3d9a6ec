"""The table of reasons: whole, worded, and what docs/verdicts.md says."""

import subprocess
import sys
from pathlib import Path

import pytest

from vfio_ap.fleet.verdict import Mode, Reason

REPOSITORY = Path(__file__).parents[3]


def test_the_page_is_what_the_table_says():
    page = subprocess.run([sys.executable, REPOSITORY / "tools" / "render_verdicts.py", "--check"], check=False)
    assert page.returncode == 0


@pytest.mark.parametrize("reason", Reason)
def test_a_reason_says_all_there_is_to_say(reason):
    explained = reason.value
    assert explained.meaning.endswith(".")
    assert explained.elsewhere
    assert explained.remedy
    assert not explained.remedy.endswith(".")
    assert reason.name[0].isupper()
    assert Mode.RESTART not in explained.closes or explained.closes == frozenset(Mode), "what stops a restart"


def test_no_two_reasons_are_one():
    assert len({reason.value for reason in Reason}) == len(Reason.__members__)
