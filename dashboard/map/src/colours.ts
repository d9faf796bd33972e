// Colours of points, from the page's tokens: categories differ in lightness as well as hue, and the ramp
// is monotonic in lightness, ending where the background contrasts most.

export type Theme = "light" | "dark";
export type Rgb = readonly [number, number, number];

export interface Column {
  readonly name: string;
  readonly label: string;
  readonly kind: "category" | "number";
  readonly categories: readonly string[];
  /** What a reader sees for each category; the category itself where there is no better word. */
  readonly labels: readonly string[];
  /** Rows of each category over the whole map, empty when unknown. */
  readonly counts: readonly number[];
  readonly low: number;
  readonly high: number;
  /** Numbers of the scale `date` are days since 1970-01-01. */
  readonly scale?: "linear" | "date";
}

export function hex(text: string): Rgb {
  const value = Number.parseInt(text.slice(1), 16);
  return [(value >> 16) & 255, (value >> 8) & 255, value & 255];
}

export function css(colour: Rgb): string {
  return `rgb(${colour.map(Math.round).join(" ")})`;
}

/** The colours of one theme. `grey` is for missing values and noise, `other` for what comes last. */
export interface Palette {
  readonly theme: Theme;
  readonly categories: readonly Rgb[];
  readonly ramp: readonly Rgb[];
  readonly grey: Rgb;
  readonly other: Rgb;
}

const CATEGORIES = 12;
const STEPS = 6;

export const PALETTES: Record<Theme, Palette> = {
  light: {
    theme: "light",
    categories: [
      "#0072b2", "#e08e00", "#009e73", "#cc6a9f", "#d55e00", "#3fa0dd",
      "#7a5bc7", "#8a9a1f", "#882255", "#2aa198", "#9c6b4e", "#b5478f",
    ].map(hex),
    ramp: ["#c3d3e6", "#86b0d6", "#5a82c4", "#6a4fa8", "#8a1f6d", "#6b0030"].map(hex),
    grey: hex("#a3acb8"),
    other: hex("#7b7f78"),
  },
  dark: {
    theme: "dark",
    categories: [
      "#4da3db", "#f2b134", "#2ec49a", "#e79ac6", "#f2824a", "#90cdf4",
      "#a78bf0", "#bccb4f", "#d5668f", "#5ccfc6", "#c79a7d", "#dd80c3",
    ].map(hex),
    ramp: ["#34466b", "#3b6ba5", "#3f97b0", "#74bf97", "#c7dc7c", "#fff3a6"].map(hex),
    grey: hex("#6b7686"),
    other: hex("#9aa19d"),
  },
};

/** The page's colours (`--cat-*`, `--seq-*`); those above where a style sheet has none. */
export function palette(theme: Theme, variable: (name: string) => string): Palette {
  const own = PALETTES[theme];
  const read = (name: string, fallback: Rgb): Rgb => {
    const value = variable(name).trim();
    return /^#[0-9a-f]{6}$/i.test(value) ? hex(value) : fallback;
  };
  return {
    ...own,
    categories: Array.from({ length: CATEGORIES }, (_, i) => read(`--cat-${i}`, own.categories[i]!)),
    ramp: Array.from({ length: STEPS }, (_, i) => read(`--seq-${i}`, own.ramp[i]!)),
    grey: read("--cat-none", own.grey),
  };
}

export const NOISE = new Set(["-1", ""]);

const SHADES = 3;

/** How many categories get a colour of their own. */
export const DISTINCT = CATEGORIES * SHADES;

function mix(a: Rgb, b: Rgb, t: number): Rgb {
  return [a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t];
}

export function ramp({ ramp: stops }: Palette, t: number): Rgb {
  const at = Math.min(1, Math.max(0, t)) * (stops.length - 1);
  const low = Math.min(Math.floor(at), stops.length - 2);
  return mix(stops[low]!, stops[low + 1]!, at - low);
}

export function slot({ theme, categories, other }: Palette, rank: number): Rgb {
  if (rank >= DISTINCT) return other;
  const colour = categories[rank % categories.length]!;
  const [near, far]: [Rgb, Rgb] = [[20, 24, 32], [255, 255, 255]];
  const turn = Math.floor(rank / categories.length);
  if (turn === 0) return colour;
  // The second round leans away from the page's colour, the third towards it.
  return mix(colour, (turn === 1) === (theme === "light") ? near : far, 0.42);
}

/** Category codes by size, largest first (ties by code); noise is left out. */
export function ranked(column: Column): number[] {
  return column.categories
    .map((_, code) => code)
    .filter((code) => !NOISE.has(column.categories[code]!))
    .sort((a, b) => (column.counts[b] ?? 0) - (column.counts[a] ?? 0) || a - b);
}

/** The colour of every category code. */
export function categoryColours(column: Column, colours: Palette): Rgb[] {
  const found: Rgb[] = column.categories.map(() => colours.grey);
  ranked(column).forEach((code, rank) => {
    found[code] = slot(colours, rank);
  });
  return found;
}

/** Colour of a point value; null where the value is missing, noise or unknown. */
export function painter(column: Column | undefined, colours: Palette): (value: number) => Rgb | null {
  if (!column) return () => null;
  if (column.kind === "category") {
    const found = categoryColours(column, colours);
    const grey = column.categories.map((category) => NOISE.has(category));
    return (value) => (grey[value] === false ? found[value]! : null);
  }
  const span = column.high - column.low;
  const steps = Array.from({ length: 256 }, (_, i) => ramp(colours, i / 255));
  return (value) => {
    if (Number.isNaN(value)) return null;
    const t = span > 0 ? (value - column.low) / span : 0.5;
    return steps[Math.round(Math.min(1, Math.max(0, t)) * 255)]!;
  };
}
