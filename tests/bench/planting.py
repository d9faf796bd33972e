"""Planted truth for the benchmarks of outliers and near-duplicates: grocery photos and a sample."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

from analytics.evidence.appearance import Appearance
from analytics.evidence.copies import Pictures
from analytics.evidence.patches import Patches
from analytics.evidence.tails import Looks
from analytics.neighbours import Graph
from cql.settings import Settings
from extraction.decode import DecodeError, inspect
from extraction.measures import Figures
from extraction.models import Embedder
from extraction.patches import SIDE, encode, regions

BAD = ("blurred", "dark", "overexposed", "blank")
_BLOCK = 2_000


@dataclass(frozen=True, slots=True, eq=False)
class Planted:
    """N photos: vectors, what was measured, listings by number, and what was planted ("": not).

    `patches` are coded as extraction codes them.
    """

    vectors: NDArray[np.float32]
    seen: Appearance
    owners: NDArray[np.int64]
    truth: NDArray[np.str_]
    patches: Patches


def grocery_with_foreign(
    shared: Path, embedder: Embedder, *, photos: int, foreign: int, seed: int = 3
) -> Planted:
    """Grocery photos with `foreign` pictures of pipes and `foreign` bad photos mixed in.

    A bad photo is another grocery photo, blurred, far too dark, far too bright, or a blank one.
    The listings are those of the manifest; every foreign picture is a listing of its own.
    """
    rng = np.random.default_rng(seed)
    text = (shared / "grocery" / "listings.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    order = rng.permutation(len(rows))
    chosen = np.sort(order[:photos])
    owners = {name: n for n, name in enumerate(sorted({row["listing_id"] for row in rows}))}
    data = [(shared / "grocery" / rows[n]["path"]).read_bytes() for n in chosen]
    own = [owners[rows[n]["listing_id"]] for n in chosen]
    truth = [""] * len(data)
    pipes = sorted((shared / "pipes_generated" / "train").rglob("*.*"))
    pipes = [path for path in pipes if path.suffix.lower() in {".jpg", ".jpeg", ".png"}]
    for number in rng.permutation(len(pipes))[:foreign]:
        data.append(pipes[number].read_bytes())
        truth.append("foreign")
    for number in range(foreign):
        source = (shared / "grocery" / rows[order[photos + number]]["path"]).read_bytes()
        data.append(spoilt(source, BAD[number % len(BAD)], rng))
        truth.append(BAD[number % len(BAD)])
    own += [len(owners) + number for number in range(2 * foreign)]
    return made(data, embedder, np.array(own), np.array(truth))


def sample(folder: Path, embedder: Embedder, *, listings: int | None = None) -> Planted:
    """A rendered sample with its truth; of the first `listings` listings with an outlier first."""
    with (folder / "truth" / "truth.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    odd = {row["listing_id"] for row in rows if row["outlier"]}
    names = sorted({row["listing_id"] for row in rows}, key=lambda name: (name not in odd, name))
    number = {name: n for n, name in enumerate(names[:listings])}
    rows = [row for row in rows if row["listing_id"] in number]
    data = [(folder / row["path"]).read_bytes() for row in rows]
    own = np.array([number[row["listing_id"]] for row in rows])
    return made(data, embedder, own, np.array([row["outlier"] for row in rows]))


def made(
    data: Sequence[bytes],
    embedder: Embedder,
    owners: NDArray[np.int64],
    truth: NDArray[np.str_],
) -> Planted:
    """Measure and embed photos as ingest and extraction do."""
    settings = Settings()
    figures = [inspect(each, settings).figures for each in data]
    vectors, codes, scales = [], [], []
    for start in range(0, len(data), 32):
        pictures = [embedder.read(each, settings) for each in data[start : start + 32]]
        vectors.append(embedder.embed(pictures))
        for each in pictures:
            coded, scale = encode(regions(each))
            codes.append(coded)
            scales.append(scale)
    patches = Patches(np.stack(codes), np.array(scales, np.float32), np.ones(len(data), bool), SIDE)
    return Planted(np.concatenate(vectors), appearance(figures), owners, truth, patches)


def appearance(figures: Sequence[Figures]) -> Appearance:
    """What was measured, in the form that analysis reads from the store."""
    columns = np.array(
        [[f.sharpness, f.brightness, f.contrast, f.blank, f.colour] for f in figures], np.float32
    )
    signatures = np.frombuffer(b"".join(f.signature for f in figures), np.uint8)
    pictures = Pictures(
        np.array([f.phash for f in figures], np.int64),
        signatures.reshape(len(figures), 2304),
        np.ones(len(figures), bool),
    )
    return Appearance(Looks(*columns.T), pictures, np.ones(len(figures), np.int64))


def spoilt(data: bytes, how: str, rng: np.random.Generator) -> bytes:
    """A bad photo, made of a good one."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    if how == "blurred":
        image = image.filter(ImageFilter.GaussianBlur(image.width / 40))
    elif how == "dark":
        image = ImageEnhance.Brightness(image).enhance(0.06)
    elif how == "overexposed":
        bright = np.asarray(image).astype(np.float32) * 5.0 + 60.0
        image = Image.fromarray(np.clip(bright, 0, 255).astype(np.uint8))
    elif how == "blank":
        tone = rng.normal(rng.uniform(60, 200), 3, np.asarray(image).shape)
        image = Image.fromarray(np.clip(tone, 0, 255).astype(np.uint8))
    else:
        raise DecodeError(f"a photo is spoilt in one of {BAD}, got {how!r}")
    target = io.BytesIO()
    image.save(target, "JPEG", quality=88)
    return target.getvalue()


def graph(vectors: NDArray[np.float32], k: int) -> Graph:
    """The exact neighbour graph of some thousand vectors, by plain products."""
    count = len(vectors)
    k = min(k, count - 1)
    rows, scores = np.empty((count, k), np.int64), np.empty((count, k), np.float32)
    for start in range(0, count, _BLOCK):
        part = slice(start, min(start + _BLOCK, count))
        found = vectors[part] @ vectors.T
        found[np.arange(part.stop - start), np.arange(start, part.stop)] = -9.0
        near = np.argsort(-found, axis=1, kind="stable")[:, :k]
        rows[part], scores[part] = near, np.take_along_axis(found, near, 1)
    return Graph(rows, scores)
