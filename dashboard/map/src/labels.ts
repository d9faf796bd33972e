// Cluster names on the map: the largest first, none over another; the others show as one zooms in.

import { project, type Camera, type Size } from "./camera";

export interface Label {
  readonly text: string;
  readonly x: number;
  readonly y: number;
  readonly size: number;
}

export interface Placed {
  readonly text: string;
  readonly px: number;
  readonly py: number;
}

const CHARACTER = 6.6;
const HEIGHT = 18;
const GAP = 5;
const SHARE = 0.42;
const SHORTEST = 16;
const PART = " · ";

/** Where a name may go, in pixels below its place: a name that is hit moves before it hides. */
const SHIFTS = [0, -HEIGHT, HEIGHT];

/** Left, top, right, bottom in pixels. */
export type Box = readonly [number, number, number, number];

/** The name in at most `most` characters: by its first terms when it has several, else cut. */
export function short(text: string, most: number): string {
  const parts = text.split(PART);
  while (parts.length > 1 && parts.join(PART).length > most) parts.pop();
  const kept = [...parts.join(PART)];
  return kept.length <= most ? kept.join("") : `${kept.slice(0, most - 1).join("").trimEnd()}…`;
}

/** `taken` are boxes that no label may touch: the map's own controls. */
export function place(
  labels: readonly Label[],
  camera: Camera,
  size: Size,
  most: number,
  taken: readonly Box[] = [],
): Placed[] {
  const boxes: Box[] = [...taken];
  const placed: Placed[] = [];
  const longest = Math.max(SHORTEST, Math.floor((size.width * SHARE) / CHARACTER));
  const free = (box: Box): boolean =>
    !boxes.some((b) => b[0] < box[2] && b[2] > box[0] && b[1] < box[3] && b[3] > box[1]);
  for (const label of [...labels].sort((a, b) => b.size - a.size)) {
    if (placed.length >= most) break;
    const [x, y] = project(camera, size, label.x, label.y);
    if (x < 0 || x > size.width) continue;
    const text = short(label.text, longest);
    const half = ([...text].length * CHARACTER) / 2 + 4;
    if (2 * half > size.width) continue;
    const px = Math.min(Math.max(x, half), size.width - half);
    for (const shift of SHIFTS) {
      const py = y + shift;
      if (py < HEIGHT || py > size.height - HEIGHT) continue;
      const box: Box = [px - half - GAP, py - HEIGHT / 2, px + half + GAP, py + HEIGHT / 2];
      if (!free(box)) continue;
      boxes.push(box);
      placed.push({ text, px, py });
      break;
    }
  }
  return placed;
}
