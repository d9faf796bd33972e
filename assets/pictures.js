// Pictures of galleries load when they come near the screen. Dash's Img has no `loading`, so layouts
// write the address as data-src and this file moves it to src.
(function () {
  "use strict";

  function load(image) {
    if (image.getAttribute("src") === image.dataset.src) return;
    image.classList.remove("is-missing");
    image.loading = "lazy";
    image.decoding = "async";
    image.src = image.dataset.src;
  }

  function scan(node) {
    if (!(node instanceof Element)) return;
    if (node.matches("img[data-src]")) load(node);
    node.querySelectorAll("img[data-src]").forEach(load);
  }

  new MutationObserver((changes) => {
    for (const change of changes) {
      if (change.type === "attributes") scan(change.target);
      change.addedNodes.forEach(scan);
    }
  }).observe(document.documentElement, {
    attributeFilter: ["data-src"],
    childList: true,
    subtree: true,
  });

  // A picture that cannot be loaded shows its box, not the browser's broken sign.
  document.addEventListener(
    "error",
    (event) => {
      if (event.target instanceof HTMLImageElement) event.target.classList.add("is-missing");
    },
    true,
  );

  scan(document.documentElement);
})();
