// The Dash component: React around `View`, with tools, legend, counter, preview and messages.

import type { Camera, Size } from "./camera";
import type { Column, Theme } from "./colours";
import type { Tool } from "./gestures";
import { Icon, type IconName } from "./icon";
import { Legend } from "./legend";
import { Overlay } from "./overlay";
import { beside } from "./picking";
import { supported } from "./scene";
import { EVERYTHING, isEmpty, type Mode, type Selection } from "./selection";
import type { RowInfo } from "./server";
import { current, paletteOf, watch } from "./theme";
import { View, type Options, type Status } from "./view";

type Combine = Mode | "replace";

export interface MapProps {
  readonly id?: string;
  readonly api?: string;
  readonly mapId?: string;
  readonly placed?: number;
  readonly edition?: string;
  readonly colour?: string;
  readonly theme?: string;
  readonly filters?: Selection | null;
  readonly highlight?: readonly number[] | null;
  readonly selected?: number | null;
  readonly dimmed?: boolean;
  readonly tool?: Tool;
  readonly camera?: Camera | null;
  readonly setProps?: (props: Record<string, unknown>) => void;
}

/** What browser tests and the console may read of a mounted map. */
interface Instance {
  readonly project: (row: number) => [number, number] | null;
  readonly rows: (limit?: number) => number[];
  readonly status: () => Status;
  readonly camera: () => Camera | null;
}

export const instances: Record<string, Instance> = {};

const STARTING: Status = {
  state: "loading",
  message: "",
  total: 0,
  drawn: 0,
  matching: 0,
  rows: 0,
};
const CARD: Size = { width: 196, height: 214 };
const TOOLS: readonly { tool: Tool; icon: IconName; label: string }[] = [
  { tool: "pan", icon: "pan", label: "Pan (drag)" },
  { tool: "box", icon: "box", label: "Select a box (Shift+drag)" },
  { tool: "lasso", icon: "lasso", label: "Select with a lasso (Shift+Alt+drag)" },
];
const COMBINE: readonly { mode: Combine; label: string; title: string }[] = [
  { mode: "replace", label: "New", title: "The next shape replaces the selection" },
  { mode: "union", label: "Add", title: "The next shape is added to the selection" },
  { mode: "subtract", label: "Subtract", title: "The next shape is taken from the selection" },
  { mode: "intersect", label: "Keep", title: "Only what lies in the next shape too is kept" },
];

function useTheme(asked: string | undefined): Theme {
  const [theme, setTheme] = React.useState<Theme>(current);
  React.useEffect(() => watch(() => setTheme(current())), []);
  return asked === "dark" || asked === "light" ? asked : theme;
}

/** The same object for as long as its JSON is the same: Dash makes new ones with every callback. */
function useStable<T>(value: T): T {
  const text = JSON.stringify(value);
  return React.useMemo(() => value, [text]);
}

export function Map(props: MapProps): React.ReactElement {
  const [able] = React.useState(supported);
  if (!able) {
    return (
      <div id={props.id} className="sightline-map" data-state="unsupported">
        <div className="sm-message" role="alert">
          <strong>This browser cannot draw the map</strong>
          <p>
            It offers no WebGL2. Turn on hardware acceleration in its settings, or use a current Firefox,
            Chrome, Edge or Safari. Clusters, outliers and searches work without it.
          </p>
        </div>
      </div>
    );
  }
  return <Drawn key={`${props.api ?? ""}|${props.mapId ?? ""}`} {...props} />;
}

