"""Which photos training may read: a committed list of classes, and those that it holds out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cql.errors import InputError

GROCERY = Path(__file__).parent / "splits" / "grocery.json"
"""The split of the shared grocery photos."""

_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})


@dataclass(frozen=True, slots=True)
class Photo:
    """A labelled photo. The label says which part of the split it is in; training never uses it."""

    path: Path
    label: int


@dataclass(frozen=True, slots=True)
class Split:
    """Class ids in two disjoint parts: `train` and `held_out`."""

    train: frozenset[int]
    held_out: frozenset[int]

    @classmethod
    def load(cls, path: Path = GROCERY) -> Split:
        """Read a split; `InputError` unless its parts are disjoint and not empty."""
        content = json.loads(path.read_text(encoding="utf-8"))
        train, held_out = (
            frozenset(int(item["id"]) for item in content[part]) for part in ("train", "held_out")
        )
        both = train & held_out
        if both or not train or not held_out:
            raise InputError(
                f"{path.name} must name disjoint, non-empty train and held_out classes, "
                f"got {len(train)} and {len(held_out)} with {sorted(both)} in both"
            )
        return cls(train, held_out)

    def photos(self, folder: Path, part: str) -> list[Photo]:
        """Photos of `train` or `held_out`, in the order of `train.txt` (path, fine, coarse).

        `InputError` for a class that the split does not name: it could be either.
        """
        index = folder / "train.txt"
        if not index.is_file():
            raise InputError(f"{folder} must hold train.txt (path, fine class, coarse class)")
        wanted = {"train": self.train, "held_out": self.held_out}[part]
        found = []
        for line in index.read_text(encoding="utf-8").splitlines():
            if not line.strip():
                continue
            path, fine, _ = (item.strip() for item in line.rsplit(",", 2))
            label = int(fine)
            if label not in self.train | self.held_out:
                raise InputError(f"{path} has class {label}, which the split does not name: add it")
            if label in wanted:
                found.append(Photo(folder / path, label))
        return found

    def refuse(self, photos: Iterable[Photo]) -> None:
        """`InputError` if a photo is of a class that training may not see."""
        for photo in photos:
            if photo.label not in self.train:
                raise InputError(
                    f"training must not see held-out classes, {photo.path.name} is of class "
                    f"{photo.label}: take it off the training list"
                )


def rendered(folder: Path) -> list[Path]:
    """Pictures of a rendered sample (`photos/<listing>/<nn>.jpg`), sorted; never its truth."""
    photos = folder / "photos"
    if not photos.is_dir():
        raise InputError(f"{folder} must be a rendered sample with a folder `photos`: render it")
    return sorted(path for path in photos.rglob("*") if path.suffix.lower() in _SUFFIXES)


def refuse_copies(paths: Iterable[Path], held_out: Iterable[Photo]) -> None:
    """`InputError` if any of `paths` has the very bytes of a held-out photo."""
    forbidden = {_digest(photo.path): photo.path for photo in held_out}
    for path in paths:
        same = forbidden.get(_digest(path))
        if same is not None:
            raise InputError(
                f"training must not see held-out photos, {path.name} is a copy of {same.name}: "
                "remove it"
            )


def _digest(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()
