"use strict";
const tools = document.querySelector(".tools");
if (tools) {
  const list = document.getElementById("sample-list");
  const all = [...list.children];
  const texts = all.map((sample) => sample.textContent.toLowerCase());
  const {text, shown, order} = tools.elements;
  const gain = (sample) => Number(sample.dataset.gain ?? 0);
  const filter = () => {
    const wanted = text.value.trim().toLowerCase();
    const sign = Number(shown.value);
    all.forEach((sample, i) => {
      sample.hidden = !texts[i].includes(wanted) || (sign !== 0 && sign * gain(sample) <= 0);
    });
    const count = all.filter((sample) => !sample.hidden).length;
    tools.querySelector("output").textContent = count < all.length ? `${count} of ${all.length}` : `${all.length} samples`;
  };
  const sort = () => {
    const sign = Number(order.value);
    list.append(...(sign ? [...all].sort((a, b) => sign * (gain(a) - gain(b))) : all));
  };
  text.addEventListener("input", filter);
  shown.addEventListener("change", filter);
  order.addEventListener("change", sort);
  tools.addEventListener("submit", (event) => event.preventDefault());
  tools.hidden = false;
  filter();
  sort();
}
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((d) => { d.open = true; }));
// A definition or a metric that is asked for may lie in a closed part.
addEventListener("hashchange", () => document.getElementById(location.hash.slice(1))?.closest("details")?.setAttribute("open", ""));