function Drawn(props: MapProps): React.ReactElement {
  const { id = "map", api = "/api/v1", mapId = "", colour = "cluster" } = props;
  const theme = useTheme(props.theme);
  const palette = React.useMemo(() => paletteOf(theme), [theme]);
  const selection = useStable(props.filters ?? EVERYTHING);
  const highlight = useStable(props.highlight ?? []);
  const wished = useStable(props.camera ?? null);
  const selected = props.selected ?? null;
  const placed = props.placed ?? 0;
  const edition = props.edition ?? "";
  const dimmed = props.dimmed ?? false;
  const [tool, setTool] = React.useState<Tool>(props.tool ?? "pan");
  const [combine, setCombine] = React.useState<Combine>("replace");
  const [status, setStatus] = React.useState<Status>(STARTING);
  const [columns, setColumns] = React.useState<ReadonlyMap<string, Column> | null>(null);
  const [hovered, setHovered] = React.useState<RowInfo | null>(null);
  const surface = React.useRef<HTMLDivElement>(null);
  const canvas = React.useRef<HTMLCanvasElement>(null);
  const svg = React.useRef<SVGSVGElement>(null);
  const names = React.useRef<HTMLDivElement>(null);
  const view = React.useRef<View | null>(null);
  const overlay = React.useRef<Overlay | null>(null);
  const reported = React.useRef<string>(JSON.stringify(wished));
  const options: Options = { colour, palette, selection, selected, highlight, dimmed, tool };

  const send = React.useRef<(props: Record<string, unknown>) => void>(() => undefined);
  send.current = (change) => props.setProps?.(change);
  const how = React.useRef<Combine>(combine);
  how.current = isEmpty({ ...selection, filters: {} }) ? "replace" : combine;

  React.useEffect(() => {
    const over = new Overlay(svg.current!, names.current!);
    overlay.current = over;
    const made = new View(surface.current!, canvas.current!, api, mapId, placed, edition, options, wished, {
      status: setStatus,
      columns: setColumns,
      hover: (info) => {
        setHovered(info);
        if (info) send.current({ hovered: { row: info.row, image_id: info.imageId } });
      },
      click: (info, additive) =>
        send.current({ clicked: { row: info.row, image_id: info.imageId, additive, at: Date.now() } }),
      clear: () => send.current({ cleared: Date.now() }),
      select: (polygon) =>
        send.current({ selection: { polygon, mode: how.current, at: Date.now() } }),
      drawing: (kind, path) => over.drawing(kind, path),
      camera: (camera) => {
        reported.current = JSON.stringify(camera);
        send.current({ camera });
      },
      moved: (camera, size) => {
        over.labels = made.labels;
        over.update(camera, size);
      },
    });
    view.current = made;
    instances[id] = Object.freeze({
      project: (row: number) => made.project(row),
      rows: (limit = 1000) => made.rows(limit),
      status: () => made.status(),
      camera: () => made.camera,
    });
    return () => {
      delete instances[id];
      view.current = null;
      made.destroy();
    };
  }, []);

  React.useEffect(() => {
    if (overlay.current) overlay.current.rings = selection.polygons;
    view.current?.set(options);
  }, [colour, palette, selection, selected, highlight, dimmed, tool]);

  React.useEffect(() => view.current?.renew(placed, edition), [placed, edition]);

  React.useEffect(() => {
    const text = JSON.stringify(wished);
    if (text === reported.current) return;
    reported.current = text;
    if (wished) view.current?.fly(wished);
  }, [wished]);

  React.useEffect(() => {
    if (props.tool) setTool(props.tool);
  }, [props.tool]);

  const choose = (next: Tool): void => {
    setTool(next);
    send.current({ tool: next });
  };
  const column = columns?.get(colour);
  const quiet = dimmed || !isEmpty(selection);
  const filter = (values: string[] | null): void =>
    send.current({ legend: { column: colour, values, at: Date.now() } });

  return (
    <div id={id} className="sightline-map" data-state={status.state} data-tool={tool}>
     <div className="sm-stage">
      <div
        ref={surface}
        className="sm-surface"
        tabIndex={0}
        role="application"
        aria-label={`Map of ${status.rows.toLocaleString("en")} images. Arrow keys pan, plus and minus zoom, Escape clears.`}
      >
        <canvas ref={canvas} className="sm-canvas" />
        <svg ref={svg} className="sm-overlay" aria-hidden="true" />
        <div ref={names} className={quiet ? "sm-names sm-names--quiet" : "sm-names"} hidden={colour !== "cluster"} aria-hidden="true" />
      </div>
      <Tools tool={tool} choose={choose} />
      {selection.polygons.length > 0 && tool !== "pan" && (
        <div className="sm-combine" role="group" aria-label="How the next shape combines">
          {COMBINE.map(({ mode, label, title }) => (
            <button
              key={mode}
              type="button"
              title={title}
              aria-pressed={combine === mode}
              onClick={() => setCombine(mode)}
            >
              {label}
            </button>
          ))}
        </div>
      )}
      <div className="sm-corner">
        <Counter status={status} narrowed={!isEmpty(selection)} />
        <Zoom view={view} />
      </div>
      {hovered && view.current?.camera && <Preview info={hovered} view={view.current} />}
      <Message status={status} retry={() => view.current?.retry()} />
     </div>
     {column && <Legend key={colour} column={column} palette={palette} selection={selection} filter={filter} />}
    </div>
  );
}

