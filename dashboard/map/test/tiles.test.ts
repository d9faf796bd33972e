import assert from "node:assert/strict";
import { test } from "node:test";

import { pick, beside } from "../src/picking";
import { inside, matcher, type Selection } from "../src/selection";
import { parse } from "../src/tile";
import { Tiles, type Loaded } from "../src/tiles";
import type { Column } from "../src/colours";

function body(points: readonly [number, number, number, number][], total = points.length): ArrayBuffer {
  const n = points.length;
  const buffer = new ArrayBuffer(16 + 16 * n);
  new Uint32Array(buffer, 0, 4).set([1, n, total, 0]);
  for (const [column, type] of [Float32Array, Float32Array, Uint32Array, Float32Array].entries()) {
    new type(buffer, 16 + 4 * n * column, n).set(points.map((point) => point[column]!));
  }
  return buffer;
}

const POINTS: [number, number, number, number][] = [[0.25, 0.25, 7, 0], [0.75, 0.5, 3, 1], [0.5, 0.75, 9, Number.NaN]];

const settle = (): Promise<void> => new Promise((done) => setTimeout(done, 0));

test("a tile body is read as it was written", () => {
  const tile = parse(body(POINTS, 40));
  assert.deepEqual([tile.count, tile.total, [...tile.row]], [3, 40, [7, 3, 9]]);
  assert.deepEqual([...tile.x], [0.25, 0.75, 0.5]);
  assert.ok(Number.isNaN(tile.value[2]));
});

test("renewed tiles are drawn until they have come again, whatever was under way", async () => {
  const asked: string[] = [];
  let points = POINTS;
  const fetch = (url: string, signal: AbortSignal): Promise<ArrayBuffer> =>
    new Promise((resolve, reject) => {
      asked.push(url);
      const found = body(points);
      signal.addEventListener("abort", () => reject(new Error("aborted")));
      setTimeout(() => resolve(found), 0);
    });
  const tiles = new Tiles((key, column) => `${column} ${key.x}`, () => undefined, { capacity: 99, fetch });
  const [one, other] = [{ z: 1, x: 0, y: 0 }, { z: 1, x: 1, y: 0 }];
  const wanted = [one, other].flatMap((key) => ["a", "b"].map((column) => ({ key, column })));
  tiles.want(wanted.slice(0, 2));
  await settle();
  tiles.want(wanted);
  points = [...POINTS, [0.1, 0.1, 11, 2]];
  tiles.renew();
  assert.equal(tiles.busy, false);
  assert.equal(tiles.peek(one)?.count, 3);
  tiles.want(wanted);
  await settle();
  assert.deepEqual([...tiles.peek(one)!.row], [7, 3, 9, 11]);
  assert.deepEqual([...tiles.peek(one)!.values.keys()], ["a", "b"]);
  assert.equal(tiles.peek(other)?.count, 4);
  tiles.want(wanted);
  assert.equal(asked.length, 2 + 2 + 4);
  assert.equal(tiles.error, "");
});

test("an empty tile is a tile; a cut or unknown one is refused in words", () => {
  assert.equal(parse(body([])).count, 0);
  assert.throws(() => parse(body(POINTS).slice(0, 40)), /3 points has 64 bytes, got 40/);
  assert.throws(() => parse(new ArrayBuffer(3)), /16 bytes, got 3/);
  const newer = body(POINTS);
  new Uint32Array(newer, 0, 1)[0] = 2;
  assert.throws(() => parse(newer), /version 1 is known, got 2/);
});

test("what the camera left behind is aborted, the least recently used tile is forgotten", async () => {
  const asked: string[] = [];
  const aborted: string[] = [];
  const fetch = (url: string, signal: AbortSignal): Promise<ArrayBuffer> =>
    new Promise((resolve, reject) => {
      asked.push(url);
      signal.addEventListener("abort", () => {
        aborted.push(url);
        reject(new Error("aborted"));
      });
      setTimeout(() => resolve(body(POINTS)), 0);
    });
  const tiles = new Tiles((key, column) => `${column} ${key.z}/${key.x}`, () => undefined, { capacity: 6, fetch });
  const key = (x: number) => ({ z: 1, x, y: 0 });
  tiles.want([{ key: key(0), column: "a" }, { key: key(1), column: "a" }]);
  tiles.want([{ key: key(1), column: "a" }]);
  assert.deepEqual(aborted, ["a 1/0"]);
  await settle();
  assert.equal(tiles.peek(key(1))?.count, 3);
  assert.equal(tiles.error, "");
  for (const x of [2, 3]) {
    tiles.get(key(1));
    tiles.want([{ key: key(x), column: "a" }]);
    await settle();
  }
  assert.ok(tiles.peek(key(1)) && tiles.peek(key(3)));
  assert.equal(tiles.peek(key(2)), undefined);
  tiles.want([{ key: key(1), column: "b" }]);
  await settle();
  assert.deepEqual([...tiles.peek(key(1))!.values.keys()], ["a", "b"]);
});

