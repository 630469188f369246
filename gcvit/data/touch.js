// What the figures to touch share. gcvit.plots.touch puts this and a figure's
// own script into one block, so that several figures on a page do not meet.

/** Start each figure of this name that was not started yet. */
const start = (name, run) => {
  for (const figure of document.querySelectorAll(`.touch.${name}:not(.ready)`)) {
    run(figure, JSON.parse(figure.querySelector("[type='application/json']").textContent));
    figure.classList.add("ready");
  }
};

const say = (figure, text) => {
  figure.querySelector("[aria-live]").textContent = text;
};

const add = (parent, name, attributes, text = "") => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.textContent = text;
  return parent.appendChild(element);
};

/** A labelled menu; choose gets the number of the option. */
const menu = (figure, title, options, choose) => {
  const label = document.createElement("label");
  const select = document.createElement("select");
  label.append(`${title} `, select);
  figure.querySelector(".controls").append(label);
  select.append(...options.map((text, i) => new Option(text, i)));
  select.addEventListener("change", () => choose(Number(select.value)));
  return select;
};

const within = (value, size) => Math.min(Math.max(Math.floor(value), 0), size - 1);

/** Pointer and arrow keys: at gets a point of the drawing, by a step of (rows, columns). */
const listen = (svg, at, by) => {
  const point = (event) => {
    const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    at(x, y);
  };
  svg.addEventListener("pointerdown", point);
  svg.addEventListener("pointermove", point);
  const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  svg.addEventListener("keydown", (event) => {
    if (!(event.key in steps)) return;
    event.preventDefault();
    by(...steps[event.key]);
  });
};

/** A table of numbered cells, row by row, 20 units wide; choose gets the number of a cell. */
const makeTable = (svg, choose) => {
  const table = { rows: 1, columns: 1, chosen: 0 };
  const go = (row, column) => {
    const cell = within(row, table.rows) * table.columns + within(column, table.columns);
    if (cell !== table.chosen) choose(cell);
  };
  listen(
    svg,
    (x, y) => go(y / 20, x / 20),
    (down, right) => go(Math.floor(table.chosen / table.columns) + down, (table.chosen % table.columns) + right)
  );
  // Room at the left and the top is for the names of rows and columns.
  table.resize = (rows, columns, left = 0, top = 0) => {
    Object.assign(table, { rows, columns });
    const [width, height] = [20 * columns + left, 20 * rows + top];
    svg.setAttribute("viewBox", `${-2 - left} ${-2 - top} ${width + 4} ${height + 4}`);
    svg.style.maxWidth = `${1.5 * width}px`;
    svg.replaceChildren();
    table.cells = Array.from({ length: rows * columns }, (_, cell) => {
      const [x, y] = [20 * (cell % columns), 20 * Math.floor(cell / columns)];
      const group = add(svg, "g", {});
      add(group, "rect", { x, y, width: 20, height: 20 });
      return { group, text: add(group, "text", { x: x + 10, y: y + 10 }) };
    });
    // A pale line and a black one: one of them shows on any ground.
    table.outline = add(svg, "g", { class: "chosen" });
    add(table.outline, "rect", { width: 20, height: 20 });
    add(table.outline, "rect", { x: 1.5, y: 1.5, width: 17, height: 17, stroke: "#000" });
  };
  table.show = (chosen, number, isSame) => {
    table.chosen = chosen;
    // Only what changes: even the same text anew would cost a layout.
    table.cells.forEach(({ group, text }, cell) => {
      const [label, kind] = [`${number(cell)}`, isSame(cell) ? "number same" : "number"];
      if (text.textContent !== label) text.textContent = label;
      if (group.getAttribute("class") !== kind) group.setAttribute("class", kind);
    });
    const [x, y] = [20 * (chosen % table.columns), 20 * Math.floor(chosen / table.columns)];
    table.outline.setAttribute("transform", `translate(${x} ${y})`);
  };
  return table;
};