function Tools({ tool, choose }: { tool: Tool; choose: (tool: Tool) => void }): React.ReactElement {
  return (
    <div className="sm-tools" role="group" aria-label="Map tools">
      {TOOLS.map((item) => (
        <button
          key={item.tool}
          type="button"
          title={item.label}
          aria-label={item.label}
          aria-pressed={tool === item.tool}
          onClick={() => choose(item.tool)}
        >
          <Icon name={item.icon} />
        </button>
      ))}
    </div>
  );
}

function Zoom({ view }: { view: React.RefObject<View> }): React.ReactElement {
  return (
    <div className="sm-tools" role="group" aria-label="Zoom">
      <button type="button" title="Zoom in (+)" aria-label="Zoom in" onClick={() => view.current?.zoom(1)}>
        <Icon name="plus" />
      </button>
      <button type="button" title="Zoom out (-)" aria-label="Zoom out" onClick={() => view.current?.zoom(-1)}>
        <Icon name="minus" />
      </button>
      <button type="button" title="Fit (double-click)" aria-label="Fit the map" onClick={() => view.current?.fit()}>
        <Icon name="fit" />
      </button>
    </div>
  );
}

/** Says how much of the collection is drawn, and says so when it is not all of it. */
export function counted(status: Status, narrowed: boolean): string {
  const text = (value: number): string => value.toLocaleString("en");
  if (status.drawn < status.total) {
    return `${text(status.drawn)} of ${text(status.total)} shown; zoom in for the rest`;
  }
  if (narrowed) return `${text(status.matching)} of ${text(status.total)} in view match`;
  if (status.total === status.rows) return `${text(status.rows)} of ${text(status.rows)} images`;
  return `all ${text(status.total)} in view, of ${text(status.rows)} images`;
}

function Counter({ status, narrowed }: { status: Status; narrowed: boolean }): React.ReactElement | null {
  if (status.rows === 0) return null;
  return <output className="sm-counter">{counted(status, narrowed)}</output>;
}

function Preview({ info, view }: { info: RowInfo; view: View }): React.ReactElement {
  const [failed, setFailed] = React.useState(false);
  const point = { x: info.x ?? 0, y: info.y ?? 0 };
  const [left, top] = beside(view.camera!, view.size, point, CARD);
  React.useEffect(() => setFailed(false), [info.imageId]);
  return (
    <div className="sm-card" style={{ left, top, width: CARD.width, height: CARD.height }} aria-hidden="true">
      {failed ? (
        <div className="sm-card__missing">No thumbnail</div>
      ) : (
        <img src={view.server.thumbnail(info.imageId)} alt="" onError={() => setFailed(true)} />
      )}
      <div className="sm-card__title">{info.title || info.listingId}</div>
      <div className="sm-card__note">{info.cluster || info.listingId}</div>
    </div>
  );
}

function Message({ status, retry }: { status: Status; retry: () => void }): React.ReactElement | null {
  if (status.state === "error") {
    return (
      <div className="sm-message sm-message--error" role="alert">
        <strong>Part of the map did not load</strong>
        <p>{status.message}</p>
        <button type="button" className="button" onClick={retry}>
          Try again
        </button>
      </div>
    );
  }
  if (status.state === "empty") {
    return (
      <div className="sm-message">
        <strong>No images on this map</strong>
      </div>
    );
  }
  if (status.state === "loading") {
    return <div className={status.rows === 0 ? "sm-loading sm-loading--first" : "sm-loading"} aria-hidden="true" />;
  }
  return null;
}
