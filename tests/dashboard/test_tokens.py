"""The colours of assets/tokens.css: readable in both themes, and the same in charts and map."""

from __future__ import annotations

import re

import pytest

from cql.settings import ROOT
from dashboard import figures

ASSETS = ROOT / "assets"
CSS = (ASSETS / "tokens.css").read_text(encoding="utf-8")
LIGHT, DARK = CSS.split(':root[data-theme="dark"]')
BACKGROUNDS = ("bg", "surface", "surface-2")
TEXTS = ("text", "text-2", "text-3", "accent-text", "danger", "ok", "warn")


def colours(theme: str) -> dict[str, str]:
    blocks = {"light": LIGHT, "dark": LIGHT + DARK}
    return dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6});", blocks[theme]))


def luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_itself() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_texts_reach_aa_on_every_background(theme: str) -> None:
    found = colours(theme)
    for text in TEXTS:
        for background in BACKGROUNDS:
            if background == "surface-2" and text in {"danger", "ok", "warn"}:
                continue
            assert contrast(found[text], found[background]) >= 4.5, (text, background)
    pairs = [("on-accent", "accent"), ("on-accent", "accent-hover"), ("accent-text", "accent-soft")]
    pairs += [(tone, f"{tone}-soft") for tone in ("danger", "ok", "warn")]
    pairs += [("bg", "text"), ("surface", "danger")]
    for text, background in pairs:
        assert contrast(found[text], found[background]) >= 4.5, (text, background)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_controls_and_focus_reach_three_to_one(theme: str) -> None:
    found = colours(theme)
    for name in ("accent", "line-strong"):
        for background in ("bg", "surface"):
            assert contrast(found[name], found[background]) >= 3, (name, background)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_charts_use_the_tokens(theme: str) -> None:
    found = colours(theme)
    palette = figures.palette(theme)
    for name in palette.__slots__:
        assert getattr(palette, name) == found[name.replace("_", "-")], name


def test_the_map_uses_the_tokens() -> None:
    source = (ROOT / "dashboard" / "map" / "src" / "colours.ts").read_text(encoding="utf-8")
    used = set(re.findall(r"#[0-9a-f]{6}", source))
    for theme in ("light", "dark"):
        names = {k: v for k, v in colours(theme).items() if k.startswith(("cat-", "seq-"))}
        assert len(names) == 12 + 1 + 6
        assert {k for k, v in names.items() if v not in used} == set()


def test_every_variable_that_a_style_sheet_uses_is_defined() -> None:
    sheets = {path.name: path.read_text(encoding="utf-8") for path in ASSETS.glob("*.css")}
    defined = set(re.findall(r"(--[a-z0-9-]+):", "".join(sheets.values())))
    for name, text in sheets.items():
        used = set(re.findall(r"var\((--[a-z0-9-]+)", text))
        assert used - defined == set(), name


def test_every_block_of_a_style_sheet_is_closed_before_the_next_begins() -> None:
    for path in ASSETS.glob("*.css"):
        text = re.sub(r"/\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        depth = 0
        for line in text.splitlines():
            assert depth == 0 or line[:1] in {"", " ", "}"}, (path.name, line)
            depth += line.count("{") - line.count("}")
        assert depth == 0, path.name


def test_type_and_space_come_from_the_scales() -> None:
    for path in ASSETS.glob("*.css"):
        for line in path.read_text(encoding="utf-8").splitlines():
            if re.match(r"\s+font-size:", line):
                assert re.search(r"var\(--text-|inherit|0$", line), (path.name, line)


def test_no_asset_names_another_host() -> None:
    for path in ASSETS.iterdir():
        if path.suffix in {".css", ".svg"} or path.name in {"keys.js", "theme.js", "pictures.js"}:
            text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
            assert "//" not in re.sub(r"(?m)^\s*//.*$|\s// .*$", "", text), path.name
