"use strict";
// The page reads well without any of this; here are the filters and the veils.

(function veils() {
  function set(veil, veiled) {
    const content = veil.querySelector(".veil-content"), button = veil.querySelector(".veil-button");
    veil.toggleAttribute("data-veiled", veiled);
    content.toggleAttribute("inert", veiled);
    content.setAttribute("aria-hidden", String(veiled));
    button.setAttribute("aria-expanded", String(!veiled));
    button.textContent = (veiled ? "Show " : "Hide ") + button.dataset.what;
  }
  document.addEventListener("click", (event) => {
    const button = event.target.closest(".veil-button");
    if (!button) return;
    const veil = button.closest(".veil");
    set(veil, !veil.hasAttribute("data-veiled"));
  });
  const all = document.getElementById("unveil-all");
  all?.addEventListener("click", () => {
    const show = all.getAttribute("aria-pressed") !== "true";
    all.setAttribute("aria-pressed", String(show));
    all.textContent = (show ? "Hide" : "Show") + " all harmful content";
    for (const veil of document.querySelectorAll(".veil")) set(veil, !show);
  });
})();

(function filters() {
  const form = document.getElementById("filters");
  if (!form) return;
  form.hidden = false;
  const cards = [...document.querySelectorAll(".conversation")];
  const shown = document.getElementById("shown"), nothing = document.getElementById("nothing");
  function matches(card, want) {
    if (want.task && card.dataset.task !== want.task) return false;
    if (want.differs && card.dataset.differs !== "yes") return false;
    const verdicts = card.dataset.verdicts.trim().split(/\s+/).map((pair) => pair.split(":"));
    const hit = ([defense, verdict]) =>
      (!want.defense || defense === want.defense) && (!want.verdict || verdict === want.verdict);
    if (!verdicts.some(hit)) return false;
    return !want.text || card.textContent.toLowerCase().includes(want.text.toLowerCase());
  }
  function apply() {
    const want = Object.fromEntries(new FormData(form));
    let count = 0;
    for (const card of cards) {
      card.hidden = !matches(card, want);
      count += card.hidden ? 0 : 1;
    }
    shown.textContent = `${count} of ${cards.length}`;
    nothing.hidden = count > 0;
  }
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  apply();
})();
