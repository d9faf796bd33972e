"""A surveyor's visit: builds the scene of a listing and takes its pictures."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageEnhance

from extraction.rendering import camera as cameras
from extraction.rendering import fitting, ground, network, props, site, subject
from extraction.rendering import light as lights
from extraction.rendering.camera import Camera
from extraction.rendering.canvas import Canvas, Colour
from extraction.rendering.listing import Plan, Shot, Spec
from extraction.rendering.noise import Floats, compiled, fbm, smooth
from extraction.rendering.scene import Part, Scene


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """Light of one visit: sun height and bearing (radians), how strong, how blue, lamp or trees."""

    height: float
    bearing: float
    sun: float
    sky: Colour
    lamp: float
    dapple: float
    softness: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One listing's scene with the habits of the person who photographed it."""

    spec: Spec
    scene: Scene
    weather: Weather
    heading: float
    distance: float
    warmth: float
    grain: float
    quality: int


def visit(plan: Plan, listing: int) -> Visit:
    """Build the scene of a listing from its own random stream."""
    spec = plan.spec(listing)
    rng = np.random.default_rng([plan.seed, 3, listing])
    mix = site.MIXES[spec.district]
    earth = site.EARTHS[str(rng.choice(mix))]
    here = site.soil(rng, earth)
    wear, dirt = float(rng.beta(1.6, 1.6)), float(rng.beta(1.4, 2.7))
    is_joint = spec.kind.endswith("joint")
    makers = {
        "electricity cable": network.electricity,
        "telecoms cable": network.telecoms,
        "gas pipe": network.main,
        "water pipe": network.main,
        "gas joint": fitting.joint,
        "water joint": fitting.joint,
    }
    main = makers[spec.kind](rng, spec, wear, dirt)
    room = min(0.2, spec.diameter / 2000.0 * (1.6 if is_joint else 1.0)) + 0.02
    cut = site.trench(rng, room)
    parts: list[Part] = [
        *site.below(rng, earth, here),
        *network.roots(rng, earth.rootedness),
        *main,
    ]
    for _ in range(int(rng.choice([0, 1, 2, 2, 3]))):
        away = float(rng.uniform(0.3, 0.7)) * float(rng.choice([-1.0, 1.0]))
        parts.append(
            site.spill(
                rng,
                here,
                away,
                float(rng.normal(0, room)),
                float(rng.uniform(0.05, 0.1)),
                int(rng.integers(25, 110)),
            )
        )
    if rng.random() < (0.3 if spec.kind.endswith("cable") else 0.12):
        parts += props.tape(rng, spec.kind)
    parts += site.above(rng, earth, here)
    if rng.random() < 0.3:
        parts += props.staff(rng, room)
    water = float(rng.uniform(-0.005, 0.02)) if rng.random() < 0.13 else -9.0
    scene = Scene(site.table(rng), cut, here, tuple(parts), water)
    return Visit(
        spec=spec,
        scene=scene,
        weather=_weather(rng, spec),
        heading=float(rng.uniform(0, 6.28)),
        distance=float(rng.uniform(0.75, 1.25)) * (0.8 if is_joint else 1.0),
        warmth=float(rng.normal(0.02, 0.035)),
        grain=float(rng.uniform(0.006, 0.018)),
        quality=int(rng.integers(84, 92)),
    )


def _weather(rng: np.random.Generator, spec: Spec) -> Weather:
    month = int(spec.surveyed[5:7])
    # The noon sun of 52 degrees north, and less of it early and late.
    noon = math.radians(38.0 + 23.0 * math.cos(2 * math.pi * (month - 6.4) / 12.0))
    height = max(0.2, noon * float(rng.uniform(0.6, 1.0)))
    bearing = float(rng.uniform(0, 6.28))
    mood = rng.random()
    if mood < 0.38:
        sun, sky = float(rng.uniform(1.5, 2.6)), (0.62, 0.72, 0.86)
    elif mood < 0.85:
        sun, sky = float(rng.uniform(-0.35, 0.5)), (0.92, 0.96, 1.0)
    else:
        sun, sky = float(rng.uniform(0.0, 0.1)), (0.2, 0.24, 0.32)
    return Weather(
        height=height,
        bearing=bearing,
        sun=max(0.0, sun),
        sky=sky,
        lamp=float(rng.uniform(0.35, 0.8)) if mood >= 0.85 else 0.0,
        dapple=float(rng.uniform(0.5, 0.95)) if sun > 1.4 and rng.random() < 0.2 else 0.0,
        softness=0.025 if sun > 1.0 else 0.5,
    )


