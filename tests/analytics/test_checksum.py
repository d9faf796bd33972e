"""Sums of files."""

from pathlib import Path

import pytest
import xxhash

from analytics import checksum as sums
from analytics.checksum import DIGITS, Checksum, checksum


@pytest.mark.parametrize("size", [0, 1, 999, 1000, 1001, 5000])
def test_a_file_has_the_sum_of_its_bytes_however_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(sums, "_PIECE", 1000)
    data = bytes(n * n % 251 for n in range(size))
    (tmp_path / "a").write_bytes(data)
    found = checksum(tmp_path / "a")
    assert found == xxhash.xxh3_128_hexdigest(data)
    assert len(found) == DIGITS
    pieces = Checksum()
    for at in range(0, size, 7):
        pieces.update(data[at : at + 7])
    assert pieces.hexdigest() == found


def test_the_sum_is_the_published_one() -> None:
    """XXH3 of 128 bits, seed 0, of nothing: what xxHash says for it."""
    assert Checksum().hexdigest() == "99aa06d3014798d86001c324468d497f"


def test_every_bit_and_every_byte_counts(tmp_path: Path) -> None:
    whole = bytes(range(256)) * 2
    seen = set()
    for place in range(0, 8 * len(whole), 37):
        data = bytearray(whole)
        data[place // 8] ^= 1 << place % 8
        (tmp_path / "a").write_bytes(data)
        seen.add(checksum(tmp_path / "a"))
    for size in range(len(whole) - 20, len(whole) + 1):
        (tmp_path / "a").write_bytes(whole[:size])
        seen.add(checksum(tmp_path / "a"))
    assert len(seen) == len(range(0, 8 * len(whole), 37)) + 21


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        checksum(tmp_path / "a")
