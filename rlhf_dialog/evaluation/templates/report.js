"use strict";
const tools = document.querySelector(".tools");
if (tools) {
  const list = document.getElementById("sample-list");
  const all = [...list.children];
  const texts = all.map((sample) => sample.textContent.toLowerCase());
  const {text, shown, order} = tools.elements;
  const gain = (sample) => Number(sample.dataset.gain ?? 0);
  const more = document.getElementById("more-samples");
  let most = Number(more.dataset.step);  // nobody scrolls through hundreds
  const filter = () => {
    const wanted = text.value.trim().toLowerCase();
    const sign = Number(shown.value);
    const fits = new Set(all.filter((sample, i) => texts[i].includes(wanted) && (sign === 0 || sign * gain(sample) > 0)));
    let left = most;
    for (const sample of list.children) sample.hidden = !fits.has(sample) || left-- <= 0;
    const count = fits.size;
    more.hidden = count <= most;
    more.textContent = `Show more (${count - most} left)`;
    tools.querySelector("output").textContent = count < all.length ? `${count} of ${all.length}` : `${all.length} samples`;
  };
  const sort = () => {
    const sign = Number(order.value);
    list.append(...(sign ? [...all].sort((a, b) => sign * (gain(a) - gain(b))) : all));
    filter();
  };
  text.addEventListener("input", filter);
  shown.addEventListener("change", filter);
  order.addEventListener("change", sort);
  tools.addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", () => { most *= 2; filter(); });
  tools.hidden = false;
  sort();
}
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((d) => { d.open = true; }));
// A definition or a metric that is asked for may lie in a closed part.
addEventListener("hashchange", () => document.getElementById(location.hash.slice(1))?.closest("details")?.setAttribute("open", ""));
