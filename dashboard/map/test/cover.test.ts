import assert from "node:assert/strict";
import { test } from "node:test";

import { visible } from "../src/camera";
import { boundsOf, name, overlaps, plan, ROOT, type Counts, type Key } from "../src/cover";

const SIZE = { width: 1000, height: 800 };

/** A collection of `rows` rows spread evenly, tiles capped at `cap`. */
function world(rows: number, cap: number, loaded: (key: Key) => boolean) {
  return (key: Key): Counts | undefined => {
    if (!loaded(key)) return undefined;
    const total = Math.round(rows * 4 ** -key.z);
    return { count: Math.min(total, cap), total };
  };
}

const ALL = (): boolean => true;

test("the root is asked for first", () => {
  const none = world(10, 100, () => false);
  assert.deepEqual(plan(none, { x: 0.5, y: 0.5, zoom: 0 }, SIZE, 1000), { draw: [], want: [ROOT] });
});

test("a root that holds everything is all there ever is to draw", () => {
  const { draw, want } = plan(world(500, 1000, ALL), { x: 0.5, y: 0.5, zoom: 9 }, SIZE, 100_000);
  assert.deepEqual([draw, want], [[ROOT], []]);
});

test("drawn tiles cover the view without overlap", () => {
  const camera = { x: 0.31, y: 0.64, zoom: 3.4 };
  const { draw, want } = plan(world(4_000_000, 5_000, ALL), camera, SIZE, 1_000_000);
  assert.equal(want.length, 0);
  const view = visible(camera, SIZE);
  for (let i = 0; i < 400; i += 1) {
    const x = view.minX + ((i % 20) + 0.5) * ((view.maxX - view.minX) / 20);
    const y = view.minY + (Math.floor(i / 20) + 0.5) * ((view.maxY - view.minY) / 20);
    if (x < 0 || x >= 1 || y < 0 || y >= 1) continue;
    const spot = { minX: x, maxX: x + 1e-12, minY: y, maxY: y + 1e-12 };
    assert.equal(draw.filter((key) => overlaps(boundsOf(key), spot)).length, 1);
  }
});

test("a parent is drawn until all of its visible children are there", () => {
  const camera = { x: 0.5, y: 0.5, zoom: 1 };
  const three = world(1_000_000, 5_000, (key) => key.z === 0 || (key.z === 1 && name(key) !== "1/1/1"));
  const waiting = plan(three, camera, SIZE, 1_000_000);
  assert.deepEqual(waiting.draw, [ROOT]);
  assert.deepEqual(waiting.want.map(name), ["1/1/1"]);
  const four = world(1_000_000, 5_000, (key) => key.z <= 1);
  assert.deepEqual(plan(four, camera, SIZE, 1_000_000).draw.map(name).sort(), ["1/0/0", "1/0/1", "1/1/0", "1/1/1"]);
});

test("the points of a frame stay within the budget", () => {
  const counts = world(100_000_000, 50_000, ALL);
  for (const budget of [60_000, 200_000, 700_000]) {
    for (let zoom = -1; zoom < 10; zoom += 0.7) {
      const { draw } = plan(counts, { x: 0.42, y: 0.58, zoom }, SIZE, budget);
      const points = draw.reduce((sum, key) => sum + counts(key)!.count, 0);
      assert.ok(points <= budget, `${points} at zoom ${zoom}`);
    }
  }
});
