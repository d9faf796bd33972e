"""The camera: where it looks, what ground it sees, and what lens, sensor and JPEG make of it."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from extraction.rendering.canvas import Frame
from extraction.rendering.noise import Floats, compiled, gradient

WIDTH, HEIGHT = 480, 360
"""Pixels of a finished picture."""
RAYS = (480, 360)
"""Rays of a picture, before the lens averages them."""
CELLS = 300_000
"""Most cells of a canvas: the ground is sampled about as finely as the sensor sees it."""
FLOOR, CEILING = -0.12, 0.85
"""Heights between which everything drawn lies, metres."""


_LEVELS = np.arange(4096) / 4095.0
CURVE = np.where(
    _LEVELS <= 0.0031308, 12.92 * _LEVELS, 1.055 * np.maximum(_LEVELS, 1e-9) ** (1.0 / 2.4) - 0.055
).astype(np.float32)
"""The sRGB curve over 4096 linear levels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """A view: target on the ground, distance and angles (radians), and the sensor's habits."""

    x: float
    y: float
    distance: float
    heading: float
    tilt: float
    roll: float
    field: float = 1.1
    exposure: float = 1.0
    warmth: float = 0.0
    grain: float = 0.012
    vignette: float = 0.35
    barrel: float = 0.03
    focus: float = 0.0
    shake: tuple[float, float] = (0.0, 0.0)
    quality: int = 88
    portrait: bool = False

    def eye(self) -> tuple[float, float, float]:
        """Position in the camera's own frame (columns, rows, up) around the target."""
        # Rows grow towards the viewer, so that a tilted camera stands at the bottom of the picture.
        return 0.0, self.distance * math.sin(self.tilt), self.distance * math.cos(self.tilt)

    def rays(self) -> tuple[Floats, int, int]:
        """Basis of the view: float32 (3, 3) rows right, down, forward; columns and rows of rays."""
        forward = np.array([0.0, -math.sin(self.tilt), -math.cos(self.tilt)])
        right = np.array([1.0, 0.0, 0.0])
        down = np.cross(right, forward)
        cos, sin = math.cos(self.roll), math.sin(self.roll)
        basis = np.stack([right * cos + down * sin, down * cos - right * sin, forward])
        columns, rows = RAYS[::-1] if self.portrait else RAYS
        return basis.astype(np.float32), columns, rows

    def frame(self) -> tuple[Frame, int, int, tuple[float, float, float]]:
        """The ground in view: its frame, rows, columns, and the eye from its first cell."""
        basis, columns, rows = self.rays()
        eye = np.array(self.eye())
        span = math.tan(self.field / 2.0) * (1.0 + self.barrel * 1.6)
        corners = []
        for px, py in ((-1, -1), (1, -1), (-1, 1), (1, 1), (0, -1), (0, 1)):
            ray = (
                basis[2]
                + basis[0] * px * span * columns / max(columns, rows)
                + basis[1] * py * span * rows / max(columns, rows)
            )
            # Walls hide what lies far behind them: the floor plane bounds the view well enough.
            for plane in (0.0, 0.3):
                if ray[2] < -0.12:
                    corners.append(eye + ray * (plane - eye[2]) / ray[2])
                else:
                    corners.append(eye + ray * 3.0 * self.distance)
        points = np.array(corners)[:, :2]
        low, high = points.min(axis=0), points.max(axis=0)
        limit = 3.2 * self.distance
        low, high = np.maximum(low, -limit), np.minimum(high, limit)
        margin = 0.06 * (high - low)
        low, high = low - margin, high + margin
        cell = float(math.sqrt(np.prod(high - low) / CELLS))
        cos, sin = math.cos(self.heading), math.sin(self.heading)
        frame = Frame(
            self.x + low[0] * cos - low[1] * sin,
            self.y + low[0] * sin + low[1] * cos,
            cos,
            sin,
            cell,
        )
        size = np.ceil((high - low) / cell).astype(int)
        at = (float(eye[0] - low[0]), float(eye[1] - low[1]), float(eye[2]))
        return frame, int(size[1]), int(size[0]), at


