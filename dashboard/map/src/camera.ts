// The camera: a centre in world coordinates ([0, 1] x [0, 1], y downwards) and a zoom.
// At zoom 0 the world is BASE pixels wide; each level doubles it.

export const BASE = 512;
export const MIN_ZOOM = -2;
export const MAX_ZOOM = 14;

export interface Camera {
  readonly x: number;
  readonly y: number;
  readonly zoom: number;
}

export interface Size {
  readonly width: number;
  readonly height: number;
}

export interface Bounds {
  readonly minX: number;
  readonly minY: number;
  readonly maxX: number;
  readonly maxY: number;
}

export const WORLD: Bounds = { minX: 0, minY: 0, maxX: 1, maxY: 1 };

export function scaleOf(camera: Camera): number {
  return BASE * 2 ** camera.zoom;
}

export function project(camera: Camera, size: Size, x: number, y: number): [number, number] {
  const scale = scaleOf(camera);
  return [(x - camera.x) * scale + size.width / 2, (y - camera.y) * scale + size.height / 2];
}

export function unproject(camera: Camera, size: Size, px: number, py: number): [number, number] {
  const scale = scaleOf(camera);
  return [(px - size.width / 2) / scale + camera.x, (py - size.height / 2) / scale + camera.y];
}

/** Keeps the zoom in range and the centre over the world, so that nobody gets lost in the void. */
export function clamp(camera: Camera): Camera {
  const inside = (value: number, fallback: number): number =>
    Number.isFinite(value) ? Math.min(1, Math.max(0, value)) : fallback;
  const zoom = Number.isFinite(camera.zoom) ? camera.zoom : 0;
  return {
    x: inside(camera.x, 0.5),
    y: inside(camera.y, 0.5),
    zoom: Math.min(MAX_ZOOM, Math.max(MIN_ZOOM, zoom)),
  };
}

export function pan(camera: Camera, dx: number, dy: number): Camera {
  const scale = scaleOf(camera);
  return clamp({ x: camera.x - dx / scale, y: camera.y - dy / scale, zoom: camera.zoom });
}

/** Zooms by `delta` levels; the world point under pixel (px, py) stays there. */
export function zoomAt(camera: Camera, size: Size, px: number, py: number, delta: number): Camera {
  const zoom = Math.min(MAX_ZOOM, Math.max(MIN_ZOOM, camera.zoom + delta));
  const [wx, wy] = unproject(camera, size, px, py);
  const scale = BASE * 2 ** zoom;
  return clamp({
    x: wx - (px - size.width / 2) / scale,
    y: wy - (py - size.height / 2) / scale,
    zoom,
  });
}

/** The camera that shows `bounds` whole, with `padding` pixels around. */
export function fit(bounds: Bounds, size: Size, padding = 40): Camera {
  const width = Math.max(bounds.maxX - bounds.minX, 1e-4);
  const height = Math.max(bounds.maxY - bounds.minY, 1e-4);
  const free = (value: number): number => Math.max(value - 2 * padding, 32);
  const scale = Math.min(free(size.width) / width, free(size.height) / height);
  return clamp({
    x: (bounds.minX + bounds.maxX) / 2,
    y: (bounds.minY + bounds.maxY) / 2,
    zoom: Math.log2(scale / BASE),
  });
}

export function visible(camera: Camera, size: Size): Bounds {
  const [minX, minY] = unproject(camera, size, 0, 0);
  const [maxX, maxY] = unproject(camera, size, size.width, size.height);
  return { minX, minY, maxX, maxY };
}

export function same(a: Camera, b: Camera): boolean {
  const tolerance = 1e-3 / scaleOf(a);
  return (
    Math.abs(a.x - b.x) < tolerance &&
    Math.abs(a.y - b.y) < tolerance &&
    Math.abs(a.zoom - b.zoom) < 1e-4
  );
}

/** Between two cameras, t in [0, 1], eased; zoom and centre move together. */
export function between(a: Camera, b: Camera, t: number): Camera {
  const eased = t * t * (3 - 2 * t);
  const mix = (from: number, to: number): number => from + (to - from) * eased;
  return { x: mix(a.x, b.x), y: mix(a.y, b.y), zoom: mix(a.zoom, b.zoom) };
}
