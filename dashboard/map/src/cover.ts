// Which tiles to draw and which to ask for: a quadtree walk under a point budget.

import { BASE, visible, type Bounds, type Camera, type Size } from "./camera";

export const MAX_LEVEL = 20;

export interface Key {
  readonly z: number;
  readonly x: number;
  readonly y: number;
}

export interface Counts {
  readonly count: number;
  readonly total: number;
}

export interface Plan {
  readonly draw: readonly Key[];
  readonly want: readonly Key[];
}

export const ROOT: Key = { z: 0, x: 0, y: 0 };

export function name(key: Key): string {
  return `${key.z}/${key.x}/${key.y}`;
}

export function boundsOf(key: Key): Bounds {
  const side = 2 ** -key.z;
  return {
    minX: key.x * side,
    minY: key.y * side,
    maxX: (key.x + 1) * side,
    maxY: (key.y + 1) * side,
  };
}

export function children(key: Key): Key[] {
  const z = key.z + 1;
  return [0, 1, 2, 3].map((i) => ({ z, x: 2 * key.x + (i % 2), y: 2 * key.y + (i >> 1) }));
}

export function overlaps(a: Bounds, b: Bounds): boolean {
  return a.minX < b.maxX && a.maxX > b.minX && a.minY < b.maxY && a.maxY > b.minY;
}

function distance(key: Key, camera: Camera): number {
  const b = boundsOf(key);
  return Math.hypot((b.minX + b.maxX) / 2 - camera.x, (b.minY + b.maxY) / 2 - camera.y);
}

/**
 * Walks from the root. A tile that holds back rows, and is drawn larger than a tile should be, gives
 * way to its visible children once all of them are there; until then it stays, so that nothing blinks.
 * The points of all drawn tiles together stay within `budget` (the root is always drawn).
 */
export function plan(
  counts: (key: Key) => Counts | undefined,
  camera: Camera,
  size: Size,
  budget: number,
): Plan {
  const root = counts(ROOT);
  if (!root) return { draw: [], want: [ROOT] };
  const view = visible(camera, size);
  const draw: Key[] = [];
  const want: Key[] = [];
  let spent = root.count;
  const queue: Key[] = [ROOT];
  for (let key = queue.shift(); key; key = queue.shift()) {
    const own = counts(key) as Counts;
    const pixels = BASE * 2 ** (camera.zoom - key.z);
    if (own.count >= own.total || pixels <= BASE || key.z >= MAX_LEVEL) {
      draw.push(key);
      continue;
    }
    const inner = children(key)
      .filter((child) => overlaps(boundsOf(child), view))
      .sort((a, b) => distance(a, camera) - distance(b, camera));
    const guess = Math.min(own.count, own.total / 4);
    const cost = inner.reduce((sum, child) => sum + (counts(child)?.count ?? guess), 0);
    if (inner.length > 0 && spent - own.count + cost > budget) {
      draw.push(key);
      continue;
    }
    const missing = inner.filter((child) => !counts(child));
    want.push(...missing);
    if (missing.length > 0 || inner.length === 0) {
      draw.push(key);
      continue;
    }
    spent += cost - own.count;
    queue.push(...inner);
  }
  return { draw, want };
}