@compiled
def march(
    height: Floats,
    radiance: Floats,
    table: Floats,
    cell: float,
    eye: tuple[float, float, float],
    basis: Floats,
    span: float,
    barrel: float,
    top: float,
    out: Floats,
    depth: Floats,
) -> None:
    """Follow every ray to the relief; write its radiance and its depth along the view axis."""
    rows, columns = height.shape
    tall, wide = depth.shape
    scale = span / max(tall, wide) * 2.0
    for j in range(tall):
        for i in range(wide):
            px = (i + 0.5 - 0.5 * wide) * scale
            py = (j + 0.5 - 0.5 * tall) * scale
            bulge = 1.0 + barrel * (px * px + py * py) / (span * span)
            px *= bulge
            py *= bulge
            dx = basis[2, 0] + basis[0, 0] * px + basis[1, 0] * py
            dy = basis[2, 1] + basis[0, 1] * px + basis[1, 1] * py
            dz = basis[2, 2] + basis[0, 2] * px + basis[1, 2] * py
            dz = min(dz, -0.02)
            flat = math.sqrt(dx * dx + dy * dy)
            least = 0.7 * cell / max(flat, 0.25)
            t = max(0.0, (top - eye[2]) / dz)
            before = t
            gap = 0.0
            last = 0.0
            for _ in range(140):
                c = (eye[0] + dx * t) / cell
                r = (eye[1] + dy * t) / cell
                ci = min(columns - 1, max(0, int(c)))
                ri = min(rows - 1, max(0, int(r)))
                gap = eye[2] + dz * t - height[ri, ci]
                if gap <= 0.0:
                    break
                before = t
                last = gap
                # Straight down the gap itself is safe; the flatter the ray, the shorter the step.
                t += max(least, gap * (0.9 if flat < 0.15 else min(0.9, 0.3 / flat)))
            if gap <= 0.0 and last > 0.0:
                t = before + (t - before) * last / (last - gap)
            c = min(columns - 1.001, max(0.0, (eye[0] + dx * t) / cell))
            r = min(rows - 1.001, max(0.0, (eye[1] + dy * t) / cell))
            ci = int(c)
            ri = int(r)
            fc = c - ci
            fr = r - ri
            steep = abs(height[ri, ci] - height[ri + 1, ci]) + abs(
                height[ri, ci] - height[ri, ci + 1]
            )
            gain = 1.0
            if steep > 2.2 * cell:
                # One cell covers a tall piece of wall: add the grain that relief cannot hold.
                z = eye[2] + dz * t
                weight = min(1.0, (steep / cell - 2.2) * 0.4)
                gain += weight * 0.28 * gradient(table, (eye[0] + dx * t) * 60.0, z * 75.0)
            depth[j, i] = t
            for k in range(3):
                low = radiance[ri, ci, k] * (1.0 - fc) + radiance[ri, ci + 1, k] * fc
                high = radiance[ri + 1, ci, k] * (1.0 - fc) + radiance[ri + 1, ci + 1, k] * fc
                out[j, i, k] = gain * (low * (1.0 - fr) + high * fr)


@compiled
def develop(
    image: Floats,
    noise: Floats,
    curve: np.ndarray,
    exposure: float,
    warm: float,
    tint: float,
    grain: float,
    vignette: float,
    out: np.ndarray,
) -> None:
    """Exposure, vignette, film curve (Narkowicz 2015), white balance, noise, sRGB, 8 bits."""
    tall, wide = image.shape[:2]
    reach = 0.25 * (tall * tall + wide * wide)
    gains = (exposure * (1.0 + warm), exposure * (1.0 + tint), exposure * (1.0 - warm))
    for j in range(tall):
        for i in range(wide):
            dx = i - 0.5 * wide
            dy = j - 0.5 * tall
            fall = (dx * dx + dy * dy) / reach
            fall = 1.0 - vignette * fall * (0.6 + 0.4 * fall)
            luma = 0.3 * image[j, i, 0] + 0.6 * image[j, i, 1] + 0.1 * image[j, i, 2]
            bright = noise[j, i, 0]
            hue = noise[j, i, 1]
            for k in range(3):
                # The curve drives colours apart; film and sensors hold them together.
                v = image[j, i, k] + 0.1 * (luma - image[j, i, k])
                v = max(0.0, v * fall * gains[k])
                v = min(1.0, v * (2.51 * v + 0.03) / (v * (2.43 * v + 0.59) + 0.14))
                v = curve[int(v * 4095.0)]
                v += grain * (0.6 + 0.8 * (1.0 - v)) * (0.8 * bright + (0.4, -0.15, -0.4)[k] * hue)
                out[j, i, k] = np.uint8(min(255.0, max(0.0, v * 255.0 + 0.5)))


