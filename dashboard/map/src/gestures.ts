// Pointer, wheel, touch and keys, turned into what the person means.

import type { Point } from "./polygon";

export type Tool = "pan" | "box" | "lasso";

export interface Intents {
  tool(): Tool;
  pan(dx: number, dy: number): void;
  zoom(px: number, py: number, delta: number): void;
  hover(px: number, py: number): void;
  leave(): void;
  click(px: number, py: number, additive: boolean, touch: boolean): void;
  fit(): void;
  clear(): void;
  draw(kind: "box" | "lasso", path: readonly Point[], done: boolean): void;
  cancelDraw(): void;
}

const SLOP = 4;
const DOUBLE_MS = 320;
const DOUBLE_PX = 24;
const STEP = 80;

interface Down {
  readonly x: number;
  readonly y: number;
  readonly touch: boolean;
  moved: boolean;
}

/** What a drag does, by tool and keys: Shift draws a box, Shift+Alt a lasso, whatever the tool. */
export function dragKind(tool: Tool, shift: boolean, alt: boolean): "pan" | "box" | "lasso" {
  if (shift) return alt ? "lasso" : "box";
  return tool;
}

/** Levels of zoom for one wheel event; pixels, lines and pages feel alike, pinches are finer. */
export function wheelDelta(deltaY: number, deltaMode: number, pinch: boolean): number {
  const pixels = deltaY * (deltaMode === 1 ? 16 : deltaMode === 2 ? 400 : 1);
  const levels = -pixels / (pinch ? 100 : 320);
  return Math.max(-1, Math.min(1, levels));
}

export class Gestures {
  private readonly pointers = new Map<number, Point>();
  private readonly off = new AbortController();
  private down: Down | null = null;
  private kind: "pan" | "box" | "lasso" | "pinch" | null = null;
  private path: Point[] = [];
  private pressing = false;
  private tap = { at: 0, x: 0, y: 0 };

  constructor(
    private readonly element: HTMLElement,
    private readonly intents: Intents,
  ) {
    const on = <K extends keyof HTMLElementEventMap>(
      type: K,
      handler: (event: HTMLElementEventMap[K]) => void,
    ): void => {
      element.addEventListener(type, handler, { signal: this.off.signal, passive: false });
    };
    on("pointerdown", (event) => this.press(event));
    on("pointermove", (event) => this.move(event));
    on("pointerup", (event) => this.release(event, false));
    on("pointercancel", (event) => this.release(event, true));
    on("pointerleave", () => this.intents.leave());
    on("wheel", (event) => {
      event.preventDefault();
      const [px, py] = this.at(event);
      this.intents.zoom(px, py, wheelDelta(event.deltaY, event.deltaMode, event.ctrlKey));
    });
    on("keydown", (event) => {
      element.dataset.keys = "";
      this.key(event);
    });
    // A ring for people on the keyboard; the press of a pointer focuses without one.
    on("focus", () => {
      if (this.pressing) delete element.dataset.keys;
      else element.dataset.keys = "";
    });
    on("contextmenu", (event) => {
      if (event.shiftKey || event.altKey) event.preventDefault();
    });
  }

  destroy(): void {
    this.off.abort();
  }

  private at(event: MouseEvent): Point {
    const box = this.element.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  private press(event: PointerEvent): void {
    if (event.button !== 0) return;
    const [x, y] = this.at(event);
    this.pressing = true;
    delete this.element.dataset.keys;
    this.element.focus({ preventScroll: true });
    this.pressing = false;
    this.element.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, [x, y]);
    if (this.pointers.size === 2) {
      if (this.kind === "box" || this.kind === "lasso") this.intents.cancelDraw();
      this.kind = "pinch";
      this.down = null;
      return;
    }
    this.kind = dragKind(this.intents.tool(), event.shiftKey, event.altKey);
    this.down = { x, y, touch: event.pointerType === "touch", moved: false };
    this.path = [[x, y]];
  }

  private move(event: PointerEvent): void {
    const [x, y] = this.at(event);
    const before = this.pointers.get(event.pointerId);
    if (!before) {
      if (event.pointerType !== "touch") this.intents.hover(x, y);
      return;
    }
    if (this.kind === "pinch") {
      this.pinch(event.pointerId, [x, y]);
      return;
    }
    if (this.down && !this.down.moved) {
      if (Math.hypot(x - this.down.x, y - this.down.y) < SLOP) return;
      this.down.moved = true;
      this.intents.leave();
    }
    this.pointers.set(event.pointerId, [x, y]);
    if (this.kind === "pan") {
      this.intents.pan(x - before[0], y - before[1]);
    } else if (this.kind) {
      this.path = this.kind === "box" ? [this.path[0]!, [x, y]] : [...this.path, [x, y]];
      this.intents.draw(this.kind, this.path, false);
    }
  }

  private pinch(id: number, now: Point): void {
    const [first, second] = [...this.pointers.values()] as [Point, Point];
    const before = Math.hypot(first[0] - second[0], first[1] - second[1]);
    const middle: Point = [(first[0] + second[0]) / 2, (first[1] + second[1]) / 2];
    this.pointers.set(id, now);
    const [a, b] = [...this.pointers.values()] as [Point, Point];
    const after = Math.hypot(a[0] - b[0], a[1] - b[1]);
    const centre: Point = [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];
    this.intents.pan(centre[0] - middle[0], centre[1] - middle[1]);
    if (before > 0 && after > 0) this.intents.zoom(centre[0], centre[1], Math.log2(after / before));
  }

  private release(event: PointerEvent, cancelled: boolean): void {
    if (!this.pointers.delete(event.pointerId)) return;
    const { down, kind } = this;
    if (this.pointers.size > 0) {
      this.down = null;
      this.kind = "pan";
      return;
    }
    this.down = null;
    this.kind = null;
    if (!down || kind === "pinch") return;
    if (cancelled) {
      this.intents.cancelDraw();
    } else if (!down.moved) {
      this.click(down, event);
    } else if (kind === "box" || kind === "lasso") {
      this.intents.draw(kind, this.path, true);
    }
  }

  private click(down: Down, event: PointerEvent): void {
    const near = Math.hypot(down.x - this.tap.x, down.y - this.tap.y) < DOUBLE_PX;
    if (near && event.timeStamp - this.tap.at < DOUBLE_MS) {
      this.tap = { at: 0, x: 0, y: 0 };
      this.intents.fit();
      return;
    }
    this.tap = { at: event.timeStamp, x: down.x, y: down.y };
    this.intents.click(down.x, down.y, event.ctrlKey || event.metaKey, down.touch);
  }

  private key(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.target !== this.element) return;
    const box = this.element.getBoundingClientRect();
    const centre: Point = [box.width / 2, box.height / 2];
    const act: Record<string, () => void> = {
      ArrowLeft: () => this.intents.pan(STEP, 0),
      ArrowRight: () => this.intents.pan(-STEP, 0),
      ArrowUp: () => this.intents.pan(0, STEP),
      ArrowDown: () => this.intents.pan(0, -STEP),
      "+": () => this.intents.zoom(centre[0], centre[1], 0.5),
      "=": () => this.intents.zoom(centre[0], centre[1], 0.5),
      "-": () => this.intents.zoom(centre[0], centre[1], -0.5),
      "0": () => this.intents.fit(),
      Escape: () => {
        if (this.kind === "box" || this.kind === "lasso") {
          this.kind = null;
          this.down = null;
          this.intents.cancelDraw();
        } else this.intents.clear();
      },
    };
    const action = act[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  }
}
