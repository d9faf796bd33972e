// The selection shared with the server: filters by column and polygons. Here it runs over the points
// that are loaded, to dim the rest; the exact count over all rows is the server's.

import type { Column } from "./colours";
import type { Loaded } from "./tiles";
import { contains, type Point } from "./polygon";

export type Mode = "union" | "subtract" | "intersect";

export interface Ring {
  readonly points: readonly Point[];
  readonly mode: Mode;
}

/** Bounds are numbers, or ISO dates of a column of days since 1970-01-01. */
export interface Range {
  readonly low: number | string | null;
  readonly high: number | string | null;
}

export interface Selection {
  readonly polygons: readonly Ring[];
  readonly filters: Readonly<Record<string, readonly string[] | Range>>;
}

export const EVERYTHING: Selection = { polygons: [], filters: {} };

export function isEmpty(selection: Selection): boolean {
  return selection.polygons.length === 0 && Object.keys(selection.filters).length === 0;
}

/** Polygons apply in order: a first subtract or intersect starts from everything. */
export function inside(rings: readonly Ring[], x: number, y: number): boolean {
  let result = rings.length === 0 || rings[0]!.mode !== "union";
  for (const { points, mode } of rings) {
    const hit = contains(points, x, y);
    if (mode === "union") result = result || hit;
    else if (mode === "subtract") result = result && !hit;
    else result = result && hit;
  }
  return result;
}

function bound(side: number | string | null, open: number): number {
  if (typeof side === "string") return Date.parse(`${side}T00:00:00Z`) / 86_400_000;
  return side ?? open;
}

type Test = (value: number) => boolean;

function test(column: Column | undefined, filter: readonly string[] | Range): Test {
  if (Array.isArray(filter)) {
    const wanted = new Set<string>(filter);
    const passes = (column?.categories ?? []).map((category) => wanted.has(category));
    return (value) => passes[value] === true;
  }
  const range = filter as Range;
  const low = bound(range.low, -Infinity);
  const high = bound(range.high, Infinity);
  return (value) => value >= low && value <= high;
}

/**
 * A predicate over the points of a tile, or null while a column it needs is not loaded there.
 */
export function matcher(
  selection: Selection,
  columns: ReadonlyMap<string, Column>,
): (tile: Loaded) => ((i: number) => boolean) | null {
  const tests = Object.entries(selection.filters).map(
    ([name, filter]) => [name, test(columns.get(name), filter)] as const,
  );
  return (tile) => {
    const checks: [Float32Array, Test][] = [];
    for (const [name, check] of tests) {
      const values = tile.values.get(name);
      if (!values) return null;
      checks.push([values, check]);
    }
    return (i) =>
      checks.every(([values, check]) => check(values[i]!)) &&
      inside(selection.polygons, tile.x[i]!, tile.y[i]!);
  };
}
