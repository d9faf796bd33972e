// The map without React: keeps camera, tiles, selection and scene in step, and reports what happened.

import {
  between,
  fit,
  pan,
  project,
  same,
  scaleOf,
  unproject,
  visible,
  WORLD,
  zoomAt,
  type Bounds,
  type Camera,
  type Size,
} from "./camera";
import { painter, type Column, type Palette } from "./colours";
import { name, overlaps, boundsOf, plan, ROOT, type Key } from "./cover";
import { Gestures, type Tool } from "./gestures";
import type { Label } from "./labels";
import { locate, pick, type Picked } from "./picking";
import { area, box, rounded, simplify, type Point } from "./polygon";
import { Scene, type Ring } from "./scene";
import { isEmpty, matcher, type Selection } from "./selection";
import { Server, type RowInfo } from "./server";
import { drawable, radiusOf, type Drawable } from "./style";
import { background } from "./theme";
import { Tiles, type Loaded } from "./tiles";

export type State = "loading" | "ready" | "empty" | "error" | "unsupported";

export interface Status {
  readonly state: State;
  readonly message: string;
  /** Rows in the drawn tiles, how many of them are drawn, how many of those match the selection. */
  readonly total: number;
  readonly drawn: number;
  readonly matching: number;
  readonly rows: number;
}

export interface Options {
  readonly colour: string;
  readonly palette: Palette;
  readonly selection: Selection;
  readonly selected: number | null;
  readonly highlight: readonly number[];
  readonly dimmed: boolean;
  readonly tool: Tool;
}

export interface Events {
  status(status: Status): void;
  columns(columns: ReadonlyMap<string, Column>): void;
  hover(info: RowInfo | null): void;
  click(info: RowInfo, additive: boolean): void;
  clear(): void;
  select(points: readonly Point[]): void;
  drawing(kind: "box" | "lasso", path: readonly Point[]): void;
  camera(camera: Camera): void;
  /** Before every frame: what lies over the canvas follows the camera. */
  moved(camera: Camera, size: Size): void;
}

const HOVER_MS = 125;
const SETTLE_MS = 350;
const REACH = { mouse: 9, touch: 22 };
const BUDGET = 200_000;
const OUTLINED = 30_000;

export class View {
  readonly server: Server;
  size: Size = { width: 0, height: 0 };
  camera: Camera | null = null;
  columns: ReadonlyMap<string, Column> = new Map();
  labels: readonly Label[] = [];
  private options: Options;
  private readonly tiles: Tiles;
  private readonly scene: Scene;
  private readonly gestures: Gestures;
  private readonly resize: ResizeObserver;
  private readonly off = new AbortController();
  private readonly styled = new Map<string, { of: string; data: Drawable }>();
  private readonly places = new Map<number, Point | null>();
  private shown: Loaded[] = [];
  private hovered: Picked | null = null;
  private hoverTimer = 0;
  private settleTimer = 0;
  private frame = 0;
  private flight = 0;
  private style = 0;
  private problem = "";
  private descriptions = 0;
  private stale = false;
  private touched: boolean;
  private painted = false;
  private last = "";

  constructor(
    private readonly element: HTMLElement,
    canvas: HTMLCanvasElement,
    api: string,
    mapId: string,
    placed: number,
    edition: string,
    options: Options,
    camera: Camera | null,
    private readonly events: Events,
  ) {
    this.server = new Server(api, mapId);
    this.server.placed = placed;
    this.server.edition = edition;
    this.options = options;
    this.camera = camera;
    this.touched = camera !== null;
    this.tiles = new Tiles(
      (key, column) => this.server.tile(key.z, key.x, key.y, column),
      () => this.invalidate(),
    );
    this.scene = new Scene(canvas, {
      drawn: () => this.drawn(),
      failed: (message) => this.fail(message),
    });
    this.gestures = new Gestures(element, {
      tool: () => this.options.tool,
      pan: (dx, dy) => this.move((now) => pan(now, dx, dy)),
      zoom: (px, py, delta) => this.move((now) => zoomAt(now, this.size, px, py, delta)),
      hover: (px, py) => this.hover(px, py),
      leave: () => this.unhover(),
      click: (px, py, additive, touch) => this.click(px, py, additive, touch),
      fit: () => this.fit(),
      clear: () => this.events.clear(),
      draw: (kind, path, done) => this.draw(kind, path, done),
      cancelDraw: () => this.events.drawing("box", []),
    });
    this.resize = new ResizeObserver(() => this.measure());
    this.resize.observe(element);
    this.measure();
    void this.describe();
  }

