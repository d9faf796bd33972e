// Light or dark, set before the first paint: this file is loaded by the page's head and, once more,
// with the other assets. The choice is kept in this browser; without one the system's is followed.
(function () {
  "use strict";
  if (window.sightlineTheme) return;

  const KEY = "sightline-theme";
  const system = window.matchMedia("(prefers-color-scheme: dark)");

  function kept() {
    try {
      const value = localStorage.getItem(KEY);
      return value === "dark" || value === "light" ? value : null;
    } catch {
      return null;
    }
  }

  function apply() {
    const theme = kept() || (system.matches ? "dark" : "light");
    document.documentElement.dataset.theme = theme;
    const dash = window.dash_clientside;
    if (dash && dash.set_props && document.getElementById("theme-toggle")) {
      dash.set_props("theme", { data: theme });
    }
    return theme;
  }

  function toggle() {
    const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    try {
      localStorage.setItem(KEY, next);
    } catch {
      document.documentElement.dataset.theme = next;
      return;
    }
    apply();
  }

  window.sightlineTheme = { apply, toggle };
  system.addEventListener("change", apply);
  window.addEventListener("storage", (event) => event.key === KEY && apply());
  document.addEventListener("click", (event) => {
    if (event.target instanceof Element && event.target.closest("#theme-toggle")) toggle();
  });
  apply();
})();
