// What deck.gl draws: one scatterplot a tile, and rings around the points that matter now.

import { Deck, OrthographicView, type Layer } from "@deck.gl/core";
import { ScatterplotLayer } from "@deck.gl/layers";

import { scaleOf, type Camera } from "./camera";
import type { Rgb } from "./colours";
import type { Drawable } from "./style";

export interface Ring {
  readonly x: number;
  readonly y: number;
  readonly radius: number;
  readonly width: number;
  readonly line: Rgb;
  readonly fill: readonly [number, number, number, number];
}

export interface Frame {
  readonly camera: Camera;
  readonly tiles: ReadonlyMap<string, Drawable>;
  readonly radius: number;
  readonly outline: Rgb | null;
  readonly rings: readonly Ring[];
}

export class Scene {
  private readonly deck: Deck<OrthographicView>;
  private settle = 0;

  constructor(
    canvas: HTMLCanvasElement,
    events: { drawn: () => void; failed: (message: string) => void },
  ) {
    this.deck = new Deck({
      canvas,
      width: "100%",
      height: "100%",
      views: new OrthographicView({ id: "map", flipY: true, controller: false }),
      controller: false,
      useDevicePixels: Math.min(devicePixelRatio || 1, 2),
      viewState: { target: [0.5, 0.5, 0], zoom: 9 },
      layers: [],
      onAfterRender: events.drawn,
      onError: (error) => events.failed(error.message),
    });
  }

  draw(frame: Frame): void {
    const { camera } = frame;
    this.deck.setProps({
      viewState: { target: [camera.x, camera.y, 0], zoom: Math.log2(scaleOf(camera)) },
      layers: [...this.points(frame), ...this.rings(frame)],
    });
    // deck.gl skips a frame that it thinks unchanged; its report of a drawn frame is needed anyway.
    clearTimeout(this.settle);
    this.settle = window.setTimeout(() => this.deck.isInitialized && this.deck.redraw("settle"), 60);
  }

  destroy(): void {
    clearTimeout(this.settle);
    this.deck.finalize();
  }

  private points({ tiles, radius, outline }: Frame): Layer[] {
    return [...tiles].map(
      ([id, data]) =>
        new ScatterplotLayer({
          id: `tile-${id}`,
          data: data as never,
          radiusUnits: "pixels",
          getRadius: 1,
          radiusScale: radius,
          stroked: outline !== null,
          lineWidthUnits: "pixels",
          getLineWidth: 0.75,
          getLineColor: [...(outline ?? [0, 0, 0]), 150] as [number, number, number, number],
          antialiasing: true,
          pickable: false,
        }),
    );
  }

  private rings({ rings }: Frame): Layer[] {
    if (rings.length === 0) return [];
    return [
      new ScatterplotLayer<Ring>({
        id: "rings",
        data: rings as Ring[],
        getPosition: (ring) => [ring.x, ring.y],
        radiusUnits: "pixels",
        getRadius: (ring) => ring.radius,
        stroked: true,
        lineWidthUnits: "pixels",
        getLineWidth: (ring) => ring.width,
        getLineColor: (ring) => [...ring.line] as [number, number, number],
        getFillColor: (ring) => [...ring.fill],
        pickable: false,
      }),
    ];
  }
}

export function supported(): boolean {
  const probe = document.createElement("canvas").getContext("webgl2");
  probe?.getExtension("WEBGL_lose_context")?.loseContext();
  return probe !== null;
}
