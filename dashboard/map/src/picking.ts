// Which point lies under a pixel: a scan of the drawn tiles, exact and without reading the GPU back.

import { project, scaleOf, type Camera, type Size } from "./camera";
import type { Loaded } from "./tiles";

export interface Picked {
  readonly row: number;
  readonly x: number;
  readonly y: number;
}

/** The nearest point within `radius` pixels; `usable` leaves out points that are dimmed. */
export function pick(
  tiles: Iterable<Loaded>,
  camera: Camera,
  size: Size,
  px: number,
  py: number,
  radius: number,
  usable: (tile: Loaded) => (i: number) => boolean,
): Picked | null {
  const scale = scaleOf(camera);
  const wx = (px - size.width / 2) / scale + camera.x;
  const wy = (py - size.height / 2) / scale + camera.y;
  let best = (radius / scale) ** 2;
  let found: Picked | null = null;
  for (const tile of tiles) {
    const counts = usable(tile);
    for (let i = 0; i < tile.count; i += 1) {
      const dx = tile.x[i]! - wx;
      const dy = tile.y[i]! - wy;
      const distance = dx * dx + dy * dy;
      if (distance > best || !counts(i)) continue;
      best = distance;
      found = { row: tile.row[i]!, x: tile.x[i]!, y: tile.y[i]! };
    }
  }
  return found;
}

/** Where a row is, or null when no loaded tile holds it. */
export function locate(tiles: Iterable<Loaded>, row: number): [number, number] | null {
  for (const tile of tiles) {
    const i = tile.row.indexOf(row);
    if (i >= 0) return [tile.x[i]!, tile.y[i]!];
  }
  return null;
}

/** Top left corner of a card beside a point, kept inside the viewport. */
export function beside(
  camera: Camera,
  size: Size,
  point: { x: number; y: number },
  card: Size,
  gap = 14,
): [number, number] {
  const [px, py] = project(camera, size, point.x, point.y);
  const right = px + gap + card.width <= size.width - 4;
  const left = right ? px + gap : px - gap - card.width;
  const inside = (value: number, most: number): number => Math.max(4, Math.min(value, most - 4));
  return [
    inside(left, size.width - card.width),
    inside(py - card.height / 2, size.height - card.height),
  ];
}
