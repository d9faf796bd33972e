"""Image ids as arrays, against sets and sorting of objects."""

from uuid import UUID

import numpy as np
import pytest

from analytics.identity import halves, located, packed, parsed, places, unpacked


@pytest.mark.parametrize(("held", "asked"), [(0, 0), (0, 3), (3, 0), (1, 1), (200, 300)])
def test_places_equal_a_dictionary(held: int, asked: int) -> None:
    rng = np.random.default_rng(1)
    # Few distinct bytes, so that halves repeat while ids do not.
    every = np.unique(rng.integers(0, 2, (2000, 16), np.uint8), axis=0)
    one, two = (every[rng.permutation(len(every))[:count]] for count in (held, asked))
    at = {row.tobytes(): number for number, row in enumerate(one)}
    wanted = [at.get(row.tobytes(), -1) for row in two]
    assert places(one, two).tolist() == wanted
    order = np.lexsort(halves(one))
    assert located(one, order, halves(one)[1][order], two).tolist() == wanted


def test_halves_order_as_ids_do() -> None:
    ids = np.random.default_rng(2).integers(0, 256, (500, 16), np.uint8)
    wanted = sorted(range(500), key=lambda row: UUID(bytes=ids[row].tobytes()))
    assert np.lexsort(halves(ids)).tolist() == wanted
    assert [len(half) for half in halves(ids[:0])] == [0, 0]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_packed_ids_are_their_bytes(count: int) -> None:
    ids = [UUID(int=7 << 120 | number) for number in range(count)]
    found = packed(each for each in ids)
    assert found.shape == (count, 16)
    assert found.dtype == np.uint8
    assert [UUID(bytes=row.tobytes()) for row in found] == ids
    assert parsed(str(each) for each in ids).tolist() == found.tolist()
    assert unpacked(found) == ids


def test_unpacked_ids_are_those_of_any_layout() -> None:
    ids = np.random.default_rng(4).integers(0, 256, (50, 16), np.uint8)
    wanted = [UUID(bytes=row.tobytes()) for row in ids]
    assert unpacked(ids) == wanted
    assert unpacked(np.asfortranarray(ids)) == wanted
    assert unpacked(ids[::-3]) == wanted[::-3]
