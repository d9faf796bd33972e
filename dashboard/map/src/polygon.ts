// Polygons in world coordinates: the even-odd rule, shared with the server's exact count.

export type Point = readonly [number, number];

/** Even-odd rule; the ring closes itself. Fewer than three points enclose nothing. */
export function contains(ring: readonly Point[], x: number, y: number): boolean {
  let inside = false;
  for (let i = 0, j = ring.length - 1; i < ring.length; j = i, i += 1) {
    const [xi, yi] = ring[i] as Point;
    const [xj, yj] = ring[j] as Point;
    if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) inside = !inside;
  }
  return inside;
}

export function box(a: Point, b: Point): Point[] {
  const [left, right] = [Math.min(a[0], b[0]), Math.max(a[0], b[0])];
  const [top, bottom] = [Math.min(a[1], b[1]), Math.max(a[1], b[1])];
  return [
    [left, top],
    [right, top],
    [right, bottom],
    [left, bottom],
  ];
}

export function area(ring: readonly Point[]): number {
  let twice = 0;
  for (let i = 0, j = ring.length - 1; i < ring.length; j = i, i += 1) {
    const [xi, yi] = ring[i] as Point;
    const [xj, yj] = ring[j] as Point;
    twice += xj * yi - xi * yj;
  }
  return Math.abs(twice) / 2;
}

function distanceToSegment(p: Point, a: Point, b: Point): number {
  const [dx, dy] = [b[0] - a[0], b[1] - a[1]];
  const length = dx * dx + dy * dy;
  const t =
    length === 0
      ? 0
      : Math.min(1, Math.max(0, ((p[0] - a[0]) * dx + (p[1] - a[1]) * dy) / length));
  return Math.hypot(p[0] - a[0] - t * dx, p[1] - a[1] - t * dy);
}

/** Douglas-Peucker on an open line: every dropped point lies within `tolerance` of the result. */
export function simplify(line: readonly Point[], tolerance: number): Point[] {
  if (line.length < 3) return [...line];
  const keep = new Uint8Array(line.length);
  keep[0] = 1;
  keep[line.length - 1] = 1;
  const stack: [number, number][] = [[0, line.length - 1]];
  for (let span = stack.pop(); span; span = stack.pop()) {
    const [first, last] = span;
    let worst = tolerance;
    let at = -1;
    for (let i = first + 1; i < last; i += 1) {
      const distance = distanceToSegment(line[i]!, line[first]!, line[last]!);
      if (distance > worst) {
        worst = distance;
        at = i;
      }
    }
    if (at >= 0) {
      keep[at] = 1;
      stack.push([first, at], [at, last]);
    }
  }
  return line.filter((_, i) => keep[i] === 1);
}

/** Rounds to 5 decimals (a hundredth of a pixel at zoom 1), so that a shared URL stays short. */
export function rounded(ring: readonly Point[]): Point[] {
  const round = (value: number): number => Math.round(value * 1e5) / 1e5;
  return ring.map(([x, y]) => [round(x), round(y)] as const);
}