def _camera(rng: np.random.Generator, visit: Visit, position: int) -> Camera:
    zoom = float(np.exp(rng.normal(0.0, 0.16)))
    if position > 0 and rng.random() < 0.3:
        zoom *= 0.62
    distance = min(1.6, max(0.42, visit.distance * zoom))
    turned = math.pi if rng.random() < 0.25 else 0.0
    return Camera(
        x=float(rng.normal(0, 0.07)),
        y=float(rng.normal(0, 0.03)),
        distance=distance,
        heading=visit.heading + turned + float(rng.normal(0, 0.35)),
        tilt=float(abs(rng.normal(0.38, 0.2))) if rng.random() < 0.85 else 0.06,
        roll=float(rng.normal(0, 0.06)),
        field=float(rng.uniform(1.0, 1.16)),
        exposure=float(np.exp(rng.normal(0.0, 0.14))),
        warmth=visit.warmth + float(rng.normal(0, 0.012)),
        grain=visit.grain,
        vignette=float(rng.uniform(0.12, 0.4)),
        barrel=float(rng.uniform(0.0, 0.05)),
        focus=float(rng.uniform(0.6, 1.6)) * (1.3 if distance < 0.6 else 1.0),
        quality=visit.quality,
        portrait=rng.random() < 0.16,
    )


def _light(visit: Visit, camera: Camera) -> lights.Light:
    weather = visit.weather
    bearing = weather.bearing - camera.heading
    flat = math.cos(weather.height)
    # Low sun is warm: more air, less blue.
    air = 1.0 / max(0.2, math.sin(weather.height))
    sun = tuple(weather.sun * 1.25 * math.exp(-k * air) for k in (0.04, 0.10, 0.20))
    muddy = tuple(0.5 * c for c in visit.scene.soil.mid)
    return lights.Light(
        east=flat * math.cos(bearing),
        north=flat * math.sin(bearing),
        up=math.sin(weather.height),
        sun=(sun[0], sun[1], sun[2]),
        sky=weather.sky,
        lamp=(weather.lamp, 0.95 * weather.lamp, 0.86 * weather.lamp),
        softness=weather.softness,
        dapple=weather.dapple,
        water=visit.scene.water,
        muddy=(muddy[0], muddy[1], muddy[2]),
    )


def _expose(rng: np.random.Generator, visit: Visit, scene: Scene, camera: Camera) -> Image.Image:
    """Held more upright, then higher, while the lens would be inside a wall of the trench."""
    while True:
        frame, rows, columns, eye = camera.frame()
        canvas = Canvas.empty(frame, rows, columns)
        scene.draw(canvas)
        radiance = lights.render(canvas, scene.table, _light(visit, camera), eye)
        seen, depth = cameras.look(camera, frame, canvas.height, radiance, scene.table, eye)
        if depth.min() > 0.0:
            return cameras.picture(camera, rng, seen, depth)
        if camera.tilt > 0.1:
            camera = replace(camera, tilt=camera.tilt * 0.7)
        else:
            camera = replace(camera, tilt=0.0, distance=camera.distance * 1.2)


BAD: dict[str, dict[str, float]] = {"dark": {"exposure": 0.05}, "overexposed": {"exposure": 9.0}}


def develop(plan: Plan, visit: Visit, position: int, outlier: str) -> bytes:
    """JPEG bytes of one picture of a visit, from that picture's own random stream."""
    rng = np.random.default_rng([plan.seed, 4, visit.spec.number, position])
    camera = _camera(rng, visit, position)
    scene = visit.scene
    if outlier in {"sky", "covered lens"}:
        camera = replace(camera, portrait=False, exposure=2.2 if outlier == "sky" else 0.25)
        image = cameras.picture(camera, rng, _backdrop(rng, outlier, scene.table))
    else:
        if outlier == "blurred":
            angle = float(rng.uniform(0, 6.28))
            far = float(rng.uniform(28, 60))
            camera = replace(camera, shake=(far * math.cos(angle), far * math.sin(angle)))
        elif outlier == "dark":
            camera = replace(camera, exposure=float(rng.uniform(0.02, 0.06)), grain=0.03)
        elif outlier == "overexposed":
            camera = replace(camera, exposure=float(rng.uniform(7.0, 14.0)))
        elif outlier in props.FINDS:
            scene = scene.having(*props.FINDS[outlier](rng))
        elif outlier in {"grass", "paper form", "asphalt", "boots", "spade"}:
            level = ground.Trench(9.0, 9.0, 1.0, 1.0, 0.1, -9.0, 9.0, 0.0, 0.0)
            camera = replace(
                camera,
                x=0.0,
                y=0.0,
                heading=float(rng.normal(0, 0.4)),
                distance=float(rng.uniform(0.5, 0.75)),
                tilt=0.2,
            )
            scene = replace(
                scene,
                trench=level,
                parts=tuple(subject.parts_of(outlier, rng, scene.soil)),
                water=-9.0,
            )
        image = _expose(rng, visit, scene, camera)
        if outlier == "finger":
            image = _finger(rng, image)
    return cameras.encode(image, camera.quality)