  destroy(): void {
    this.off.abort();
    this.gestures.destroy();
    this.resize.disconnect();
    this.tiles.clear();
    clearTimeout(this.hoverTimer);
    clearTimeout(this.settleTimer);
    cancelAnimationFrame(this.frame);
    cancelAnimationFrame(this.flight);
    this.scene.destroy();
  }

  set(options: Options): void {
    const before = this.options;
    this.options = options;
    if (
      before.colour !== options.colour ||
      before.palette !== options.palette ||
      before.selection !== options.selection ||
      before.dimmed !== options.dimmed ||
      before.highlight !== options.highlight ||
      before.selected !== options.selected
    ) {
      this.style += 1;
    }
    if (options.selected !== null && options.selected !== before.selected) {
      void this.reveal(options.selected);
    }
    for (const row of options.highlight) void this.place(row);
    this.invalidate();
  }

  /**
   * Images were placed on the map, or its columns were decided or predicted anew: columns and counts
   * are asked for again, then the tiles.
   */
  renew(placed: number, edition: string): void {
    if (placed === this.server.placed && edition === this.server.edition) return;
    this.server.placed = placed;
    this.server.edition = edition;
    this.server.forget();
    this.stale = true;
    void this.describe();
  }

  retry(): void {
    this.problem = "";
    void this.describe();
    this.tiles.retry();
  }

  /** Flies to the whole map, or to the loaded points that match when something is selected. */
  fit(): void {
    this.fly(fit(this.extent(), this.size, this.margin()));
  }

  zoom(delta: number): void {
    if (!this.camera) return;
    this.fly(zoomAt(this.camera, this.size, this.size.width / 2, this.size.height / 2, delta));
  }

  fly(target: Camera): void {
    const from = this.camera;
    cancelAnimationFrame(this.flight);
    if (!from || same(from, target) || matchMedia("(prefers-reduced-motion: reduce)").matches) {
      this.move(() => target);
      return;
    }
    const start = performance.now();
    const step = (now: number): void => {
      const t = Math.min(1, (now - start) / 280);
      this.move(() => between(from, target, Math.max(0, t)), true);
      if (t < 1) this.flight = requestAnimationFrame(step);
    };
    this.flight = requestAnimationFrame(step);
  }

  /** Pixel of a row, relative to the canvas; null when no drawn tile holds it. */
  project(row: number): [number, number] | null {
    const at = locate(this.shown, row);
    return at && this.camera ? project(this.camera, this.size, at[0], at[1]) : null;
  }

  /** Rows that are drawn now, at most `limit` of them. */
  rows(limit: number): number[] {
    const found: number[] = [];
    for (const tile of this.shown) {
      for (let i = 0; i < tile.count && found.length < limit; i += 1) found.push(tile.row[i]!);
    }
    return found;
  }

  status(): Status {
    const total = this.shown.reduce((sum, tile) => sum + tile.total, 0);
    const drawn = this.shown.reduce((sum, tile) => sum + tile.count, 0);
    const rows = this.tiles.peek(ROOT)?.total ?? 0;
    const matching = this.shown.reduce(
      (sum, tile) => sum + (this.styled.get(name(tile.key))?.data.matching ?? tile.count),
      0,
    );
    const message = this.problem || this.tiles.error;
    let state: State = "loading";
    if (message) state = "error";
    else if (this.complete()) state = rows === 0 ? "empty" : "ready";
    return { state, message, total, drawn, matching, rows };
  }

  private complete(): boolean {
    return (
      this.painted && this.columns.size > 0 && !this.tiles.busy && this.tiles.peek(ROOT) !== undefined
    );
  }

  private async describe(): Promise<void> {
    const { signal } = this.off;
    this.descriptions += 1;
    const turn = this.descriptions;
    try {
      const columns = await this.server.columns(signal);
      const counts = await this.server.counts(signal);
      if (turn !== this.descriptions) return; // a newer one is under way
      this.columns = new Map(
        [...columns].map(([key, column]) => {
          const known = counts.get(key);
          const values = column.categories.map((category) => known?.get(category) ?? 0);
          return [key, { ...column, counts: values }];
        }),
      );
      this.style += 1;
      if (this.stale) {
        // With the columns: codes of a tile mean what the columns of its time say.
        this.stale = false;
        this.tiles.renew();
      }
      this.events.columns(this.columns);
      this.labels = await this.server.labels(signal);
      this.invalidate();
    } catch (error) {
      if (!signal.aborted) this.fail(error instanceof Error ? error.message : String(error));
    }
  }