test("a failed tile is told, not asked again until someone retries", async () => {
  let calls = 0;
  const fetch = (): Promise<ArrayBuffer> => {
    calls += 1;
    return calls === 1 ? Promise.reject(new Error("the map server answered 503")) : Promise.resolve(body(POINTS));
  };
  const tiles = new Tiles(() => "", () => undefined, { capacity: 100, fetch });
  const wanted = [{ key: { z: 0, x: 0, y: 0 }, column: "a" }];
  tiles.want(wanted);
  await settle();
  tiles.want(wanted);
  assert.deepEqual([calls, tiles.error], [1, "the map server answered 503"]);
  tiles.retry();
  tiles.want(wanted);
  await settle();
  assert.deepEqual([calls, tiles.error, tiles.busy], [2, "", false]);
});

const LOADED: Loaded = {
  key: { z: 0, x: 0, y: 0 },
  age: 0,
  ...parse(body(POINTS)),
  values: new Map([["kind", parse(body(POINTS)).value]]),
};

test("picking takes the nearest point within reach", () => {
  const camera = { x: 0.5, y: 0.5, zoom: 0 };
  const size = { width: 512, height: 512 };
  const any = () => () => true;
  assert.equal(pick([LOADED], camera, size, 0.75 * 512 + 4, 256, 9, any)?.row, 3);
  assert.equal(pick([LOADED], camera, size, 0.75 * 512 + 12, 256, 9, any), null);
  assert.equal(pick([LOADED], camera, size, 0.75 * 512, 256, 9, () => (i) => i !== 1), null);
});

test("a preview stays inside the viewport on every side", () => {
  const size = { width: 300, height: 300 };
  const card = { width: 196, height: 214 };
  for (const point of [{ x: 0, y: 0 }, { x: 1, y: 1 }, { x: 1, y: 0 }, { x: 0.5, y: 0.5 }]) {
    const [left, top] = beside({ x: 0.5, y: 0.5, zoom: -0.8 }, size, point, card);
    assert.ok(left >= 4 && left + card.width <= 296 && top >= 4 && top + card.height <= 296);
  }
});

test("shapes combine in the order they were drawn", () => {
  const left = { points: [[0, 0], [0.5, 0], [0.5, 1], [0, 1]] as const, mode: "union" as const };
  const top = [[0, 0], [1, 0], [1, 0.5], [0, 0.5]] as const;
  assert.ok(inside([left], 0.2, 0.2) && !inside([left], 0.8, 0.2));
  assert.ok(inside([left, { points: top, mode: "union" }], 0.8, 0.2));
  assert.ok(!inside([left, { points: top, mode: "subtract" }], 0.2, 0.2));
  assert.ok(inside([left, { points: top, mode: "intersect" }], 0.2, 0.2));
  assert.ok(!inside([left, { points: top, mode: "intersect" }], 0.2, 0.8));
  assert.ok(inside([{ points: top, mode: "subtract" }], 0.2, 0.8));
});

test("filters wait for their column, and missing values never match", () => {
  const kind: Column = {
    name: "kind", label: "Kind", kind: "category", categories: ["a", "b"], labels: ["a", "b"], counts: [], low: 0, high: 0,
  };
  const columns = new Map([["kind", kind]]);
  const only = (filters: Selection["filters"]) => matcher({ polygons: [], filters }, columns)(LOADED);
  assert.equal(only({ depth: { low: 0, high: null } }), null);
  assert.deepEqual([0, 1, 2].map(only({ kind: ["b"] })!), [false, true, false]);
  assert.deepEqual([0, 1, 2].map(only({ kind: { low: null, high: 0.5 } })!), [true, false, false]);
  const days = (low: string | null, high: string | null) => [0, 1, 2].map(only({ kind: { low, high } })!);
  assert.deepEqual(days("1970-01-02", null), [false, true, false]);
  assert.deepEqual(days("1969-12-31", "1970-01-01"), [true, false, false]);
});
