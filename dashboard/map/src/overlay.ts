// What lies over the canvas and follows the camera: selection polygons, the stroke being drawn, names.

import { project, type Camera, type Size } from "./camera";
import { place, type Box, type Label } from "./labels";
import type { Point } from "./polygon";
import type { Ring } from "./selection";

const SVG = "http://www.w3.org/2000/svg";
const MOST_LABELS = 26;

function outline(points: readonly Point[]): string {
  return `M${points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L")}Z`;
}

export class Overlay {
  rings: readonly Ring[] = [];
  labels: readonly Label[] = [];

  constructor(
    private readonly svg: SVGSVGElement,
    private readonly names: HTMLElement,
  ) {}

  drawing(kind: "box" | "lasso", path: readonly Point[]): void {
    let stroke = this.svg.querySelector<SVGPathElement>(".sm-stroke");
    if (path.length < 2) {
      stroke?.remove();
      return;
    }
    if (!stroke) {
      stroke = document.createElementNS(SVG, "path");
      stroke.setAttribute("class", "sm-stroke");
      this.svg.append(stroke);
    }
    const [a, b] = [path[0]!, path[path.length - 1]!];
    const corners: Point[] = [a, [b[0], a[1]], b, [a[0], b[1]]];
    stroke.setAttribute("d", outline(kind === "box" ? corners : path));
  }

  update(camera: Camera, size: Size): void {
    this.drawRings(camera, size);
    this.drawNames(camera, size);
  }

  /** Where tools, counter and zoom lie over the map. */
  private controls(): Box[] {
    const stage = this.names.closest(".sm-stage");
    if (!stage) return [];
    const origin = stage.getBoundingClientRect();
    return [...stage.querySelectorAll(".sm-tools, .sm-counter, .sm-combine")].map((element) => {
      const box = element.getBoundingClientRect();
      const [left, top] = [box.left - origin.left, box.top - origin.top];
      return [left, top, left + box.width, top + box.height];
    });
  }

  private drawRings(camera: Camera, size: Size): void {
    const paths = [...this.svg.querySelectorAll(".sm-ring")];
    for (const extra of paths.slice(this.rings.length)) extra.remove();
    this.rings.forEach((ring, i) => {
      const path = paths[i] ?? this.svg.appendChild(document.createElementNS(SVG, "path"));
      path.setAttribute("class", `sm-ring sm-ring--${ring.mode}`);
      path.setAttribute("d", outline(ring.points.map(([x, y]) => project(camera, size, x, y))));
    });
  }

  private drawNames(camera: Camera, size: Size): void {
    const most = Math.min(MOST_LABELS, Math.max(5, Math.round((size.width * size.height) / 30_000)));
    const placed = place(this.labels, camera, size, most, this.controls());
    while (this.names.childElementCount > placed.length) this.names.lastElementChild?.remove();
    placed.forEach(({ text, px, py }, i) => {
      const old = this.names.children[i] as HTMLElement | undefined;
      const element = old ?? this.names.appendChild(document.createElement("span"));
      if (element.textContent !== text) element.textContent = text;
      element.style.transform = `translate(-50%, -50%) translate(${px.toFixed(1)}px, ${py.toFixed(1)}px)`;
    });
  }
}
