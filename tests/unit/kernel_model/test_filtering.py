"""The filter rule against a slow statement of it, APQN by APQN (kernel-ap.md 3.5)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vfio_ap_sim.kernel.bitmap import ids_of, mask_of
from vfio_ap_sim.kernel.filtering import filter_control, filter_matrix
from vfio_ap_sim.kernel.hardware import Qci
from vfio_ap_sim.kernel.mdev import Matrix

small = st.sets(st.integers(0, 5)).map(mask_of)
matrices = st.builds(Matrix, small, small, small)
hosts = st.builds(Qci, small, small, small)
queues = st.sets(st.tuples(st.integers(0, 5), st.integers(0, 5)))


@given(matrices, matrices, hosts, queues)
def test_filter_matrix(assigned: Matrix, before: Matrix, host: Qci, bound: set[tuple[int, int]]) -> None:
    shadow, lost = filter_matrix(
        assigned, before, host, lambda adapter: mask_of(domain for a, domain in bound if a == adapter)
    )
    domains = set(ids_of(assigned.domains)) & set(ids_of(host.usage))
    candidates = set(ids_of(assigned.adapters)) & set(ids_of(host.adapters))
    whole = {adapter for adapter in candidates if all((adapter, domain) in bound for domain in domains)}
    assert set(ids_of(shadow.adapters)) == whole
    assert set(ids_of(shadow.domains)) == domains
    assert shadow.control == before.control
    assert set(ids_of(lost)) == (candidates - whole) & set(ids_of(before.adapters))


@given(matrices, matrices, hosts)
def test_filter_control(assigned: Matrix, before: Matrix, host: Qci) -> None:
    shadow = filter_control(assigned, before, host)
    assert shadow.control == assigned.control & host.control
    assert (shadow.adapters, shadow.domains) == (before.adapters, before.domains)
