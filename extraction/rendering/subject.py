"""What wrong pictures show instead of a trench: lawn, road, form, boots, spade."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from extraction.rendering import lumps, network, site, tube
from extraction.rendering.canvas import linear
from extraction.rendering.ground import Soil
from extraction.rendering.props import linearised, worn
from extraction.rendering.scene import Flat, Heap, Part, Tube
from extraction.rendering.slab import Puck, Slab, plain


def blades(rng: np.random.Generator) -> list[Part]:
    """A lawn: thousands of leaning blades."""
    parts: list[Part] = []
    greens = ("#4c6b25", "#5e7d2e", "#38541d", "#7c8c42", "#8f8a4e")
    for _ in range(5200):
        length = float(rng.uniform(0.03, 0.1))
        shape = tube.Shape(
            float(rng.uniform(-0.6, 0.6)),
            float(rng.uniform(-0.5, 0.5)),
            float(rng.uniform(0, 6.28)),
            0.0,
            length,
            float(rng.uniform(0.005, 0.035)),
            float(rng.uniform(0.0012, 0.0026)),
            slope=float(rng.uniform(0.1, 0.9)),
            bend=float(rng.uniform(0, 0.012)),
            wave=float(rng.uniform(10, 30)),
            chamfer=0.001,
        )
        code = greens[int(rng.choice(5, p=[0.32, 0.26, 0.22, 0.12, 0.08]))]
        parts.append(
            Tube(shape, tube.Skin(network.vary(rng, code, 0.2), gloss=0.25, dirt=0.0, scratch=0.0))
        )
    return parts


def form(rng: np.random.Generator) -> list[Part]:
    """A survey form on a clipboard."""
    image = Image.new("RGB", (520, 720), "#d9d6cb")
    draw = ImageDraw.Draw(image)
    font, small = ImageFont.load_default(26), ImageFont.load_default(15)
    draw.text((36, 28), "SITE RECORD SHEET", fill="#1d1d22", font=font)
    for n in range(17):
        top = 86 + n * 34
        draw.rectangle((36, top, 484, top + 34), outline="#55565e")
        draw.line((190, top, 190, top + 34), fill="#55565e")
        words = ("Location", "Depth", "Material", "Weather", "Surveyor", "Date", "Remarks")
        draw.text((44, top + 9), words[n % 7], fill="#2a2a30", font=small)
        x, y = 204.0, top + 20.0
        for _ in range(int(rng.integers(0, 34))):
            nx, ny = x + float(rng.uniform(3, 9)), top + 20.0 + float(rng.normal(0, 5))
            draw.line((x, y, nx, ny), fill="#22356e", width=2)
            x, y = nx, ny
    angle = float(rng.normal(0, 0.3)) + 1.57
    return [
        Flat(
            Slab(0, 0, angle, 0.178, 0.122, 0.05, 0.004, dirt=0.1, gloss=0.2),
            plain(linear("#5d4327")),
        ),
        Flat(
            Slab(
                0.004,
                0.0,
                angle,
                0.148,
                0.106,
                0.056,
                0.001,
                dirt=0.06,
                gloss=0.05,
                crease=0.0008,
                corner=0.0004,
            ),
            np.ascontiguousarray(np.rot90(linearised(image), 1)),
        ),
        Flat(
            Slab(
                -0.165 * math.cos(angle),
                -0.165 * math.sin(angle),
                angle,
                0.014,
                0.05,
                0.06,
                0.006,
                gloss=0.7,
                dirt=0.1,
            ),
            plain((0.45, 0.46, 0.47)),
        ),
    ]


def asphalt(rng: np.random.Generator) -> list[Part]:
    """A road surface: closely packed chippings, and a strip of paint."""
    colours = np.array([linear(c) for c in ("#4b4b4a", "#5c5b58", "#3a3a3b", "#6f6d68", "#807a70")])
    heap = lumps.scatter(
        rng,
        30_000,
        area=(-0.8, 0.8, -0.65, 0.65),
        smallest=0.005,
        largest=0.016,
        power=1.6,
        flat=0.5,
        embed=0.6,
        colours=colours,
        spread=0.12,
        gloss=0.12,
        rough=0.3,
        cut=0.5,
    )
    line = Slab(
        float(rng.normal(0, 0.2)),
        0.0,
        float(rng.uniform(0, 3.14)),
        1.5,
        0.05,
        -0.01,
        0.0035,
        drape=0.99,
        gloss=0.2,
        dirt=0.45,
        rough=0.004,
    )
    return [Heap(heap), Flat(line, plain((0.62, 0.62, 0.58)))]


def boots(rng: np.random.Generator) -> list[Part]:
    """Somebody's boots, from above."""
    parts: list[Part] = []
    leather = tube.Skin(
        network.vary(rng, str(rng.choice(["#5a3d22", "#2a2624", "#8a6a35"]))),
        gloss=0.25,
        dirt=0.4,
        scratch=0.5,
        mottle=0.3,
    )
    sole = tube.Skin(network.vary(rng, "#2b2725"), gloss=0.1, dirt=0.5)
    lace = tube.Skin(network.vary(rng, "#b59a55"), gloss=0.1, dirt=0.2, scratch=0.0)
    jeans = tube.Skin(
        network.vary(rng, str(rng.choice(["#27364f", "#3a3a38", "#b7651b"]))),
        gloss=0.03,
        dirt=0.15,
        mottle=0.3,
        scratch=0.0,
    )
    turn = float(rng.normal(0, 0.2)) + 1.57
    for side in (-1.0, 1.0):
        x, y = side * 0.085 * math.sin(turn), -side * 0.085 * math.cos(turn)
        base = tube.Shape(x, y, turn + side * -0.12, -0.14, 0.15, 0.0, 0.052, chamfer=0.05)
        parts += [
            Tube(base, sole),
            Tube(
                base._replace(
                    low=-0.01, high=0.143, z=0.03, radius=0.047, chamfer=0.046, slope=-0.1
                ),
                leather,
            ),
            Tube(
                base._replace(
                    low=-0.135, high=0.07, z=0.055, radius=0.042, chamfer=0.03, slope=-0.25
                ),
                leather,
            ),
        ]
        for n in range(5):
            s = 0.065 - 0.02 * n
            ca, sa = math.cos(base.angle), math.sin(base.angle)
            parts.append(
                Tube(
                    tube.Shape(
                        x + ca * s,
                        y + sa * s,
                        base.angle + 1.57 + 0.3 * (-1) ** n,
                        -0.026,
                        0.026,
                        0.103 - 0.25 * s - 0.006,
                        0.0028,
                    ),
                    lace,
                )
            )
        parts.append(
            Tube(
                base._replace(
                    low=-0.2, high=-0.03, z=0.14, radius=0.06, slope=-0.3, lump=0.12, chamfer=0.03
                ),
                jeans,
            )
        )
    return parts


