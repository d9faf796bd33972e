// React is the global that Dash loads: two copies in one page could not share hooks.

// Line icons of the map's own controls, 20 x 20, drawn in the text colour.


const PATHS = {
  pan: "M10 2.5v15M2.5 10h15M10 2.5 7.8 4.7M10 2.5l2.2 2.2M10 17.5l-2.2-2.2M10 17.5l2.2-2.2M2.5 10l2.2-2.2M2.5 10l2.2 2.2M17.5 10l-2.2-2.2M17.5 10l-2.2 2.2",
  box: "M3.5 3.5h2M8 3.5h4M14.5 3.5h2v2M16.5 8v4M16.5 14.5v2h-2M12 16.5H8M5.5 16.5h-2v-2M3.5 12V8M3.5 5.5v-2",
  lasso: "M10 3.2c4.2 0 7 2 7 4.8s-2.8 4.8-7 4.8S3 10.8 3 8s2.8-4.8 7-4.8M6.3 12.2c-1 .8-1.2 2 0 2.5 1.4.6 1.2 1.9-.3 2.6",
  plus: "M10 4.5v11M4.5 10h11",
  minus: "M4.5 10h11",
  fit: "M3.5 7.5v-4h4M12.5 3.5h4v4M16.5 12.5v4h-4M7.5 16.5h-4v-4",
  picture: "M3 4.5h14v11H3zM3 13l4-4 3.5 3.5L13 10l4 4M12.8 7.5h.01",
  close: "M5 5l10 10M15 5 5 15",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }): React.ReactElement {
  return (
    <svg viewBox="0 0 20 20" width="18" height="18" aria-hidden="true" className="sm-icon">
      <path d={PATHS[name]} />
    </svg>
  );
}