def look(
    camera: Camera,
    frame: Frame,
    height: Floats,
    radiance: Floats,
    table: Floats,
    eye: tuple[float, float, float],
) -> tuple[Floats, Floats]:
    """What reaches the lens: radiance float32 (rays_y, rays_x, 3) and depth (rays_y, rays_x)."""
    basis, columns, rows = camera.rays()
    out = np.empty((rows, columns, 3), np.float32)
    depth = np.empty((rows, columns), np.float32)
    span = math.tan(camera.field / 2.0)
    top = float(height.max()) + 0.002
    march(height, radiance, table, frame.cell, eye, basis, span, camera.barrel, top, out, depth)
    return out, depth


def _shrink(image: Floats, size: tuple[int, int]) -> Floats:
    if image.shape[1::-1] == size:
        return image
    planes = [
        np.asarray(Image.fromarray(image[..., k]).resize(size, Image.Resampling.BOX))
        for k in range(3)
    ]
    return np.stack(planes, axis=-1)


def _blur(image: Floats, radius: float) -> Floats:
    """Every plane averaged over `radius` pixels and drawn large again."""
    planes = [
        np.asarray(
            Image.fromarray(image[..., k])
            .resize(
                (max(8, int(image.shape[1] / radius)), max(8, int(image.shape[0] / radius))),
                Image.Resampling.BOX,
            )
            .resize((image.shape[1], image.shape[0]), Image.Resampling.BICUBIC)
        )
        for k in range(3)
    ]
    blurred: Floats = np.maximum(np.stack(planes, axis=-1), 0.0)
    return blurred


def _streak(image: Floats, shake: tuple[float, float]) -> Floats:
    """Move the picture along `shake` pixels while the shutter is open."""
    steps = 13
    total = np.zeros_like(image)
    for n in range(steps):
        at = n / (steps - 1) - 0.5
        shift = (round(shake[1] * at + 2.0 * at * at), round(shake[0] * at))
        total += np.roll(image, shift, axis=(0, 1))
    return total / np.float32(steps)


def picture(
    camera: Camera, rng: np.random.Generator, radiance: Floats, depth: Floats | None = None
) -> Image.Image:
    """Develop radiance (rays) into an 8-bit RGB picture of WIDTH x HEIGHT (or upright)."""
    size = (HEIGHT, WIDTH) if camera.portrait else (WIDTH, HEIGHT)
    image = _shrink(radiance, size)
    if depth is not None and camera.focus > 0.0:
        far = np.asarray(Image.fromarray(depth).resize(size, Image.Resampling.BOX))
        sharp = float(
            np.median(far[size[1] // 3 : 2 * size[1] // 3, size[0] // 3 : 2 * size[0] // 3])
        )
        circle = np.clip(np.abs(1.0 / far - 1.0 / sharp) * camera.focus, 0.0, 1.0)
        weight = (circle * circle * (3.0 - 2.0 * circle))[..., None].astype(np.float32)
        image = image + weight * (_blur(image, 3.2) - image)
    if camera.shake != (0.0, 0.0):
        image = _streak(image, camera.shake)
    luma = 0.2126 * image[..., 0] + 0.7152 * image[..., 1] + 0.0722 * image[..., 2]
    luma = luma[::3, ::3]
    metered = float(np.exp(np.mean(np.log(luma + 1e-4)))) + 0.15 * float(luma.mean()) + 1e-3
    # A meter half believes the scene: peat stays darker than chalk.
    exposure = camera.exposure * 0.18 / (metered**0.75 * 0.15**0.25)
    noise = rng.standard_normal((size[1], size[0], 2), dtype=np.float32)
    out = np.empty((size[1], size[0], 3), np.uint8)
    tint = 0.25 * camera.warmth * camera.warmth - 0.01
    develop(
        np.ascontiguousarray(image, dtype=np.float32),
        noise,
        CURVE,
        exposure,
        camera.warmth,
        tint,
        camera.grain,
        camera.vignette,
        out,
    )
    # Phones sharpen what they save.
    return Image.fromarray(out).filter(ImageFilter.UnsharpMask(1.1, 30, 3))


def encode(image: Image.Image, quality: int) -> bytes:
    """JPEG bytes (4:2:0) that say they are rendered, and nothing else."""
    exif = Image.Exif()
    exif[0x0131] = "Sightline sample renderer: not a photograph"
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, subsampling=2, exif=exif)
    return buffer.getvalue()
