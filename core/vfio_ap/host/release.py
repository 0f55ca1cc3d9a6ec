"""Which adapters and domains leave the host so that the wanted queues do, and as few others as possible.

The kernel knows no mask of queues, only one of adapters and one of domains, and a queue leaves the host when
either of its bits is cleared (kernel-ap.md K-1). So the bits to clear are a vertex cover of the wanted queues,
seen as edges between adapters and domains. What is to be small is not the number of bits but of queues that
leave: with ``a`` adapters and ``d`` domains staying, the host keeps ``a * d`` queues. To make that product as
large as possible is the maximum edge biclique problem, hard in general.

Two things make it tractable. Adapters that are wanted with the same domains go together (if one of them stays,
its domains leave, and clearing the other's bit gains nothing), so the problem has as many choices as there are
*kinds* of adapters, or of domains, whichever are fewer. And a depth-first search over the kinds is cut wherever
even keeping all the rest could not beat the best plan found. When the search ends within its budget the plan is
exact; otherwise the plan comes with a bound that no plan can beat, from a maximum matching (König).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from vfio_ap.errors import Refusal
from vfio_ap.host.masks import HostMasks
from vfio_ap.idset import IdSet
from vfio_ap.matrix import Apqn, Matrix

HOST_RESERVED = "HostReserved"
"""Reason of a refusal: what is wanted cannot leave the host without what is to stay there."""
EXACT_KINDS = 16
"""Up to this many kinds on the smaller side the plan is exact, whatever it costs."""
SEARCH_BUDGET = 12_000
"""Steps the search may take beyond that; some tens of milliseconds."""


@dataclass(frozen=True, slots=True)
class ReleaseProblem:
    """What the masks of one host must achieve."""

    present: Matrix
    """Adapters and usage domains that the machine gives this host."""
    wanted: Sequence[Matrix]
    """Matrices whose queues must leave the host; ids that are not present are allowed (K-2)."""
    reserved: Sequence[Matrix] = ()
    """Queues that must stay with the host."""
    masks: HostMasks = field(default_factory=HostMasks)
    """The masks as they are."""
    ours: Matrix = Matrix()
    """Bits that were cleared by us and may be given back; every other cleared bit stays cleared."""
    held: Matrix = Matrix()
    """Bits that the kernel would not take back now, because an mdev has the adapter or domain (K-9)."""


@dataclass(frozen=True, slots=True)
class Release:
    """The masks to have, and what they cost."""

    masks: HostMasks
    released: int
    """Present queues that are not the host's under these masks."""
    along: tuple[tuple[int, IdSet], ...]
    """Present queues that leave although no matrix wants them: adapter and domains, ascending."""
    at_least: int
    """No masks that serve every wanted queue release fewer present queues."""

    @property
    def exact(self) -> bool:
        """Tell whether no better masks exist."""
        return self.released == self.at_least

    @property
    def along_count(self) -> int:
        """Return the number of queues that leave although no matrix wants them."""
        return sum(len(domains) for _, domains in self.along)


@dataclass(slots=True)
class _Search:
    """State of the depth-first search over the kinds of one side, in bit masks of ids."""

    kinds: list[tuple[int, int]]
    rows: int
    """Present rows that still could stay."""
    columns: int
    budget: int
    best: int = -1
    choice: tuple[int, int] = (0, 0)

    def run(self, index: int, rows_out: int, columns_out: int) -> None:
        """Try both fates of the kind at ``index``; keep the choice that leaves the host most queues."""
        kept = (self.rows & ~rows_out).bit_count() * (self.columns & ~columns_out).bit_count()
        if kept <= self.best or self.budget <= 0:
            return
        if index == len(self.kinds):
            self.best, self.choice = kept, (rows_out, columns_out)
            return
        self.budget -= 1
        rows, columns = self.kinds[index]
        if not columns & ~columns_out:
            self.run(index + 1, rows_out, columns_out)
            return
        with_rows = (self.rows & rows).bit_count()
        with_columns = (self.columns & columns & ~columns_out).bit_count()
        branches = [(rows_out | rows, columns_out), (rows_out, columns_out | columns)]
        for out in branches if with_rows <= with_columns else reversed(branches):
            self.run(index + 1, *out)


