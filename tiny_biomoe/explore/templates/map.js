"use strict";
(function () {
  const SHOWN = 60; // pictures in the list of a selection
  const facts = JSON.parse(document.getElementById("facts").textContent);
  const element = (id) => document.getElementById(id);
  const hidden = new Set(); // classes of the present column
  let column = facts.columns[facts.first];
  let modality = -1; // all
  let representation = 0;
  let data, source, view, mapper, plot;

  function make(tag, text, name) {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (name) made.className = name;
    return made;
  }

  function id(i) {
    return facts.prefixes[data.prefix[i]] + String(data.start[i]);
  }

  function picture(i) {
    if (!data.drawn[i]) return make("p", facts.no_picture, "soft");
    const image = make("img");
    image.src = `pictures/${facts.representations[representation]}/${Math.floor(i / 1000)}/${i}.png`;
    image.alt = `image and trace of ${id(i)}`;
    image.width = facts.picture_size[0];
    image.height = facts.picture_size[1];
    image.loading = "lazy";
    return image;
  }

  function describe(i) {
    const seconds = [data.start[i], data.stop[i]].map((time) => Number(time.toFixed(3))).join(" to ");
    const text = [`${facts.modalities[data.modality[i]]}, ${seconds} s`];
    for (const [name, values] of Object.entries(facts.texts)) {
      const value = values[data[name][i]];
      if (value !== "") text.push(`${name} ${value}`);
    }
    for (const name of ["missing", "flat", "clipped"])
      if (data[name][i] > 0) text.push(`${name} ${(100 * data[name][i]).toFixed(1)} %`);
    return text.join(" · ");
  }

  // ---- what is shown

  function visible() {
    const [from, to] = times();
    const codes = data[column.key];
    const kept = [];
    for (let i = 0; i < codes.length; i++)
      if ((modality < 0 || data.modality[i] === modality) && !hidden.has(codes[i]) && data.start[i] >= from
          && data.start[i] <= to) kept.push(i);
    return kept;
  }

  function times() {
    const [a, b] = [Number(element("from").value), Number(element("to").value)];
    return [Math.min(a, b), Math.max(a, b)];
  }

  function filter(fit) {
    const kept = visible();
    view.filter.indices = kept;
    element("showing").textContent = `${kept.length.toLocaleString("en")} of ${data.start.length.toLocaleString("en")} windows shown`;
    element("times").textContent = times().map((t) => `${Math.round(t)} s`).join(" to ");
    if (fit && kept.length) frame(kept);
  }

  function frame(kept) {
    for (const [axis, range] of [["x", plot.x_range], ["y", plot.y_range]]) {
      let [low, high] = [Infinity, -Infinity];
      for (const i of kept) {
        low = Math.min(low, data[axis][i]);
        high = Math.max(high, data[axis][i]);
      }
      const margin = 0.06 * (high - low) || 1;
      range.setv({start: low - margin, end: high + margin, reset_start: low - margin, reset_end: high + margin});
    }
  }

  function move() {
    source.data = {...source.data, x: data[`x${representation}`], y: data[`y${representation}`]};
    data = source.data;
  }

  function paint() {
    mapper.palette = column.colours;
    mapper.low = -0.5;
    mapper.high = column.colours.length - 0.5;
    source.data = {...source.data, code: data[column.key]};
    data = source.data;
    legend();
  }

  function legend() {
    const counts = new Array(column.labels.length).fill(0);
    for (const code of data[column.key]) counts[code]++;
    element("classes-title").textContent = column.title;
    element("classes").replaceChildren(...column.labels.map((label, code) => {
      const button = make("button");
      const swatch = make("span", undefined, "swatch");
      swatch.style.background = column.colours[code];
      button.append(swatch, make("span", label, "label"), make("span", counts[code].toLocaleString("en"), "count"));
      button.setAttribute("aria-pressed", String(!hidden.has(code)));
      button.addEventListener("click", () => {
        if (!hidden.delete(code)) hidden.add(code);
        button.setAttribute("aria-pressed", String(!hidden.has(code)));
        filter(false);
      });
      return button;
    }));
  }

  function showAll(shown) {
    hidden.clear();
    if (!shown) column.labels.forEach((_, code) => hidden.add(code));
    legend();
    filter(false);
  }

  // ---- hover and selection

  window.exploreHover = function (event) {
    const tip = element("tip");
    const indices = event.index.indices;
    if (!indices.length) {
      tip.hidden = true;
      return;
    }
    const i = indices[0];
    if (tip.dataset.index !== String(i)) {
      tip.dataset.index = i;
      const more = indices.length > 1 ? [make("div", `and ${indices.length - 1} more here`, "soft")] : [];
      tip.replaceChildren(picture(i), make("div", id(i), "id"), make("div", describe(i)), ...more);
    }
    tip.hidden = false;
    const box = element("plot").getBoundingClientRect();
    const {sx, sy} = event.geometry;
    const left = sx + 18 + tip.offsetWidth > box.width ? Math.max(4, sx - 18 - tip.offsetWidth) : sx + 18;
    tip.style.left = `${Math.min(left, Math.max(4, box.width - tip.offsetWidth - 4))}px`;
    tip.style.top = `${Math.max(4, Math.min(sy + 12, box.height - tip.offsetHeight - 4))}px`;
  };

  function select(indices) {
    element("selected").textContent = indices.length.toLocaleString("en");
    element("save").disabled = element("clear").disabled = !indices.length;
    const figures = Array.from(indices).slice(0, SHOWN).map((i) => {
      const figure = make("figure");
      const caption = make("figcaption");
      caption.append(make("code", id(i)), make("br"), describe(i));
      figure.append(picture(i), caption);
      return figure;
    });
    const more = indices.length - figures.length;
    if (more > 0) figures.push(make("p", `and ${more.toLocaleString("en")} more, which are saved too`, "soft"));
    element("list").replaceChildren(...figures);
  }

  function save() {
    const text = Array.from(source.selected.indices, id).join("\n") + "\n";
    const link = make("a");
    link.href = URL.createObjectURL(new Blob([text], {type: "text/plain"}));
    link.download = "selected_ids.txt";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  // ---- controls

  function choices(select, labels, chosen, change) {
    select.replaceChildren(...labels.map((label, place) => {
      const option = make("option", label);
      option.value = place;
      return option;
    }));
    select.value = chosen;
    select.closest("label").hidden = labels.length < 2;
    select.addEventListener("change", () => change(Number(select.value)));
  }

  function start(points) {
    source = points;
    data = source.data;
    plot = Bokeh.documents[0].get_model_by_name("map");
    mapper = Bokeh.documents[0].get_model_by_name("colours");
    view = Bokeh.documents[0].get_model_by_name("view");
    choices(element("colour"), facts.columns.map((each) => each.title), facts.first, (place) => {
      column = facts.columns[place];
      hidden.clear();
      paint();
      filter(false);
    });
    const all = facts.modalities.length > 1 ? ["all", ...facts.modalities] : facts.modalities;
    choices(element("modality"), all, 0, (place) => {
      modality = all.length > 1 ? place - 1 : -1;
      filter(true);
    });
    choices(element("representation"), facts.representations, 0, (place) => {
      representation = place;
      delete element("tip").dataset.index;
      move();
      filter(true);
      select(source.selected.indices);
    });
    const starts = Array.from(data.start);
    const [first, last] = starts.reduce(([a, b], t) => [Math.min(a, t), Math.max(b, t)], [Infinity, -Infinity]);
    for (const [name, value] of [["from", first], ["to", last]]) {
      Object.assign(element(name), {min: first, max: last, value});
      element(name).addEventListener("input", () => filter(false));
    }
    element("time").hidden = first === last;
    element("all").addEventListener("click", () => showAll(true));
    element("none").addEventListener("click", () => showAll(false));
    element("save").addEventListener("click", save);
    element("clear").addEventListener("click", () => { source.selected.indices = []; });
    element("plot").addEventListener("mouseleave", () => { element("tip").hidden = true; });
    source.selected.properties.indices.change.connect(() => select(source.selected.indices));
    paint();
    filter(true);
    document.body.dataset.ready = "yes";
  }

  (function wait() {
    const points = window.Bokeh && Bokeh.documents.length ? Bokeh.documents[0].get_model_by_name("points") : null;
    if (points) start(points);
    else setTimeout(wait, 20);
  })();
})();
