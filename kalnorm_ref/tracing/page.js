"use strict";
(() => {
  const steps = [...document.querySelectorAll(".step")];
  const links = [...document.querySelectorAll("nav a")];
  const equations = [...document.querySelectorAll("aside a")];
  const byId = (id) => document.getElementById(id);
  const pencil = byId("pencil");
  let at = 0;

  const asked = () => {
    const found = /^#step-(\d+)$/.exec(location.hash);
    return found ? Number(found[1]) - 1 : 0;
  };

  const mark = (link, current, value) => {
    if (current) link.setAttribute("aria-current", value);
    else link.removeAttribute("aria-current");
  };

  const within = (link) => {  // bring a link into view inside its panel, without moving the page
    const panel = link.closest("nav, aside");
    const box = panel.getBoundingClientRect(), line = link.getBoundingClientRect();
    if (line.top < box.top || line.bottom > box.bottom) panel.scrollTop += line.top - box.top - box.height / 2;
  };

  const show = (wanted) => {
    at = Math.max(0, Math.min(steps.length - 1, wanted));
    const step = steps[at];
    steps.forEach((other) => { other.hidden = other !== step; other.classList.remove("shown"); });
    links.forEach((link, i) => mark(link, i === at, "step"));
    equations.forEach((link) => mark(link, link.id === step.dataset.equation, "true"));
    within(links[at]);
    equations.filter((link) => link.hasAttribute("aria-current")).forEach(within);
    byId("position").textContent = "Step " + (at + 1) + " of " + steps.length;
    byId("progress").value = at + 1;
    byId("said").textContent = step.dataset.said;
    document.querySelectorAll("[data-to]").forEach((button) => {
      const end = ["first", "back"].includes(button.dataset.to) ? 0 : steps.length - 1;
      button.setAttribute("aria-disabled", String(at === end));
    });
    if (asked() !== at) history.replaceState(null, "", "#step-" + (at + 1));
  };

  const reveal = () => {
    const step = steps[at];
    if (!pencil.checked || step.classList.contains("shown")) return;
    step.classList.add("shown");
    byId("said").textContent = "The result: " + step.querySelector(".answer").innerText;
  };

  const moves = {
    first: () => show(0), back: () => show(at - 1), next: () => show(at + 1), last: () => show(steps.length - 1), reveal,
  };
  const keys = {
    ArrowRight: "next", j: "next", n: "next", ArrowLeft: "back", k: "back", p: "back", Home: "first", End: "last", r: "reveal",
  };
  addEventListener("keydown", (event) => {
    const scrolls = event.key.startsWith("Arrow") && event.target.closest("pre, .scroll, .formula");
    if (event.ctrlKey || event.altKey || event.metaKey || scrolls || !(event.key in keys)) return;
    event.preventDefault();
    moves[keys[event.key]]();
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-to]");
    if (button) moves[button.dataset.to]();
  });
  addEventListener("hashchange", () => {
    show(asked());
    if (byId("main").getBoundingClientRect().top < 0 || innerWidth < 736) byId("main").scrollIntoView();
  });
  pencil.addEventListener("change", () => document.body.classList.toggle("pencil-first", pencil.checked));

  steps.forEach((step) => step.classList.add("alone"));
  if (innerWidth < 736) byId("contents").open = false;
  show(asked());
  addEventListener("load", () => requestAnimationFrame(() => scrollTo(0, 0)));  // not to the heading of a linked step
})();
