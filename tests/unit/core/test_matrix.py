"""Queues, matrices and the texts that the kernel prints of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfio_ap.errors import RefusedError
from vfio_ap.idset import IdSet
from vfio_ap.matrix import Apqn, Matrix, parse_matrix_file

idsets = st.frozensets(st.integers(0, 255), max_size=6).map(IdSet.from_ids)
matrices = st.builds(Matrix, idsets, idsets, idsets)


def test_a_queue_prints_as_the_kernel_names_it():
    assert str(Apqn(5, 0xAB)) == "05.00ab"
    assert Apqn.parse("05.00ab") == Apqn(5, 0xAB)
    with pytest.raises(RefusedError):
        Apqn.parse("5.ab")
    with pytest.raises(RefusedError):
        Apqn.parse("05.0100")


@given(matrices, matrices)
def test_overlap_is_the_set_of_common_queues(a, b):
    assert set(a.overlap(b)) == set(a) & set(b)


@given(matrices)
def test_ap_config_is_read_back(matrix):
    text = matrix.ap_config()
    assert len(text) == 200
    assert Matrix.from_ap_config(text + "\n") == matrix


@given(matrices)
def test_the_matrix_file_is_read_back(matrix):
    lines = [f"{apqn}\n" for apqn in matrix]
    if not matrix.domains:
        lines = [f"{a:02x}.\n" for a in matrix.adapters]
    elif not matrix.adapters:
        lines = [f".{d:04x}\n" for d in matrix.domains]
    assert parse_matrix_file("".join(lines)) == (matrix.adapters, matrix.domains)


@pytest.mark.parametrize(
    "text",
    ["05.0004\n06.0005\n", "05.0004\n05.00", "nonsense\n", "05.0004\n05.0004\n", ".\n05.0004\n", "05.0104\n"],
)
def test_a_matrix_file_that_makes_no_sense_is_refused(text):
    with pytest.raises(RefusedError):
        parse_matrix_file(text)


def test_a_truncated_matrix_file_is_recognised():
    whole = "".join(f"{a:02x}.{d:04x}\n" for a in range(2) for d in range(256))
    with pytest.raises(RefusedError) as caught:
        parse_matrix_file(whole[:4095])
    assert caught.value.refusal.reason == "TruncatedMatrix"
