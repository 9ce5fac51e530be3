element.setAttribute("aria-live", "polite");
watch("value", () => {
  element.closest("#ss-answers").classList.remove("ss-stale");
  if (element.getBoundingClientRect().top > window.innerHeight / 2) element.scrollIntoView();
});
