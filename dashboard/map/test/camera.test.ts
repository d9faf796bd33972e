import assert from "node:assert/strict";
import { test } from "node:test";

import { between, clamp, fit, pan, project, unproject, zoomAt, type Camera } from "../src/camera";

const SIZE = { width: 800, height: 600 };
const CAMERA: Camera = { x: 0.3, y: 0.7, zoom: 2.5 };

const near = (a: number, b: number, slack = 1e-9): void => assert.ok(Math.abs(a - b) <= slack, `${a} != ${b}`);

test("unproject undoes project", () => {
  for (const [x, y] of [[0, 0], [0.5, 0.5], [0.91, 0.13]] as const) {
    const [px, py] = project(CAMERA, SIZE, x, y);
    const [wx, wy] = unproject(CAMERA, SIZE, px, py);
    near(wx, x);
    near(wy, y);
  }
});

test("the point under the cursor stays while zooming", () => {
  const at: [number, number] = [420, 250];
  const before = unproject(CAMERA, SIZE, ...at);
  const after = unproject(zoomAt(CAMERA, SIZE, ...at, 1.3), SIZE, ...at);
  near(after[0], before[0]);
  near(after[1], before[1]);
});

test("panning moves the world with the pointer", () => {
  const before = project(CAMERA, SIZE, 0.3, 0.7);
  const after = project(pan(CAMERA, 30, -12), SIZE, 0.3, 0.7);
  near(after[0] - before[0], 30, 1e-6);
  near(after[1] - before[1], -12, 1e-6);
});

test("fit shows the bounds whole, touching the padding on one axis", () => {
  const bounds = { minX: 0.2, minY: 0.4, maxX: 0.6, maxY: 0.5 };
  const camera = fit(bounds, SIZE, 50);
  const [left, top] = project(camera, SIZE, bounds.minX, bounds.minY);
  const [right, bottom] = project(camera, SIZE, bounds.maxX, bounds.maxY);
  near(left, 50, 1e-6);
  near(right, 750, 1e-6);
  assert.ok(top >= 50 && bottom <= 550);
});

test("fit of one point and of a tiny canvas is finite", () => {
  const point = { minX: 0.5, minY: 0.5, maxX: 0.5, maxY: 0.5 };
  assert.ok(Number.isFinite(fit(point, SIZE).zoom));
  assert.ok(Number.isFinite(fit(point, { width: 1, height: 1 }).zoom));
});

test("a camera from a hostile address is brought back over the world", () => {
  assert.deepEqual(clamp({ x: Number.NaN, y: 9, zoom: Infinity }), { x: 0.5, y: 1, zoom: 0 });
});

test("a flight starts and ends where it should", () => {
  const to = { x: 0.9, y: 0.1, zoom: 4 };
  assert.deepEqual(between(CAMERA, to, 0), CAMERA);
  const end = between(CAMERA, to, 1);
  near(end.x, 0.9);
  near(end.zoom, 4);
});
