// Search by a picture: chosen, dropped anywhere or pasted anywhere. The file goes to the REST API as it
// is, so that its size is the API's limit and not that of a Dash callback.

import { Icon } from "./icon";
import { reason } from "./server";

export interface UploadProps {
  readonly id?: string;
  readonly api?: string;
  readonly label?: string;
  readonly setProps?: (props: Record<string, unknown>) => void;
}

interface Work {
  readonly state: "idle" | "busy" | "failed";
  readonly name: string;
  readonly message: string;
}

const IDLE: Work = { state: "idle", name: "", message: "" };

/** The first picture among files; null when there is none. */
export function picture<T extends { readonly type: string }>(files: Iterable<T>): T | null {
  for (const file of files) if (file.type.startsWith("image/")) return file;
  return null;
}

async function search(api: string, file: File, signal: AbortSignal): Promise<string> {
  const body = new FormData();
  body.append("file", file, file.name || "pasted.png");
  const answer = await fetch(`${api}/search/upload`, { method: "POST", body, signal });
  if (!answer.ok) throw new Error(await reason(answer));
  const said = (await answer.json()) as { query_id?: unknown };
  if (typeof said.query_id !== "string") throw new Error("the answer names no query");
  return said.query_id;
}

export function Upload({ id, api = "/api/v1", label = "Search by picture", setProps }: UploadProps): React.ReactElement {
  const [work, setWork] = React.useState<Work>(IDLE);
  const [over, setOver] = React.useState(false);
  const input = React.useRef<HTMLInputElement>(null);
  const running = React.useRef<AbortController | null>(null);

  const start = (file: File | null): void => {
    running.current?.abort();
    if (!file) {
      setWork({ state: "failed", name: "", message: "That is not a picture: use a JPEG, PNG, WebP, TIFF, BMP or GIF file." });
      return;
    }
    const controller = new AbortController();
    running.current = controller;
    setWork({ state: "busy", name: file.name || "Pasted picture", message: "" });
    search(api, file, controller.signal)
      .then((query) => {
        setWork(IDLE);
        setProps?.({ query: { query_id: query, at: Date.now() } });
      })
      .catch((error: unknown) => {
        if (controller.signal.aborted) return;
        const message = error instanceof Error ? error.message : String(error);
        setWork({ state: "failed", name: file.name, message });
      });
  };
  const latest = React.useRef(start);
  latest.current = start;

  React.useEffect(() => {
    const off = new AbortController();
    const { signal } = off;
    const files = (event: DragEvent): boolean => event.dataTransfer?.types.includes("Files") ?? false;
    document.addEventListener(
      "paste",
      (event) => {
        const file = picture(event.clipboardData?.files ?? []);
        if (!file) return;
        event.preventDefault();
        latest.current(file);
      },
      { signal },
    );
    document.addEventListener(
      "dragover",
      (event) => {
        if (!files(event)) return;
        event.preventDefault();
        setOver(true);
      },
      { signal },
    );
    document.addEventListener("dragleave", (event) => !event.relatedTarget && setOver(false), { signal });
    document.addEventListener(
      "drop",
      (event) => {
        if (!files(event)) return;
        event.preventDefault();
        setOver(false);
        latest.current(picture(event.dataTransfer?.files ?? []));
      },
      { signal },
    );
    return () => {
      off.abort();
      running.current?.abort();
    };
  }, []);

  return (
    <div id={id} className="sm-upload" data-state={work.state}>
      <button
        type="button"
        className="button sm-upload__button"
        title="Choose a picture, drop one anywhere, or paste one (Ctrl+V)"
        disabled={work.state === "busy"}
        onClick={() => input.current?.click()}
      >
        {work.state === "busy" ? <span className="sm-spinner" aria-hidden="true" /> : <Icon name="picture" />}
        <span>{work.state === "busy" ? "Searching…" : label}</span>
      </button>
      <input
        ref={input}
        type="file"
        accept="image/*"
        hidden
        onChange={(event) => {
          const file = event.target.files?.[0] ?? null;
          event.target.value = "";
          if (file) start(file);
        }}
      />
      {work.state === "failed" && (
        <div className="sm-upload__error" role="alert">
          <span>
            <strong>The search did not work.</strong> {work.message}
          </span>
          <button type="button" className="icon-button" aria-label="Close" onClick={() => setWork(IDLE)}>
            <Icon name="close" />
          </button>
        </div>
      )}
      {over && (
        <div className="sm-drop" aria-hidden="true">
          <Icon name="picture" />
          <strong>Drop the picture to search for it</strong>
        </div>
      )}
    </div>
  );
}