def spade(rng: np.random.Generator) -> list[Part]:
    """A spade lying on the spoil."""
    angle = float(rng.uniform(-0.6, 0.6))
    ca, sa = math.cos(angle), math.sin(angle)
    steel = worn(rng, network.vary(rng, "#575653"))
    wood = tube.Skin(network.vary(rng, "#9a7242"), gloss=0.2, dirt=0.25, mottle=0.35, scratch=0.3)
    shaft = tube.Shape(0.0, 0.0, angle, -0.9, 0.02, 0.06, 0.017)
    iron = tube.Skin(network.vary(rng, "#4c4b49"), gloss=0.4, rust=0.15, dirt=0.3)
    return [
        Flat(
            Slab(
                0.17 * ca,
                0.17 * sa,
                angle,
                0.15,
                0.092,
                0.03,
                0.012,
                tilt=-0.08,
                gloss=0.55,
                dirt=0.35,
                corner=0.004,
            ),
            steel,
        ),
        Tube(shaft, wood),
        Tube(shaft._replace(low=-0.02, high=0.16, radius=0.021, chamfer=0.012), iron),
        Puck(0.05 * ca, 0.05 * sa, 0.004, 0.088, (0.4, 0.4, 0.38)),
    ]


def parts_of(sort: str, rng: np.random.Generator, here: Soil) -> list[Part]:
    """What a wrong picture shows instead of a trench."""
    makers = {
        "grass": blades,
        "paper form": form,
        "asphalt": asphalt,
        "boots": boots,
        "spade": spade,
    }
    parts = makers[sort](rng)
    if sort == "grass":
        thatch = lumps.scatter(
            rng,
            2_500,
            area=(-0.8, 0.8, -0.7, 0.7),
            smallest=0.02,
            largest=0.06,
            power=1.5,
            flat=0.4,
            embed=0.5,
            colours=np.array([linear("#2c3518"), linear("#3d4420"), linear("#4a4528")]),
            spread=0.15,
            gloss=0.03,
            rough=0.6,
            cut=0.2,
        )
        parts.insert(0, Heap(thatch))
    if sort in {"boots", "spade", "paper form"}:
        crumbs = lumps.scatter(
            rng,
            2_500,
            area=(-0.9, 0.9, -0.7, 0.7),
            smallest=0.005,
            largest=0.05,
            power=2.7,
            flat=0.6,
            embed=0.4,
            colours=site.tones(here),
            spread=0.14,
            gloss=0.03,
            rough=0.5,
            cut=0.4,
        )
        parts.insert(0, Heap(crumbs))
    return parts