@compiled
def _clouds(table: Floats, out: Floats, cover: float, slant: float) -> None:
    rows, columns = out.shape[:2]
    for j in range(rows):
        for i in range(columns):
            far = 1.0 / (0.35 + (rows - j) / rows)
            x = (i / columns - 0.5) * 5.0 * far
            y = far * 7.0 + slant * x
            thick = fbm(table, x + 7.0, y, 6, 0.5)
            white = smooth(0.22 - cover, 0.62 - cover, thick)
            dark = smooth(0.3 - cover, 0.9 - cover, fbm(table, x + 7.3, y + 0.35, 5, 0.55))
            haze = (j / rows) ** 2 * 0.6
            for k in range(3):
                blue = (0.12, 0.27, 0.62)[k]
                value = blue + (0.75 - blue) * haze
                out[j, i, k] = value + white * ((0.95, 0.95, 0.97)[k] * (1.0 - 0.3 * dark) - value)


def _backdrop(rng: np.random.Generator, sort: str, table: Floats) -> Floats:
    columns, rows = cameras.RAYS
    out = np.zeros((rows, columns, 3), np.float32)
    if sort == "sky":
        _clouds(table, out, float(rng.uniform(0.1, 0.6)), float(rng.normal(0, 0.4)))
        return out
    # Light leaks in at one edge of the cap.
    y, x = np.mgrid[0:rows, 0:columns]
    angle = float(rng.uniform(0, 6.28))
    edge = (x / columns - 0.5) * math.cos(angle) + (y / rows - 0.5) * math.sin(angle)
    glow = 0.004 + 0.35 * np.clip(edge - 0.2, 0.0, 1.0) ** 2
    leak: Floats = (glow[..., None] * np.array([1.0, 0.62, 0.45]) + 0.02).astype(np.float32)
    return leak


def _finger(rng: np.random.Generator, image: Image.Image) -> Image.Image:
    wide, tall = image.size
    y, x = np.mgrid[0:tall, 0:wide]
    side = float(rng.choice([-0.05, 1.05]))
    cx, cy = side * wide, float(rng.uniform(0.2, 0.8)) * tall
    turn = float(rng.normal(0, 0.4))
    u = (x - cx) * math.cos(turn) + (y - cy) * math.sin(turn)
    v = (y - cy) * math.cos(turn) - (x - cx) * math.sin(turn)
    inside = (u / (0.55 * wide)) ** 2 + (v / (0.33 * tall)) ** 2
    weight = np.clip((1.15 - inside) / 0.45, 0.0, 1.0)
    weight = weight * weight * (3.0 - 2.0 * weight)
    tone = np.array([196.0, 122.0, 96.0]) * (0.55 + 0.5 * np.clip(1.0 - inside, 0, 1))[..., None]
    mixed = np.asarray(image) * (1.0 - weight[..., None]) + tone * weight[..., None]
    return Image.fromarray(np.clip(mixed, 0, 255).astype(np.uint8))


def altered(data: bytes, how: str, rng: np.random.Generator) -> bytes:
    """A near-duplicate of JPEG bytes: resized, cropped by 10 %, re-encoded or brightened."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    wide, tall = image.size
    quality = 86
    if how == "resized":
        scale = float(rng.uniform(0.55, 0.85))
        image = image.resize((round(wide * scale), round(tall * scale)), Image.Resampling.LANCZOS)
    elif how == "cropped":
        left, top = rng.uniform(0.02, 0.08, 2) * (wide, tall)
        image = image.crop(
            (round(left), round(top), round(left + 0.9 * wide), round(top + 0.9 * tall))
        )
    elif how == "brightened":
        image = ImageEnhance.Brightness(image).enhance(float(rng.choice([0.82, 1.15, 1.25])))
    else:
        quality = int(rng.integers(45, 70))
    return cameras.encode(image, quality)


def pictures(plan: Plan, listing: int) -> list[tuple[Shot, bytes]]:
    """All pictures of one listing, by position."""
    own = visit(plan, listing)
    found = []
    for shot in plan.shots(listing):
        if shot.origin is None:
            found.append((shot, develop(plan, own, shot.position, shot.outlier)))
            continue
        source, position = shot.origin
        there = own if source == listing else visit(plan, source)
        data = develop(plan, there, position, "")
        rng = np.random.default_rng([plan.seed, 5, listing, shot.position])
        found.append((shot, altered(data, shot.copy, rng)))
    return found
