// The address bar follows the page's state: a look around replaces the entry, a step adds one, so that
// Back undoes steps. What Dash cannot write without a cycle of callbacks is set from here.

interface Clientside {
  readonly no_update: unknown;
  set_props(id: string, props: Record<string, unknown>): void;
}

function withoutCamera(search: string): string {
  const query = new URLSearchParams(search);
  query.delete("cam");
  return query.toString();
}

/** The camera in an address, or null. */
export function cameraOf(search: string): { x: number; y: number; zoom: number } | null {
  const [x, y, zoom] = (new URLSearchParams(search).get("cam") ?? "").split(",").map(Number);
  return x !== undefined && y !== undefined && zoom !== undefined && Number.isFinite(x + y + zoom)
    ? { x, y, zoom }
    : null;
}

export function address(search: string, map?: string, colour?: string): unknown {
  const dash = (window as unknown as { dash_clientside: Clientside }).dash_clientside;
  if (location.pathname !== "/") return dash.no_update;
  const camera = cameraOf(search);
  if (map && camera) dash.set_props(map, { camera });
  if (colour) {
    const value = new URLSearchParams(search).get("colour") ?? "cluster";
    dash.set_props(colour, { value });
  }
  if (search === location.search) return dash.no_update;
  if (withoutCamera(search) === withoutCamera(location.search)) {
    history.replaceState(history.state, "", search || location.pathname);
  } else {
    // As Dash's own links do: told by a property, its Location would first put back the address that
    // it knows, which is one without the camera.
    history.pushState({}, "", search || location.pathname);
    window.dispatchEvent(new CustomEvent("_dashprivate_pushstate"));
  }
  return dash.no_update;
}