def plan_release(problem: ReleaseProblem) -> Release | Refusal:
    """Return the masks that release every wanted queue, no reserved one, and the fewest others.

    A refusal names the first queue that makes it impossible. Bits that somebody else cleared stay cleared, and
    so do bits that are ``held``.
    """
    everything = IdSet.every()
    rows_out = ((everything - problem.masks.adapters) - (problem.ours.adapters - problem.held.adapters)).bits
    columns_out = ((everything - problem.masks.domains) - (problem.ours.domains - problem.held.domains)).bits
    edges = _edges(problem.wanted)
    fixed = _fix_reserved(problem, edges, rows_out, columns_out)
    if isinstance(fixed, Refusal):
        return fixed
    rows_out, columns_out = fixed

    present_rows, present_columns = problem.present.adapters.bits, problem.present.domains.bits
    by_row = _kinds(edges, rows_out, columns_out)
    by_column = _kinds(_transposed(edges), columns_out, rows_out)
    if len(by_row) <= len(by_column):
        (rows, columns), search = _search(by_row, present_rows, present_columns, rows_out, columns_out)
    else:
        (columns, rows), search = _search(by_column, present_columns, present_rows, columns_out, rows_out)
    masks = HostMasks(IdSet(everything.bits & ~rows), IdSet(everything.bits & ~columns))
    total = present_rows.bit_count() * present_columns.bit_count()
    released = total - (present_rows & ~rows).bit_count() * (present_columns & ~columns).bit_count()
    at_least = released
    if search.budget <= 0:
        at_least = total - _most_kept(by_row, present_rows & ~rows_out, present_columns & ~columns_out)
    return Release(masks, released, _along(problem, masks, edges), at_least)


def _edges(wanted: Sequence[Matrix]) -> dict[int, int]:
    """Return, by adapter, the domains it is wanted with, as bits."""
    edges: dict[int, int] = {}
    for matrix in wanted:
        for adapter in matrix.adapters:
            edges[adapter] = edges.get(adapter, 0) | matrix.domains.bits
    return {adapter: domains for adapter, domains in edges.items() if domains}


def _transposed(edges: dict[int, int]) -> dict[int, int]:
    turned: dict[int, int] = {}
    for adapter, domains in edges.items():
        for domain in IdSet(domains):
            turned[domain] = turned.get(domain, 0) | 1 << adapter
    return turned


def _fix_reserved(
    problem: ReleaseProblem, edges: dict[int, int], rows_out: int, columns_out: int
) -> tuple[int, int] | Refusal:
    """Clear the bits that reserved queues leave no choice about; refuse when they contradict.

    An adapter with a reserved queue cannot leave as a whole, so every domain it is wanted with must, and the
    other way round.
    """
    rows_stay = columns_stay = 0
    for matrix in problem.reserved:
        rows, columns = matrix.adapters.bits & ~rows_out, matrix.domains.bits & ~columns_out
        if rows and columns:
            rows_stay |= rows
            columns_stay |= columns
    for adapter, domains in edges.items():
        if not rows_stay >> adapter & 1:
            continue
        if stuck := domains & columns_stay & ~columns_out:
            return _impossible(problem, Apqn(adapter, next(iter(IdSet(stuck)))))
        columns_out |= domains
    for adapter, domains in edges.items():
        if domains & columns_stay:
            rows_out |= 1 << adapter
    return rows_out, columns_out


def _impossible(problem: ReleaseProblem, apqn: Apqn) -> Refusal:
    if any(matrix.contains(apqn) for matrix in problem.reserved):
        return Refusal(
            HOST_RESERVED, str(apqn), "is wanted and reserved for the host", "take it out of one of the two"
        )
    others = [str(q) for matrix in problem.reserved for q in _near(matrix, apqn)]
    return Refusal(
        HOST_RESERVED,
        str(apqn),
        "cannot leave the host: the kernel releases whole adapters or whole domains, and "
        f"{' and '.join(others[:2])} of its adapter and its domain are reserved",
        "reserve fewer queues, or want queues of other adapters or domains",
    )


