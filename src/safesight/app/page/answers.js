element.setAttribute("aria-live", "polite");
watch("value", () => {
  if (element.getBoundingClientRect().top > window.innerHeight / 2) element.scrollIntoView();
});
