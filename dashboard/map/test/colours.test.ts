import assert from "node:assert/strict";
import { test } from "node:test";

import { categoryColours, DISTINCT, painter, palette, PALETTES, ramp, type Column, type Rgb } from "../src/colours";
import { cameraOf } from "../src/address";
import { counted } from "../src/component";
import { dragKind, wheelDelta } from "../src/gestures";
import { place } from "../src/labels";
import { format, isolated, toggled } from "../src/legend";
import { picture } from "../src/upload";

function column(categories: string[], counts: number[]): Column {
  return { name: "c", label: "C", kind: "category", categories, labels: categories, counts, low: 0, high: 1 };
}

const luminance = ([r, g, b]: Rgb): number => {
  const part = (v: number) => (v <= 10 ? v / 3294 : ((v / 255 + 0.055) / 1.055) ** 2.4);
  return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
};

test("the largest category gets the first colour; noise and missing values stay grey", () => {
  const colours = PALETTES.light;
  const found = categoryColours(column(["-1", "0", "1"], [900, 5, 50]), colours);
  assert.deepEqual(found, [colours.grey, colours.categories[1], colours.categories[0]]);
  const paint = painter(column(["-1", "0"], [1, 1]), colours);
  assert.deepEqual([paint(0), paint(Number.NaN), paint(7)], [null, null, null]);
  assert.deepEqual(paint(1), colours.categories[0]);
});

test("every category that can have a colour of its own has one; the rest share one", () => {
  for (const theme of ["light", "dark"] as const) {
    const names = Array.from({ length: DISTINCT + 5 }, (_, i) => `c${i}`);
    const found = categoryColours(column(names, names.map(() => 1)), PALETTES[theme]).map(String);
    assert.equal(new Set(found.slice(0, DISTINCT)).size, DISTINCT);
    assert.equal(new Set(found.slice(DISTINCT)).size, 1);
  }
});

test("points contrast with the page they lie on", () => {
  const pages = { light: [246, 246, 244], dark: [16, 18, 17] } as const;
  for (const theme of ["light", "dark"] as const) {
    for (const colour of PALETTES[theme].categories) {
      const [a, b] = [luminance(colour), luminance(pages[theme])];
      const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      assert.ok(contrast >= 2.2, `${theme} ${colour}: ${contrast}`);
    }
  }
});

test("the ramp is monotonic in lightness, towards contrast with the page", () => {
  for (const theme of ["light", "dark"] as const) {
    const steps = Array.from({ length: 30 }, (_, i) => luminance(ramp(PALETTES[theme], i / 29)));
    for (let i = 1; i < steps.length; i += 1) {
      assert.ok(theme === "light" ? steps[i]! < steps[i - 1]! : steps[i]! > steps[i - 1]!);
    }
  }
});

test("a column of one number does not divide by zero", () => {
  const flat: Column = { ...column([], []), kind: "number", low: 3, high: 3 };
  assert.deepEqual(painter(flat, PALETTES.light)(3)?.length, 3);
});

test("the page's tokens win over the built-in colours", () => {
  const found = palette("light", (name) => (name === "--cat-0" ? " #ff0000" : "none"));
  assert.deepEqual(found.categories[0], [255, 0, 0]);
  assert.deepEqual(found.categories[1], PALETTES.light.categories[1]);
});

test("legend: click shows or hides, double-click isolates and brings all back", () => {
  const all = ["a", "b", "c"];
  assert.deepEqual(toggled(all, null, "b"), ["a", "c"]);
  assert.equal(toggled(all, ["a", "c"], "b"), null);
  assert.equal(toggled(all, ["a"], "a"), null);
  assert.deepEqual(isolated(null, "b"), ["b"]);
  assert.equal(isolated(["b"], "b"), null);
  assert.deepEqual([format(0), format(0.51949), format(123456)], ["0", "0.519", "1.2e+5"]);
});

test("keys choose what a drag does; the wheel zooms alike for lines and pixels", () => {
  assert.deepEqual(
    [dragKind("pan", false, false), dragKind("pan", true, false), dragKind("box", true, true), dragKind("lasso", false, false)],
    ["pan", "box", "lasso", "lasso"],
  );
  assert.equal(wheelDelta(160, 0, false), wheelDelta(10, 1, false));
  assert.ok(wheelDelta(-100, 0, false) > 0);
  assert.equal(wheelDelta(1e6, 0, false), -1);
});

test("names do not cover each other or the controls; the largest wins", () => {
  const label = (text: string, x: number, y: number, size: number) => ({ text, x, y, size });
  const camera = { x: 0.5, y: 0.5, zoom: 0 };
  const size = { width: 512, height: 512 };
  const found = place([label("small", 0.5, 0.5, 1), label("large", 0.51, 0.5, 9), label("far", 0.2, 0.2, 1)], camera, size, 9);
  assert.deepEqual(found.map(({ text }) => text), ["large", "small", "far"]);
  assert.notEqual(found[0]!.py, found[1]!.py);
  assert.equal(place([label("hidden", 0.5, 0.5, 1)], camera, size, 9, [[200, 200, 300, 300]]).length, 0);
});

test("the counter never claims more than is drawn", () => {
  const status = { state: "ready", message: "", total: 1_234_567, drawn: 50_000, matching: 50_000, rows: 1_234_567 } as const;
  assert.equal(counted(status, false), "50,000 of 1,234,567 shown; zoom in for the rest");
  assert.equal(counted({ ...status, total: 50_000, rows: 50_000 }, false), "50,000 of 50,000 images");
  assert.equal(counted({ ...status, total: 50_000, rows: 50_000, matching: 7 }, true), "7 of 50,000 in view match");
});

test("an address with a broken camera has none; the first picture of a paste is taken", () => {
  assert.deepEqual(cameraOf("?cam=0.5,0.25,3"), { x: 0.5, y: 0.25, zoom: 3 });
  assert.deepEqual([cameraOf("?cam=0.5,x,3"), cameraOf("")], [null, null]);
  assert.equal(picture([{ type: "text/plain" }]), null);
  assert.deepEqual(picture([{ type: "text/plain" }, { type: "image/webp" }]), { type: "image/webp" });
});
