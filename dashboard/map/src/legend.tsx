// The legend: what colours mean, and a filter. Click shows or hides a value, double-click isolates it.

import { categoryColours, css, NOISE, ramp, ranked, type Column, type Palette } from "./colours";
import type { Selection } from "./selection";

const CLICK_MS = 230;
const FOLDED = 8;
const TOGGLE_MOST = 200;

interface Props {
  readonly column: Column;
  readonly palette: Palette;
  readonly selection: Selection;
  readonly filter: (values: string[] | null) => void;
}

/** Values that pass after a click on `value`; null means all. */
export function toggled(all: readonly string[], now: readonly string[] | null, value: string): string[] | null {
  if (now === null && all.length > TOGGLE_MOST) return [value];
  const before = new Set(now ?? all);
  if (!before.delete(value)) before.add(value);
  const after = all.filter((item) => before.has(item));
  return after.length === 0 || after.length === all.length ? null : after;
}

/** Values that pass after a double-click on `value`: it alone, or all again. */
export function isolated(now: readonly string[] | null, value: string): string[] | null {
  return now?.length === 1 && now[0] === value ? null : [value];
}

export function format(value: number, scale: Column["scale"] = "linear"): string {
  if (scale === "date") return new Date(value * 86_400_000).toISOString().slice(0, 10);
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 10_000 || size < 0.001) return value.toPrecision(2);
  return String(Number(value.toPrecision(3)));
}

export function Legend({ column, palette, selection, filter }: Props): React.ReactElement {
  return (
    <section className="sm-legend" aria-label={`Legend: ${column.label}`}>
      <span className="sm-legend__title">{column.label}</span>
      {column.kind === "category" ? (
        <Categories column={column} palette={palette} selection={selection} filter={filter} />
      ) : (
        <Scale column={column} palette={palette} />
      )}
    </section>
  );
}

function Scale({ column, palette }: { column: Column; palette: Palette }): React.ReactElement {
  const stops = [0, 0.2, 0.4, 0.6, 0.8, 1].map((t) => css(ramp(palette, t))).join(", ");
  return (
    <div className="sm-scale">
      <span>{format(column.low, column.scale)}</span>
      <div className="sm-scale__bar" style={{ background: `linear-gradient(90deg, ${stops})` }} />
      <span>{format(column.high, column.scale)}</span>
    </div>
  );
}

function Categories({ column, palette, selection, filter }: Props): React.ReactElement {
  const [all, setAll] = React.useState(false);
  const timer = React.useRef(0);
  const colours = React.useMemo(() => categoryColours(column, palette), [column, palette]);
  const asked = selection.filters[column.name];
  const now = Array.isArray(asked) ? (asked as readonly string[]) : null;
  const order = [
    ...ranked(column),
    // An empty category is a cluster that was merged into another: it has no points.
    ...column.categories.flatMap((category, code) => (NOISE.has(category) && category ? [code] : [])),
  ];
  const shown = all || order.length <= FOLDED + 2 ? order : order.slice(0, FOLDED);
  const click = (value: string, twice: boolean): void => {
    clearTimeout(timer.current);
    if (twice) filter(isolated(now, value));
    else timer.current = window.setTimeout(() => filter(toggled(column.categories.filter(Boolean), now, value)), CLICK_MS);
  };
  return (
    <ul className="sm-legend__list">
      {shown.map((code) => {
        const value = column.categories[code]!;
        const count = (column.counts[code] ?? 0).toLocaleString("en");
        return (
          <li key={value}>
            <button
              type="button"
              className="sm-legend__item"
              aria-pressed={now === null || now.includes(value)}
              title={`${column.labels[code]}: ${count}. Click: show or hide. Double-click: only this one`}
              onClick={(event) => click(value, event.detail === 2)}
            >
              <span className="sm-swatch" style={{ background: css(colours[code]!) }} />
              <span className="sm-legend__label">{column.labels[code]}</span>
            </button>
          </li>
        );
      })}
      {(order.length > shown.length || all) && (
        <li>
          <button type="button" className="sm-link" onClick={() => setAll(!all)}>
            {all ? "Fewer" : `All ${order.length}`}
          </button>
        </li>
      )}
    </ul>
  );
}
