// Explore's own switches: fold the filters (wide), choose what lies under the map (narrow).

export function watchPanels(): void {
  document.addEventListener("click", (event) => {
    const target = event.target instanceof Element ? event.target : null;
    const page = target?.closest(".explore");
    if (!page) return;
    const toggle = target?.closest('[data-toggle="facets"]');
    if (toggle) {
      const folded = page.classList.toggle("explore--folded");
      toggle.setAttribute("aria-expanded", String(!folded));
    }
    const tab = target?.closest<HTMLElement>("[data-tab]");
    if (tab) show(page, tab.dataset.tab ?? "panel");
    else if (target?.closest(".explore__canvas .sm-surface")) show(page, "panel");
  });
}

function show(page: Element, tab: string): void {
  page.classList.toggle("explore--filtering", tab === "facets");
  for (const item of page.querySelectorAll<HTMLElement>("[data-tab]")) {
    const here = item.dataset.tab === tab;
    item.classList.toggle("segments__item--here", here);
    item.setAttribute("aria-pressed", String(here));
  }
}
