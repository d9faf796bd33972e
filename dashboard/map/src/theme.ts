// The page's theme: `data-theme` on the root element, or the system's where that says neither.

import { palette, type Palette, type Theme } from "./colours";

export function current(): Theme {
  const asked = document.documentElement.dataset.theme;
  if (asked === "dark" || asked === "light") return asked;
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

export function watch(changed: () => void): () => void {
  const observer = new MutationObserver(changed);
  observer.observe(document.documentElement, { attributeFilter: ["data-theme"] });
  const system = matchMedia("(prefers-color-scheme: dark)");
  system.addEventListener("change", changed);
  return () => {
    observer.disconnect();
    system.removeEventListener("change", changed);
  };
}

/** The page's colours of a theme. */
export function paletteOf(theme: Theme): Palette {
  const style = getComputedStyle(document.documentElement);
  return palette(theme, (name) => style.getPropertyValue(name));
}

/** Colour of the page behind the points, for their outlines. */
export function background(element: Element): [number, number, number] {
  const found = getComputedStyle(element).backgroundColor.match(/[\d.]+/g)?.map(Number) ?? [];
  const [red = 255, green = 255, blue = 255, alpha = 1] = found;
  return alpha === 0 ? [255, 255, 255] : [red, green, blue];
}
