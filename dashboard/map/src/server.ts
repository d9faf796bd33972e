// What the map asks the REST API for, beside tiles. Every answer is checked before use.

import type { Column } from "./colours";
import type { Label } from "./labels";

export interface RowInfo {
  readonly row: number;
  readonly imageId: string;
  readonly listingId: string;
  readonly title: string;
  readonly cluster: string;
  readonly x: number | null;
  readonly y: number | null;
}

type Json = Record<string, unknown>;

function list(value: unknown, key: string): Json[] {
  const found = Array.isArray(value) ? value : (value as Json | null)?.[key];
  if (!Array.isArray(found)) throw new Error(`the server's answer has no list of ${key}`);
  return found as Json[];
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

function texts(value: unknown): string[] {
  return Array.isArray(value) ? value.map(String) : [];
}

function number(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

/** What the API says went wrong, with what to do about it. */
export async function reason(answer: Response): Promise<string> {
  const said = (await answer.json().catch(() => null)) as Json | null;
  return text(said?.error) || `the server answered ${answer.status}`;
}

export class Server {
  /** Images placed on the map since it was made: tiles of that many never change. */
  placed = 0;
  /** Which reading of what was decided the page shows: a worker that knows an older one reads again. */
  edition = "";
  private readonly decided = new Set<string>();
  private readonly rows = new Map<number, RowInfo>();

  constructor(
    readonly api: string,
    readonly mapId: string,
  ) {}

  tile(z: number, x: number, y: number, column: string): string {
    const asked: Record<string, string> = { column, placed: String(this.placed) };
    // Not for columns that nobody decides: the browser keeps their tiles for good.
    if (this.edition && this.decided.has(column)) asked.edition = this.edition;
    return this.url(`map/tiles/${z}/${x}/${y}`, asked);
  }

  /** Names of clusters may be others now. */
  forget(): void {
    this.rows.clear();
  }

  thumbnail(imageId: string): string {
    return `${this.api}/images/${encodeURIComponent(imageId)}/thumbnail`;
  }

  async columns(signal: AbortSignal): Promise<Map<string, Column>> {
    const answer = list(await this.get(this.url("map/columns", {}), signal), "columns");
    const columns = answer.map((item): Column => {
      const categories = texts(item.keys);
      const labels = texts(item.labels);
      return {
        name: text(item.name),
        label: text(item.label) || text(item.name),
        kind: item.kind === "number" ? "number" : "category",
        categories,
        labels: categories.map((category, i) => labels[i] || category),
        counts: [],
        low: number(item.low) ?? 0,
        high: number(item.high) ?? 1,
        scale: item.scale === "date" ? "date" : "linear",
      };
    });
    for (const item of answer) if (item.decided === true) this.decided.add(text(item.name));
    return new Map(columns.map((column) => [column.name, column]));
  }

  /** Rows of each category over the whole map, by column name. */
  async counts(signal: AbortSignal): Promise<Map<string, Map<string, number>>> {
    const body = JSON.stringify({ polygons: [], filters: {} });
    const headers = { "content-type": "application/json" };
    const request = { method: "POST", body, headers, signal };
    const answer = list(await this.get(this.url("map/facets", {}), signal, request), "facets");
    return new Map(
      answer.map((facet) => [
        text(facet.name),
        new Map(list(facet.values, "values").map((v) => [text(v.value), number(v.total) ?? 0])),
      ]),
    );
  }

  async labels(signal: AbortSignal): Promise<Label[]> {
    const answer = list(await this.get(this.url("clusters", {}), signal), "clusters");
    return answer.flatMap((item) => {
      const [x, y] = [number(item.x), number(item.y)];
      if (x === null || y === null) return [];
      return [{ text: text(item.name), x, y, size: number(item.size) ?? 0 }];
    });
  }

  async row(row: number, signal?: AbortSignal): Promise<RowInfo> {
    const known = this.rows.get(row);
    if (known) return known;
    const url = this.url("map/rows", { rows: String(row) });
    const item = list(await this.get(url, signal), "rows")[0];
    if (!item) throw new Error(`the map has no row ${row}`);
    const info: RowInfo = {
      row,
      imageId: text(item.image_id),
      listingId: text(item.listing_id),
      title: text(item.title),
      cluster: text(item.cluster_name),
      x: number(item.x),
      y: number(item.y),
    };
    this.rows.set(row, info);
    return info;
  }

  private url(path: string, query: Record<string, string>): string {
    const all = this.mapId ? { ...query, map_id: this.mapId } : query;
    const search = new URLSearchParams(all).toString();
    return `${this.api}/${path}${search ? `?${search}` : ""}`;
  }

  private async get(url: string, signal?: AbortSignal, init: RequestInit = {}): Promise<unknown> {
    const answer = await fetch(url, { ...init, ...(signal ? { signal } : {}) });
    if (!answer.ok) throw new Error(await reason(answer));
    return answer.json();
  }
}
