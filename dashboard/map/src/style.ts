// Points of one tile as binary attributes for the GPU: dimmed ones first, so that they lie below,
// and those in `bright` (rows that stay clear whatever the selection) last.

import type { Palette, Rgb } from "./colours";
import type { Loaded } from "./tiles";

export interface Drawable {
  readonly length: number;
  readonly attributes: {
    readonly getPosition: { readonly value: Float32Array; readonly size: 2 };
    readonly getFillColor: {
      readonly value: Uint8Array;
      readonly size: 4;
      readonly normalized: true;
    };
  };
  /** Points that are not dimmed. */
  readonly matching: number;
}

const ALPHA = { clear: 225, grey: 165, dim: { light: 46, dark: 52 } } as const;

export function drawable(
  tile: Loaded,
  values: Float32Array | undefined,
  paint: (value: number) => Rgb | null,
  matches: ((i: number) => boolean) | null,
  { theme, grey }: Palette,
  dimmed: boolean,
  bright: ReadonlySet<number>,
): Drawable {
  const { count } = tile;
  const layer = new Uint8Array(count);
  const starts = [0, 0, 0, 0];
  let matching = 0;
  const colours: (Rgb | null)[] = new Array(count);
  for (let i = 0; i < count; i += 1) {
    const passes = matches === null || matches(i);
    if (passes) matching += 1;
    const colour = values ? paint(values[i]!) : null;
    colours[i] = colour;
    layer[i] = bright.has(tile.row[i]!) ? 3 : !passes ? 0 : colour === null ? 1 : 2;
    starts[layer[i]!]! += 1;
  }
  const next = [0, starts[0]!, starts[0]! + starts[1]!, count - starts[3]!];
  const position = new Float32Array(2 * count);
  const fill = new Uint8Array(4 * count);
  for (let i = 0; i < count; i += 1) {
    const below = layer[i] === 0;
    const at = next[layer[i]!]!;
    next[layer[i]!] = at + 1;
    position[2 * at] = tile.x[i]!;
    position[2 * at + 1] = tile.y[i]!;
    const colour = below ? grey : (colours[i] ?? grey);
    fill[4 * at] = colour[0];
    fill[4 * at + 1] = colour[1];
    fill[4 * at + 2] = colour[2];
    const alpha = colours[i] === null ? ALPHA.grey : ALPHA.clear;
    const faint = dimmed && layer[i] !== 3;
    fill[4 * at + 3] = below ? ALPHA.dim[theme] : faint ? Math.round(alpha * 0.32) : alpha;
  }
  return {
    length: count,
    attributes: {
      getPosition: { value: position, size: 2 },
      getFillColor: { value: fill, size: 4, normalized: true },
    },
    matching,
  };
}

/** Radius in pixels: points fill a steady share of the picture, whatever their number and the zoom. */
export function radiusOf(rows: number, scale: number): number {
  const free = Math.sqrt((0.13 * scale * scale) / (Math.PI * Math.max(rows, 1)));
  return Math.max(1.9, Math.min(6.5, free));
}