def _near(matrix: Matrix, apqn: Apqn) -> list[Apqn]:
    found = []
    if apqn.adapter in matrix.adapters and matrix.domains:
        found.append(Apqn(apqn.adapter, next(iter(matrix.domains))))
    if apqn.domain in matrix.domains and matrix.adapters:
        found.append(Apqn(next(iter(matrix.adapters)), apqn.domain))
    return found


def _kinds(edges: dict[int, int], rows_out: int, columns_out: int) -> list[tuple[int, int]]:
    """Group the rows that still have columns to serve by those columns; widest first."""
    groups: dict[int, int] = {}
    for row, columns in edges.items():
        left = columns & ~columns_out
        if left and not rows_out >> row & 1:
            groups[left] = groups.get(left, 0) | 1 << row
    return sorted(((rows, columns) for columns, rows in groups.items()), key=lambda k: (-k[1].bit_count(), k))


def _search(
    kinds: list[tuple[int, int]], rows: int, columns: int, rows_out: int, columns_out: int
) -> tuple[tuple[int, int], _Search]:
    budget = 1 << EXACT_KINDS + 1 if len(kinds) <= EXACT_KINDS else SEARCH_BUDGET
    search = _Search(kinds, rows, columns, budget)
    for chosen in _starts(kinds, rows, columns, rows_out, columns_out):
        kept = (rows & ~chosen[0]).bit_count() * (columns & ~chosen[1]).bit_count()
        if kept > search.best:
            search.best, search.choice = kept, chosen
    search.run(0, rows_out, columns_out)
    return search.choice, search


def _starts(
    kinds: list[tuple[int, int]], rows: int, columns: int, rows_out: int, columns_out: int
) -> list[tuple[int, int]]:
    """Return plans that need no search: all by rows, all by columns, and what local moves make of both."""
    plans = []
    for first in (True, False):
        flags = [first] * len(kinds)
        best = -1
        improved = True
        while improved:
            improved = False
            for index in range(-1, len(kinds)):
                trial = [flag ^ (i == index) for i, flag in enumerate(flags)]
                out = _out(kinds, trial, rows_out, columns_out)
                kept = (rows & ~out[0]).bit_count() * (columns & ~out[1]).bit_count()
                if kept > best:
                    best, flags, improved = kept, trial, True
                    chosen = out
            if len(kinds) > 64:
                break
        plans.append(chosen)
    return plans


def _out(kinds: list[tuple[int, int]], by_row: list[bool], rows_out: int, columns_out: int) -> tuple[int, int]:
    for (_, columns), row_leaves in zip(kinds, by_row, strict=True):
        columns_out |= 0 if row_leaves else columns
    for rows, columns in kinds:
        rows_out |= rows if columns & ~columns_out else 0
    return rows_out, columns_out


def _most_kept(kinds: list[tuple[int, int]], rows: int, columns: int) -> int:
    """Return an upper bound of the queues that the host can keep.

    Of the two ends of each pair in a matching at least one leaves, so the numbers of adapters and domains that
    stay add up to at most all less the size of a maximum matching.
    """
    neighbours = {row: wanted & columns for ids, wanted in kinds for row in IdSet(ids & rows)}
    matched: dict[int, int] = {}

    def augment(row: int, tried: list[int]) -> bool:
        free = neighbours[row] & ~tried[0]
        while free:
            column = (free & -free).bit_length() - 1
            tried[0] |= 1 << column
            if column not in matched or augment(matched[column], tried):
                matched[column] = row
                return True
            free = neighbours[row] & ~tried[0]
        return False

    pairs = sum(augment(row, [0]) for row in neighbours)
    most_rows, most_columns = rows.bit_count(), columns.bit_count()
    stay = most_rows + most_columns - pairs
    return max(
        (a * min(most_columns, stay - a) for a in range(min(most_rows, stay) + 1)),
        default=0,
    )


def _along(problem: ReleaseProblem, masks: HostMasks, edges: dict[int, int]) -> tuple[tuple[int, IdSet], ...]:
    along = []
    for adapter in problem.present.adapters:
        released = problem.present.domains
        if adapter in masks.adapters:
            released = released - masks.domains
        extra = released - IdSet(edges.get(adapter, 0))
        if extra:
            along.append((adapter, extra))
    return tuple(along)