  private fail(message: string): void {
    this.problem = message;
    this.report();
  }

  private extent(): Bounds {
    const root = this.tiles.peek(ROOT);
    if (!root || root.count === 0) return WORLD;
    const test = this.matches(root) ?? (() => true);
    const found = { minX: Infinity, minY: Infinity, maxX: -Infinity, maxY: -Infinity };
    for (let i = 0; i < root.count; i += 1) {
      if (!test(i)) continue;
      found.minX = Math.min(found.minX, root.x[i]!);
      found.maxX = Math.max(found.maxX, root.x[i]!);
      found.minY = Math.min(found.minY, root.y[i]!);
      found.maxY = Math.max(found.maxY, root.y[i]!);
    }
    return found.minX <= found.maxX ? found : WORLD;
  }

  private margin(): number {
    // At least the counter's height, so that no point of the whole map lies under it.
    return Math.max(36, Math.min(48, 0.07 * Math.min(this.size.width, this.size.height)));
  }

  private measure(): void {
    const { clientWidth: width, clientHeight: height } = this.element;
    if (width === 0 || height === 0) return;
    this.size = { width, height };
    // Until somebody looks around, the whole map stays in view whatever the size.
    if (!this.touched && this.camera) this.camera = fit(this.extent(), this.size, this.margin());
    this.invalidate();
  }

  private move(change: (now: Camera) => Camera, flying = false): void {
    if (!this.camera) return;
    if (!flying) cancelAnimationFrame(this.flight);
    this.touched = true;
    this.camera = change(this.camera);
    this.unhover();
    clearTimeout(this.settleTimer);
    this.settleTimer = window.setTimeout(() => {
      if (this.camera) this.events.camera(this.camera);
    }, SETTLE_MS);
    this.invalidate();
  }

