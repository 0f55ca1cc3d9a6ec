"""Mask planning: every wanted queue leaves, no reserved one does, as few others as possible."""

import itertools
import random
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from vfio_ap.errors import Refusal
from vfio_ap.host.masks import HostMasks, edits
from vfio_ap.host.release import Release, ReleaseProblem, plan_release
from vfio_ap.idset import IdSet
from vfio_ap.matrix import Apqn, Matrix

small = st.frozensets(st.integers(0, 3), max_size=3).map(IdSet.from_ids)
small_matrices = st.builds(Matrix, small, small)
problems = st.builds(
    ReleaseProblem,
    present=small_matrices,
    wanted=st.lists(small_matrices, max_size=4),
    reserved=st.lists(st.builds(Matrix, small, small), max_size=2),
    masks=st.builds(lambda a, d: HostMasks(IdSet.every() - a, IdSet.every() - d), small, small),
    ours=small_matrices,
    held=small_matrices,
)


def brute_force(problem):
    """Return the fewest present queues that any legal pair of masks releases, None when there is none."""
    every = IdSet.every()
    stay_out_a = every - problem.masks.adapters - (problem.ours.adapters - problem.held.adapters)
    stay_out_d = every - problem.masks.domains - (problem.ours.domains - problem.held.domains)
    wanted = {q for m in problem.wanted for q in m}
    before = HostMasks(every - stay_out_a, every - stay_out_d)
    reserved = {q for m in problem.reserved for q in m if before.reserves(q)}
    best = None
    subsets = [IdSet(bits) for bits in range(16)]
    for a, d in itertools.product(subsets, subsets):
        if not (stay_out_a <= a and stay_out_d <= d):
            continue
        masks = HostMasks(every - a, every - d)
        if any(masks.reserves(q) for q in wanted) or not all(masks.reserves(q) for q in reserved):
            continue
        released = sum(not masks.reserves(q) for q in problem.present)
        best = released if best is None else min(best, released)
    return best


@settings(max_examples=150, deadline=None)
@given(problems)
def test_no_masks_release_fewer_queues(problem):
    plan = plan_release(problem)
    best = brute_force(problem)
    if isinstance(plan, Refusal):
        assert best is None, plan
        return
    assert plan.released == best
    assert plan.exact
    wanted = {q for m in problem.wanted for q in m}
    assert not any(plan.masks.reserves(q) for q in wanted)
    along = {Apqn(a, d) for a, domains in plan.along for d in domains}
    assert along == {q for q in problem.present if not plan.masks.reserves(q)} - wanted
    assert plan.along_count == len(along)


@settings(max_examples=150, deadline=None)
@given(problems)
def test_no_write_on_the_way_moves_a_queue_that_need_not_move(problem):
    plan = plan_release(problem)
    if isinstance(plan, Refusal):
        return
    masks = problem.masks
    stays = [
        q
        for q in Matrix(IdSet.every(), IdSet.of(0, 1, 2, 3, 4, 5, 6))
        if masks.reserves(q) and plan.masks.reserves(q)
    ]
    gone = [q for m in problem.wanted for q in m if not masks.reserves(q)]
    for edit in edits(problem.masks, plan.masks):
        change = masks.adapters if edit.file == "apmask" else masks.domains
        for term in edit.text.split(","):
            one = IdSet.parse(term[1:])
            change = change - one if term[0] == "-" else change | one
        masks = HostMasks(change, masks.domains) if edit.file == "apmask" else HostMasks(masks.adapters, change)
        assert all(masks.reserves(q) for q in stays)
        assert not any(masks.reserves(q) for q in gone)
    assert masks == plan.masks


def test_the_worked_example_releases_six_queues_of_the_machine():
    """Seed 003: Guest1 has 5,6 x 4,0xab and Guest2 5 x 0x47,0xff; the LPAR has more of both."""
    problem = ReleaseProblem(
        Matrix(IdSet.parse("5-8"), IdSet.parse("0-15,0x47,0xab,0xff")),
        [Matrix(IdSet.of(5, 6), IdSet.of(4, 0xAB)), Matrix(IdSet.of(5), IdSet.of(0x47, 0xFF))],
    )
    plan = plan_release(problem)
    assert isinstance(plan, Release)
    assert (plan.masks.adapters, plan.masks.domains) == (
        IdSet.every(),
        IdSet.every() - IdSet.of(4, 0x47, 0xAB, 0xFF),
    )
    assert (plan.released, plan.along_count) == (16, 10)


def test_a_reserved_queue_turns_the_plan_the_other_way():
    wanted = [Matrix(IdSet.of(5), IdSet.of(6))]
    present = Matrix(IdSet.of(4, 5), IdSet.of(4, 5, 6))
    free = plan_release(ReleaseProblem(present, wanted))
    turned = plan_release(ReleaseProblem(present, wanted, [Matrix(IdSet.of(4), IdSet.of(6))]))
    assert isinstance(free, Release)
    assert isinstance(turned, Release)
    assert (free.masks.domains, turned.masks.adapters) == (
        IdSet.every() - IdSet.of(6),
        IdSet.every() - IdSet.of(5),
    )


def test_an_impossible_plan_names_the_queue_and_what_stands_in_its_way():
    wanted = [Matrix(IdSet.of(5), IdSet.of(6))]
    present = Matrix(IdSet.of(4, 5), IdSet.of(4, 6))
    same = plan_release(ReleaseProblem(present, wanted, [Matrix(IdSet.of(5), IdSet.of(6))]))
    cross = plan_release(
        ReleaseProblem(present, wanted, [Matrix(IdSet.of(4), IdSet.of(6)), Matrix(IdSet.of(5), IdSet.of(4))])
    )
    assert isinstance(same, Refusal)
    assert isinstance(cross, Refusal)
    assert (same.subject, cross.subject) == ("05.0006", "05.0006")
    assert "04.0006" in cross.message
    assert "05.0004" in cross.message


def test_a_large_problem_gets_a_bounded_answer():
    dice = random.Random(1)
    wanted = [
        Matrix(IdSet.from_ids(dice.sample(range(256), 12)), IdSet.from_ids(dice.sample(range(256), 12)))
        for _ in range(60)
    ]
    took = []
    for _ in range(3):
        began = time.process_time()
        plan = plan_release(ReleaseProblem(Matrix(IdSet.every(), IdSet.every()), wanted))
        took.append(time.process_time() - began)
    assert isinstance(plan, Release)
    assert not any(plan.masks.reserves(q) for m in wanted for q in m)
    assert 0 < plan.at_least <= plan.released
    assert min(took) < 0.1, "seconds of work at 256 x 256"
