"""Names of clusters from the text of their listings, by class-based tf-idf."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TypeVar

from cql.progress import Progress, silent
from cql.records import Listing

Item = TypeVar("Item")

_WORD = re.compile(r"[^\W\d_][\w'-]*", re.UNICODE)
_MARK = re.compile(r"[,;:|/()\[\]]+")
_QUANTITY = re.compile(
    r"\d[\d.,]*\s*(?:[cdkmµn]?m[²³23]?|in|ft|m?[gl]|kg|k?[vw]|a)?\b", re.IGNORECASE
)
_JOIN = " · "
_LONGEST = 44
_TERMS_MAX = 3
_LEAST_SHARE = 0.25
"""A term names a cluster only when this share of its images and listings has it, ..."""

_MOST_SHARE = 0.5
"""... and a phrase goes beside it only from this share on, unless names would be the same, ..."""

_LIFT = 1.5
"""... and only when it is distinctive: its share is this many times that over all clusters."""

_FRAGMENT = 0.3
"""Weight of a word or pair of words that is only a part of a phrase; whole ones weigh 1."""

_VALUE_LENGTH = 40
_STOP_WORDS = (
    "a an and are as at by de der die das du el en et for from in is it la le les los of on or "
    "the to und von with"
)
_STOP = frozenset(_STOP_WORDS.split())


def names(
    members: Sequence[Mapping[str, int]],
    listings: Mapping[str, Listing],
    *,
    taken: Sequence[str] = (),
    progress: Progress = silent,
) -> list[str]:
    """Name each cluster, given the images that each of its listings has in it.

    A term is an attribute's value, a part of a title between marks without its quantities, or
    (at less weight) a word or pair of words of such a part. Its weight in a cluster is the square
    of its share of the cluster's images times log(1 + A / f) with A the mean number of terms a
    cluster and f the term's count over all clusters (class-based tf-idf, Grootendorst, 2022; the
    square keeps a rare term of few images, such as a street, behind what most of them show). A
    distinctive phrase from the source of fewest values, the kind as a rule, goes first. The
    name has up to three terms that share no word, the broadest first, as the texts write them. Two
    clusters that come out the same get a further term, then a number; one that comes out as a name
    that is `taken` gets a further term where it has one. Without any text a cluster is called by
    its largest listing. `progress` is called often, so that it can stop this.
    """
    kept = _useful(listings)
    terms = {
        key: _terms(listings[key], kept) for key in _told(list(listings), progress, "reading texts")
    }
    counts = [_count(cluster, terms) for cluster in _told(members, progress, "naming", every=1)]
    everywhere: Counter[str] = Counter()
    for count in counts:
        everywhere.update(count)
    whole = {term for own in terms.values() for term, entire in own.items() if entire}
    forms = _forms(_told(list(listings.values()), progress, "reading texts"), kept)
    broad = _broad(_told(list(listings.values()), progress, "reading texts"), kept)
    mean = sum(everywhere.values()) / max(1, len(counts))
    images = max(1, sum(sum(cluster.values()) for cluster in members))
    usual = {term: own / images for term, own in everywhere.items()}
    found: list[str] = list(taken)
    for cluster, count in zip(_told(members, progress, "naming", every=1), counts, strict=True):
        shares = _shares(cluster, count, terms)
        weights = {
            term: share**2
            * math.log1p(mean / everywhere[term])
            * (1.0 if term in whole else _FRAGMENT)
            for term, share in shares.items()
        }
        ranked = sorted(weights, key=lambda term: (-weights[term], -len(term), term))
        common = [
            term
            for term in ranked
            if term in whole and shares[term] >= max(_MOST_SHARE, _LIFT * usual[term])
        ]
        # The kind of what a cluster shows, where most of it is of one, comes before details.
        first = min(common, key=broad.__getitem__, default="")
        ranked.sort(key=lambda term: term != first)
        name = _compose(ranked, common, broad, forms, found)
        found.append(name or _plain(cluster, listings))
    return _distinct(found[len(taken) :])


def _told(
    items: Sequence[Item], progress: Progress, message: str, *, every: int = 2_000
) -> Iterator[Item]:
    """The items, with progress now and then."""
    for number, item in enumerate(items):
        if number % every == 0:
            progress("names", number, len(items), message)
        yield item


def _useful(listings: Mapping[str, Listing]) -> frozenset[str]:
    """Attributes whose values are words that several listings share; dates and numbers are not."""
    values: dict[str, Counter[str]] = {}
    for listing in listings.values():
        for name, value in listing.attributes.items():
            if value:
                values.setdefault(name, Counter())[value] += 1
    return frozenset(
        name
        for name, seen in values.items()
        if all(_WORD.search(value) and len(value) <= _VALUE_LENGTH for value in seen)
        and len(seen) <= max(2, sum(seen.values()) // 2)
    )


def _count(cluster: Mapping[str, int], terms: Mapping[str, Mapping[str, bool]]) -> Counter[str]:
    count: Counter[str] = Counter()
    for listing_id, images in cluster.items():
        for term in terms.get(listing_id, {}):
            count[term] += images
    return count


def _shares(
    cluster: Mapping[str, int], count: Mapping[str, int], terms: Mapping[str, Mapping[str, bool]]
) -> dict[str, float]:
    """Share of the images with each term that enough listings have: a big one is no majority."""
    images = max(1, sum(cluster.values()))
    having = Counter(term for listing_id in cluster for term in terms.get(listing_id, {}))
    return {
        term: own / images
        for term, own in count.items()
        if having[term] >= _LEAST_SHARE * len(cluster) and own >= _LEAST_SHARE * images
    }


def _terms(listing: Listing, kept: frozenset[str]) -> dict[str, bool]:
    """Terms of a listing in lower case, and whether each is a whole phrase of its text."""
    found: dict[str, bool] = {}
    for phrase in (*_values(listing, kept), *_parts(listing.title)):
        found[phrase.casefold()] = True
    for part in _parts(listing.title):
        for fragment in _fragments(part):
            found.setdefault(fragment.casefold(), False)
    return found


def _broad(listings: Iterable[Listing], kept: frozenset[str]) -> dict[str, tuple[int, int]]:
    """Distinct values of each term's source (few for a kind, many for a street), and its place.

    A source is a place in the title or an attribute; a term of several counts by the smallest.
    """
    held: dict[int, set[str]] = {}
    attributes = {name: 1_000 + n for n, name in enumerate(sorted(kept))}
    for listing in listings:
        for place, part in enumerate(_parts(listing.title)):
            held.setdefault(place, set()).add(part.casefold())
        for name, place in attributes.items():
            if value := " ".join(listing.attributes.get(name, "").split()):
                held.setdefault(place, set()).add(value.casefold())
    found: dict[str, tuple[int, int]] = {}
    for place, values in held.items():
        rank = (len(values), place)
        for phrase in values:
            for term in (phrase, *_fragments(phrase)):
                found[term] = min(found.get(term, rank), rank)
    return found


def _forms(listings: Iterable[Listing], kept: frozenset[str]) -> dict[str, str]:
    """How the texts write each term: the most frequent form, with the fewest capitals on a tie."""
    seen: dict[str, Counter[str]] = {}
    for listing in listings:
        parts = list(_parts(listing.title))
        written = {*_values(listing, kept), *parts}
        for part in parts:
            written.update(_fragments(part))
        for form in written:
            seen.setdefault(form.casefold(), Counter())[form] += 1
    return {
        term: min(forms, key=lambda form: (-forms[form], sum(map(str.isupper, form)), form))
        for term, forms in seen.items()
    }


def _values(listing: Listing, kept: frozenset[str]) -> Iterable[str]:
    return (
        " ".join(value.split())
        for name, value in listing.attributes.items()
        if name in kept and value.strip()
    )


def _parts(title: str) -> Iterable[str]:
    """Parts of a title between marks, without sizes and numbers."""
    for part in _MARK.split(title):
        words = " ".join(_QUANTITY.sub(" ", part).split()).strip(" -.")
        if len(words) > 1 and _WORD.search(words) and words.casefold() not in _STOP:
            if len(words) <= _VALUE_LENGTH:
                yield words
            else:
                yield from _fragments(words)


def _fragments(part: str) -> Iterable[str]:
    words = _WORD.findall(part)
    for word in words:
        if word.casefold() not in _STOP and len(word) > 1:
            yield word
    for left, right in pairwise(words):
        if left.casefold() not in _STOP and right.casefold() not in _STOP:
            yield f"{left} {right}"


def _compose(
    ranked: Sequence[str],
    common: Sequence[str],
    broad: Mapping[str, tuple[int, int]],
    forms: Mapping[str, str],
    taken: Sequence[str],
) -> str:
    """The best term and what most of the cluster has besides; more only when that is taken."""

    def shown(parts: Sequence[str]) -> str:
        text = _JOIN.join(
            forms[term] for term in sorted(parts, key=lambda term: (broad[term], term))
        )
        return text[:1].upper() + text[1:]

    parts: list[str] = []
    words: set[str] = set()
    for term in ranked:
        full = len(parts) >= 2 or (parts and term not in common)
        if full and shown(parts) not in taken:
            continue
        own = set(_WORD.findall(term))
        if own & words or sum(map(len, parts)) + len(term) > _LONGEST:
            continue
        parts.append(term)
        words |= own
        if len(parts) == _TERMS_MAX:
            break
    return shown(parts)


def _plain(cluster: Mapping[str, int], listings: Mapping[str, Listing]) -> str:
    largest = min(cluster, key=lambda listing_id: (-cluster[listing_id], listing_id), default="")
    listing = listings.get(largest)
    return f"Like {listing.title if listing and listing.title else largest}"[: 2 * _LONGEST]


def _distinct(found: Sequence[str]) -> list[str]:
    seen: Counter[str] = Counter()
    named = []
    for name in found:
        seen[name] += 1
        named.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return named
