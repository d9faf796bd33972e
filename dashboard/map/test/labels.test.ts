import assert from "node:assert/strict";
import { test } from "node:test";
import { fit, WORLD } from "../src/camera";
import { place, short, type Label } from "../src/labels";

const SIZE = { width: 800, height: 600 };
const CAMERA = fit(WORLD, SIZE);

const at = (text: string, x: number, y: number, size: number): Label => ({ text, x, y, size });

test("names keep their first terms, or are cut, when there is little room", () => {
  assert.equal(short("Water joint · MDPE, blue", 40), "Water joint · MDPE, blue");
  assert.equal(short("Water joint · MDPE, blue", 20), "Water joint");
  assert.equal(short("A name that somebody typed", 10), "A name th…");
  assert.equal(short("", 10), "");
});

test("the larger cluster keeps its place, the next moves aside, more hide", () => {
  const labels = [4, 3, 2, 1].map((size) => at(`Cluster ${size}`, 0.5, 0.5, size));
  const placed = place(labels, CAMERA, SIZE, 26);
  assert.deepEqual(
    placed.map(({ text, py }) => [text, py]),
    [
      ["Cluster 4", 300],
      ["Cluster 3", 282],
      ["Cluster 2", 318],
    ],
  );
  const closer = { ...CAMERA, zoom: CAMERA.zoom + 6 };
  const spread = labels.map((label, i) => ({ ...label, y: 0.5 + (i - 1.5) * 0.002 }));
  assert.ok(place(spread, CAMERA, SIZE, 26).length < 4);
  assert.equal(place(spread, closer, SIZE, 26).length, 4);
});

test("no two names touch, and none touches a control or the edge", () => {
  const labels = Array.from({ length: 60 }, (_, i) =>
    at(`Telecoms cable ${i}`, (i * 0.37) % 1, (i * 0.61) % 1, i),
  );
  const control = [0, 0, 300, 90] as const;
  const placed = place(labels, CAMERA, SIZE, 26, [control]);
  assert.ok(placed.length > 10);
  const boxes = placed.map(({ text, px, py }) => {
    const half = (text.length * 6.6) / 2;
    return [px - half, py - 9, px + half, py + 9] as const;
  });
  boxes.forEach((a, i) => {
    assert.ok(a[0] >= 0 && a[2] <= SIZE.width && a[1] >= 0 && a[3] <= SIZE.height);
    for (const b of [...boxes.slice(i + 1), control]) {
      assert.ok(a[2] <= b[0] || b[2] <= a[0] || a[3] <= b[1] || b[3] <= a[1]);
    }
  });
});
