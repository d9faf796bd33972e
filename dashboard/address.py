"""The query part of an address, which is hostile input: pairs of text, numbers, pages.

Nothing here raises: what breaks a rule is left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import parse_qsl, quote, urlencode

MAX_QUERY: Final = 16_384
"""Longest query part that is read, characters."""
MAX_PAGE: Final = 1_000_000
CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def pairs_of(search: str | None) -> list[tuple[str, str]]:
    """Names and values of the query part (with or without `?`) in order."""
    text = (search or "").removeprefix("?")
    if len(text) > MAX_QUERY:
        return []
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=1024)
    except ValueError:  # too many fields, or bytes that are not UTF-8
        return []
    return [(key, value) for key, value in pairs if not CONTROL.search(key + value)]


def single_of(search: str | None) -> dict[str, str]:
    """Values by name; of several under one name the first."""
    return dict(reversed(pairs_of(search)))


def written(pairs: Iterable[tuple[str, str]]) -> str:
    """The query part with its `?`; empty without pairs."""
    text = urlencode(list(pairs), safe=":,;", quote_via=quote)
    return f"?{text}" if text else ""


def page_of(single: Mapping[str, str]) -> int:
    """The page that is asked for, from 1."""
    text = single.get("page", "1")
    page = int(text) if re.fullmatch(r"[0-9]{1,7}", text) else 1
    return min(max(page, 1), MAX_PAGE)


def number(value: float) -> str:
    """Shortest text that reads back as the same number, without a needless `.0`."""
    text = repr(float(value) + 0.0)
    return text.removesuffix(".0")


def real(text: str) -> float | None:
    """The finite number that a text is, None for anything else."""
    if not re.fullmatch(r"-?[0-9]{1,20}(?:\.[0-9]{1,20})?(?:e[+-]?[0-9]{1,3})?", text):
        return None
    value = float(text) + 0.0
    return value if math.isfinite(value) else None


def numbers(texts: Iterable[str]) -> list[float] | None:
    """All of the texts as numbers; None where one is none."""
    values = [real(text) for text in texts]
    found = [value for value in values if value is not None]
    return found if len(found) == len(values) else None