  private invalidate(): void {
    if (this.frame || this.off.signal.aborted) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.render();
    });
  }

  private render(): void {
    if (this.size.width === 0) return;
    const root = this.tiles.peek(ROOT);
    if (!this.camera && root) this.camera = fit(this.extent(), this.size, this.margin());
    const camera = this.camera ?? fit(WORLD, this.size);
    const { draw, want } = plan((key) => this.tiles.peek(key), camera, this.size, BUDGET);
    const needed = new Set([this.options.colour, ...Object.keys(this.options.selection.filters)]);
    const asked: { key: Key; column: string }[] = [];
    for (const key of [...draw, ...want]) for (const column of needed) asked.push({ key, column });
    this.tiles.want(asked);
    const view = visible(camera, this.size);
    this.shown = draw
      .filter((key) => overlaps(boundsOf(key), view) || key.z === 0)
      .flatMap((key) => this.tiles.get(key) ?? []);
    const drawn = this.shown.reduce((sum, tile) => sum + tile.count, 0);
    const frame = new Map(this.shown.map((tile) => [name(tile.key), this.dress(tile)]));
    for (const id of this.styled.keys()) if (!frame.has(id)) this.styled.delete(id);
    this.painted = false;
    this.scene.draw({
      camera,
      tiles: frame,
      radius: radiusOf(drawn, scaleOf(camera)),
      outline: drawn <= OUTLINED ? background(this.element) : null,
      rings: this.rings(radiusOf(drawn, scaleOf(camera))),
    });
    this.events.moved(camera, this.size);
    this.report();
  }

  /** The tile as drawn; what it looked like stays until it and the columns it needs have arrived. */
  private dress(tile: Loaded): Drawable {
    const id = name(tile.key);
    const { colour, palette, selection, dimmed, highlight, selected } = this.options;
    const values = tile.age === this.tiles.age ? tile.values.get(colour) : undefined;
    const matches = isEmpty(selection) ? null : this.matches(tile);
    const waiting = !values || (matches === null && !isEmpty(selection));
    const of = `${this.style}|${waiting}|${tile.count}|${tile.age}`;
    const before = this.styled.get(id);
    if (before && (before.of === of || waiting)) return before.data;
    const paint = painter(this.columns.get(colour), palette);
    const bright = new Set(selected === null ? highlight : [selected, ...highlight]);
    const data = drawable(tile, values, paint, matches, palette, dimmed, bright);
    this.styled.set(id, { of, data });
    return data;
  }

  private matches(tile: Loaded): ((i: number) => boolean) | null {
    return matcher(this.options.selection, this.columns)(tile);
  }

  private rings(base: number): Ring[] {
    const dark = this.options.palette.theme === "dark";
    const ink: [number, number, number] = dark ? [255, 255, 255] : [16, 22, 32];
    const found: Ring[] = [];
    const add = (at: Point | null | undefined, grow: number, width: number, alpha: number): void => {
      if (!at) return;
      const fill = [...ink, alpha] as [number, number, number, number];
      found.push({ x: at[0], y: at[1], radius: base + grow, width, line: ink, fill });
    };
    for (const row of this.options.highlight) add(this.where(row), 2, 1.25, 0);
    if (this.hovered) add([this.hovered.x, this.hovered.y], 2.5, 1.5, 40);
    if (this.options.selected !== null) {
      add(this.where(this.options.selected), 1.5, 2.5, 0);
      add(this.where(this.options.selected), 8, 1.25, 26);
    }
    return found;
  }

  private where(row: number): Point | null {
    return locate(this.shown, row) ?? this.places.get(row) ?? null;
  }

  /** Learns where a row is that no drawn tile holds. */
  private async place(row: number): Promise<Point | null> {
    if (locate(this.tiles.all(), row)) return locate(this.tiles.all(), row);
    if (!this.places.has(row)) {
      this.places.set(row, null);
      try {
        const { x, y } = await this.server.row(row, this.off.signal);
        if (x !== null && y !== null) this.places.set(row, [x, y]);
        this.invalidate();
      } catch {
        this.places.delete(row); // asked again when the selection next changes
      }
    }
    return this.places.get(row) ?? null;
  }

  /** Brings a row into view, without moving when it is already there. */
  private async reveal(row: number): Promise<void> {
    const at = await this.place(row);
    if (!at || !this.camera) return;
    const [px, py] = project(this.camera, this.size, at[0], at[1]);
    const margin = 24;
    const inView =
      px > margin && py > margin && px < this.size.width - margin && py < this.size.height - margin;
    if (!inView) this.fly({ ...this.camera, x: at[0], y: at[1] });
  }

  private under(px: number, py: number, reach: number): Picked | null {
    if (!this.camera) return null;
    const onlyFilters = { ...this.options.selection, polygons: [] };
    const usable = matcher(onlyFilters, this.columns);
    const any = (): boolean => true;
    return pick(this.shown, this.camera, this.size, px, py, reach, (tile) => usable(tile) ?? any);
  }

  private hover(px: number, py: number): void {
    const found = this.under(px, py, REACH.mouse);
    if (found?.row === this.hovered?.row) return;
    this.unhover();
    if (!found) return;
    this.hovered = found;
    this.element.style.cursor = "pointer";
    this.invalidate();
    this.hoverTimer = window.setTimeout(() => void this.preview(found), HOVER_MS);
  }

  private async preview(point: Picked): Promise<void> {
    try {
      const info = await this.server.row(point.row, this.off.signal);
      if (this.hovered?.row === point.row) this.events.hover({ ...info, x: point.x, y: point.y });
    } catch {
      // A preview that cannot be had is left out; a click says what is wrong.
    }
  }

  private unhover(): void {
    clearTimeout(this.hoverTimer);
    if (!this.hovered) return;
    this.hovered = null;
    this.element.style.cursor = "";
    this.events.hover(null);
    this.invalidate();
  }

  private click(px: number, py: number, additive: boolean, touch: boolean): void {
    const found = this.under(px, py, touch ? REACH.touch : REACH.mouse);
    if (!found) return;
    clearTimeout(this.hoverTimer);
    this.events.hover(null);
    this.server
      .row(found.row, this.off.signal)
      .then((info) => this.events.click(info, additive))
      .catch((error: unknown) => {
        if (!this.off.signal.aborted) this.fail(error instanceof Error ? error.message : String(error));
      });
  }

  private draw(kind: "box" | "lasso", path: readonly Point[], done: boolean): void {
    this.events.drawing(kind, done ? [] : path);
    if (!done || !this.camera || path.length < 2) return;
    const [first, last] = [path[0]!, path[path.length - 1]!];
    const ring = kind === "box" ? box(first, last) : simplify(path, 1.5);
    if (ring.length < 3 || area(ring) < 16) return;
    const { camera, size } = this;
    this.events.select(rounded(ring.map(([px, py]) => unproject(camera, size, px, py))));
  }

  private drawn(): void {
    if (this.painted || this.frame) return;
    this.painted = true;
    this.report();
  }

  private report(): void {
    const status = this.status();
    const text = JSON.stringify(status);
    if (text === this.last) return;
    this.last = text;
    this.events.status(status);
  }
}
