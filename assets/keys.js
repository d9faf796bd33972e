// Keys, dialogs and toasts: what needs the keyboard or the document itself. Decisions go through the
// buttons on the page, so that a key and a click do the same.
(function () {
  "use strict";

  const typing = (node) =>
    node instanceof HTMLElement &&
    (node.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(node.tagName));

  // The list of keys ------------------------------------------------------------------------------
  function showKeys() {
    const dialog = document.getElementById("keys-dialog");
    if (dialog && !dialog.open) dialog.showModal();
  }

  // Menus behind a button: `data-menu` names what it opens --------------------------------------------
  function setMenu(button, open) {
    button.setAttribute("aria-expanded", String(open));
    document.getElementById(button.dataset.menu)?.toggleAttribute("data-open", open);
  }

  const openMenu = () => document.querySelector('[data-menu][aria-expanded="true"]');

  // A click on the button turns its menu; any other, one on a link of the menu too, closes it.
  document.addEventListener("click", (event) => {
    const opened = openMenu();
    const button = event.target instanceof Element ? event.target.closest("[data-menu]") : null;
    if (opened) setMenu(opened, false);
    if (button && button !== opened) setMenu(button, true);
  });

  // Tab leaves the menu: it closes behind.
  document.addEventListener("focusin", (event) => {
    const opened = openMenu();
    if (!opened || opened.contains(event.target)) return;
    if (!document.getElementById(opened.dataset.menu)?.contains(event.target)) setMenu(opened, false);
  });

  // Cards that arrow keys walk through ----------------------------------------------------------
  const cards = () => [...document.querySelectorAll("[data-cards] [data-card]")];

  // A list that was asked for again replaces its cards: the one that had the focus gets it back.
  let last = null;
  document.addEventListener("focusin", (event) => {
    last = event.target.closest("[data-card]");
  });
  new MutationObserver(() => {
    if (!last || last.isConnected || document.activeElement !== document.body) return;
    const again = document.getElementById(last.id);
    if (again) focusCard(again);
  }).observe(document.documentElement, { childList: true, subtree: true });

  function focusCard(card) {
    if (!card) return;
    card.focus({ preventScroll: true });
    card.scrollIntoView({ block: "nearest" });
  }

  /** The card that lies in the direction of the key, by its place on the screen. */
  function neighbour(card, key) {
    const all = cards();
    const at = all.indexOf(card);
    if (key === "ArrowRight") return all[at + 1];
    if (key === "ArrowLeft") return all[at - 1];
    const box = card.getBoundingClientRect();
    const down = key === "ArrowDown";
    let best = null;
    let least = Infinity;
    for (const other of all) {
      const place = other.getBoundingClientRect();
      const rows = down ? place.top - box.top : box.top - place.top;
      if (rows < 4) continue;
      const distance = rows * 4 + Math.abs(place.left - box.left);
      if (distance < least) [best, least] = [other, distance];
    }
    return best;
  }

  function cardKey(event) {
    const all = cards();
    if (!all.length) return false;
    const card = event.target instanceof Element ? event.target.closest("[data-card]") : null;
    if (event.key.startsWith("Arrow")) {
      if (!card && event.target !== document.body && !event.target.closest("main")) return false;
      focusCard(card ? neighbour(card, event.key) : all[0]);
      return true;
    }
    if (event.key === "u") {
      document.getElementById("undo-key")?.click();
      return true;
    }
    if (!card) return false;
    if (event.key === "Enter" && event.target === card) {
      card.querySelector("a")?.click();
      return true;
    }
    const button = (card.closest("[data-marks]") ?? card).querySelector(`[data-key="${CSS.escape(event.key)}"]`);
    if (!button) return false;
    button.click();
    // What is done with goes on to the next card.
    if (button.dataset.next !== undefined) focusCard(neighbour(card, "ArrowRight"));
    return true;
  }

  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.isComposing) return;
    const command = event.ctrlKey || event.metaKey;
    const opened = openMenu();
    if (opened && event.key === "Escape") {
      setMenu(opened, false);
      opened.focus();
      event.preventDefault();
      return;
    }
    if (typing(event.target)) {
      if (event.key === "Escape" && event.target.dataset.original !== undefined) cancelName(event.target);
      if (event.key === "Enter" && event.target.closest(".name-field")) event.target.blur();
      return;
    }
    if (document.querySelector("dialog[open]")) return;
    if (command && !event.shiftKey && event.key.toLowerCase() === "z") {
      document.getElementById("undo-key")?.click();
      event.preventDefault();
      return;
    }
    if (command || event.altKey) return;
    if (event.key === "?") {
      showKeys();
      event.preventDefault();
    } else if (cardKey(event)) {
      event.preventDefault();
    }
  });

  // Names that are edited in place: Escape puts the old name back without saving --------------------
  function cancelName(field) {
    const setter = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set;
    setter.call(field, field.dataset.original);
    field.dispatchEvent(new Event("input", { bubbles: true }));
    field.blur();
  }

  document.addEventListener("focusin", (event) => {
    const field = event.target;
    if (field instanceof HTMLInputElement && field.closest(".name-field, .field")) {
      // Dash's Input puts the caret back to where it was, a moment after each key: on a busy machine
      // the next key would land before the last one. The browser keeps the caret well enough.
      field.setSelectionRange = () => {};
    }
    if (field instanceof HTMLInputElement && field.closest(".name-field")) {
      field.dataset.original = field.value;
      field.select();
    }
  });

  // Alt+click on a hit: none like it. Caught on its way down, so that the hit does not open as well.
  document.addEventListener(
    "click",
    (event) => {
      const hit = event.altKey && event.target instanceof Element && event.target.closest("[data-marks]");
      if (!hit) return;
      event.preventDefault();
      event.stopPropagation();
      hit.querySelector('[data-key="-"]')?.click();
    },
    true,
  );

  // Clicks -----------------------------------------------------------------------------------------
  document.addEventListener("click", (event) => {
    if (!(event.target instanceof Element)) return;
    if (event.target.closest("#keys-open")) showKeys();
    if (event.target.closest("[data-undo]")) document.getElementById("undo-key")?.click();
    if (event.target.closest("[data-retry]")) {
      window.dash_clientside.set_props("refresh", { data: String(Date.now()) });
    }
    if (event.target.closest("[data-close]")) event.target.closest("dialog")?.close();
    if (event.target instanceof HTMLDialogElement) event.target.close();
    const dismiss = event.target.closest('[data-dismiss="toast"]');
    if (dismiss) dismiss.closest(".toast")?.classList.add("toast--gone");
  });

  // Functions for clientside callbacks -----------------------------------------------------------------
  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    sightline: {
      title(name) {
        document.title = name ? `${name} · Sightline` : "Sightline";
        window.sightlineTheme?.apply();
        return window.dash_clientside.no_update;
      },
    },
  });
})();
