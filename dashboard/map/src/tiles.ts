// The tile cache: fetches, aborts what the camera left behind, forgets the least recently drawn.

import { name, type Key } from "./cover";
import { reason } from "./server";
import { parse, type Tile } from "./tile";

/** The points of a tile; values arrive one column at a time and share the point order. */
export interface Loaded {
  readonly key: Key;
  readonly count: number;
  readonly total: number;
  readonly x: Float32Array;
  readonly y: Float32Array;
  readonly row: Uint32Array;
  readonly values: Map<string, Float32Array>;
  /** How often the tiles had been renewed when it came. */
  readonly age: number;
}

export type Fetch = (url: string, signal: AbortSignal) => Promise<ArrayBuffer>;

export async function fetchBody(url: string, signal: AbortSignal): Promise<ArrayBuffer> {
  const answer = await fetch(url, { signal });
  if (!answer.ok) throw new Error(await reason(answer));
  return answer.arrayBuffer();
}

export class Tiles {
  private readonly loaded = new Map<string, Loaded>();
  private readonly pending = new Map<string, AbortController>();
  private readonly failures = new Map<string, string>();
  private points = 0;
  private renewals = 0;

  constructor(
    private readonly url: (key: Key, column: string) => string,
    private readonly changed: () => void,
    private readonly options: { capacity: number; fetch: Fetch } = {
      capacity: 2_000_000,
      fetch: fetchBody,
    },
  ) {}

  /** The tile, marked as recently used. */
  get(key: Key): Loaded | undefined {
    const id = name(key);
    const tile = this.loaded.get(id);
    if (tile) {
      this.loaded.delete(id);
      this.loaded.set(id, tile);
    }
    return tile;
  }

  peek(key: Key): Loaded | undefined {
    return this.loaded.get(name(key));
  }

  all(): Iterable<Loaded> {
    return this.loaded.values();
  }

  /** How often they were renewed: a tile of another age is drawn until it has come again. */
  get age(): number {
    return this.renewals;
  }

  get busy(): boolean {
    return this.pending.size > 0;
  }

  get error(): string {
    return this.failures.values().next().value ?? "";
  }

  retry(): void {
    this.failures.clear();
    this.changed();
  }

  /** The map has new points, or columns mean something else: what is held is drawn until it has come again. */
  renew(): void {
    for (const controller of this.pending.values()) controller.abort();
    this.pending.clear();
    this.failures.clear();
    this.renewals += 1;
    this.changed();
  }

  /** Asks for exactly these; requests under way for anything else are aborted. */
  want(requests: readonly { key: Key; column: string }[]): void {
    const ids = new Set(requests.map(({ key, column }) => `${column}|${name(key)}`));
    for (const [id, controller] of this.pending) {
      if (!ids.has(id)) {
        this.pending.delete(id);
        controller.abort();
      }
    }
    for (const { key, column } of requests) {
      const id = `${column}|${name(key)}`;
      if (this.pending.has(id) || this.failures.has(id)) continue;
      const held = this.loaded.get(name(key));
      if (held?.age === this.age && held.values.has(column)) continue;
      void this.load(id, key, column);
    }
  }

  clear(): void {
    for (const controller of this.pending.values()) controller.abort();
    this.pending.clear();
    this.failures.clear();
    this.loaded.clear();
    this.points = 0;
  }

  private async load(id: string, key: Key, column: string): Promise<void> {
    const controller = new AbortController();
    this.pending.set(id, controller);
    try {
      const body = await this.options.fetch(this.url(key, column), controller.signal);
      if (this.pending.get(id) !== controller) return;
      this.pending.delete(id);
      this.store(key, column, parse(body));
    } catch (error) {
      if (this.pending.get(id) !== controller) return;
      this.pending.delete(id);
      this.failures.set(id, error instanceof Error ? error.message : String(error));
    }
    this.changed();
  }

  private store(key: Key, column: string, tile: Tile): void {
    const id = name(key);
    const known = this.loaded.get(id);
    if (known && known.age === this.age && known.count === tile.count) {
      known.values.set(column, tile.value);
      return;
    }
    const { count, total, x, y, row } = tile;
    const { age } = this;
    this.loaded.set(id, { key, count, total, x, y, row, age, values: new Map([[column, tile.value]]) });
    this.points += count - (known?.count ?? 0);
    for (const [oldest, old] of this.loaded) {
      if (this.points <= this.options.capacity || oldest === id) break;
      this.loaded.delete(oldest);
      this.points -= old.count;
    }
  }
}
