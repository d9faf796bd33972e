import assert from "node:assert/strict";
import { test } from "node:test";

import { area, box, contains, rounded, simplify, type Point } from "../src/polygon";

const SQUARE: Point[] = [[0, 0], [4, 0], [4, 4], [0, 4]];

test("even-odd rule: inside, outside, concave, self-crossing, degenerate", () => {
  assert.ok(contains(SQUARE, 1, 3));
  assert.ok(!contains(SQUARE, 5, 3));
  const notch: Point[] = [[0, 0], [4, 0], [4, 4], [2, 1], [0, 4]];
  assert.ok(!contains(notch, 2, 2));
  assert.ok(contains(notch, 0.5, 2));
  // A ring that goes round twice encloses its middle an even number of times.
  assert.ok(!contains([...SQUARE, ...SQUARE], 1, 1));
  assert.ok(!contains([], 0, 0));
  assert.ok(!contains([[1, 1], [2, 2]], 1.5, 1.5));
});

test("a box has its corners in order whichever way it was drawn", () => {
  assert.deepEqual(box([4, 4], [0, 0]), SQUARE);
  assert.equal(area(box([0, 4], [4, 0])), 16);
});

test("simplify keeps both ends and stays within the tolerance", () => {
  const line = Array.from({ length: 200 }, (_, i): Point => [i, 20 * Math.sin(i / 15)]);
  const few = simplify(line, 0.5);
  assert.ok(few.length < 60);
  assert.deepEqual([few[0], few.at(-1)], [line[0], line.at(-1)]);
  for (const [x, y] of line) {
    const at = few.findIndex(([fx]) => fx >= x);
    const [b, a] = [few[at]!, few[Math.max(at - 1, 0)]!];
    const on = b[0] === a[0] ? b[1] : a[1] + ((b[1] - a[1]) * (x - a[0])) / (b[0] - a[0]);
    assert.ok(Math.abs(on - y) <= 0.75, `${Math.abs(on - y)} off at ${x}`);
  }
});

test("rounding keeps a point within half a step", () => {
  assert.deepEqual(rounded([[0.1234567, 1 / 3]]), [[0.12346, 0.33333]]);
});
