"""How a team shares a chunk: every part belongs to exactly one thread."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastbp.compiler.jit import kernel
from fastbp.kernels.sharing import GAP, choose_shares, share_rows


@kernel
def rows_of(member, size, n_rows, grain):
    return share_rows(member, size, n_rows, grain)


@kernel
def shares_of(sharing, member, size):
    bounds, partials, parts, by_rows = sharing
    return choose_shares(bounds, partials, parts, by_rows, member, size)


def make_sharing(n_threads, parts, by_rows=0):
    """Return what `choose_shares` is told about a workspace."""
    bounds = np.linspace(0, 3 * n_threads, n_threads + 1).astype(np.int64)
    return bounds, np.zeros(parts * (parts > 1)), parts, by_rows


@given(st.integers(1, 9), st.integers(1, 600), st.sampled_from([1, 4, 8]))
def test_each_row_is_one_thread_s_and_shares_are_whole_grains(size, n_rows, grain):
    shares = [rows_of(member, size, n_rows, grain) for member in range(size)]
    assert [i for low, high in shares for i in range(low, high)] == list(range(n_rows))
    assert all(low % grain == 0 or low == n_rows for low, _ in shares)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_each_panel_and_each_part_of_one_is_one_thread_s(size, parts):
    sharing = make_sharing(4, parts)
    shares = [shares_of(sharing, member, size) for member in range(size)]
    n_panels = int(sharing[0][-1])
    assert [i for s in shares for i in range(*s.panels)] == list(range(n_panels))
    assert [i for s in shares for i in range(*s.tasks)] == list(range(parts * n_panels))


def test_rows_lie_apart_where_each_thread_has_those_of_a_part():
    """With more threads than parts, some threads share a part, whose rows must be contiguous."""
    gaps = {size: shares_of(make_sharing(4, 2), size - 1, size).gap for size in (1, 2, 4)}
    assert gaps == {1: 0, 2: GAP, 4: 0}
    assert shares_of(make_sharing(4, 1), 1, 2).gap == 0


def test_the_gradient_of_sparse_x_is_summed_by_rows_on_one_thread_only():
    sharing = make_sharing(2, 1, by_rows=1)
    assert [shares_of(sharing, 0, size).by_rows for size in (1, 2)] == [1, 0]
