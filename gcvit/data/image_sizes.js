// The chapters' functions again, for sizes that nobody has computed before.
// tests/test_touch.py compares their answers.

const halve = (size) => Math.floor((size + 1) / 2);

const levelMaps = (size, levels) => {
  let map = size.map(halve);
  return Array.from({ length: levels }, () => (map = map.map(halve)));
};

const halvings = ([height, width], [h, w]) => {
  for (let count = 0; count < 32; count++) if (h * 2 ** count === height && w * 2 ** count === width) return count;
  return null;
};

const fittingWindows = (map) => {
  const windows = [map];
  while (windows[0].every((side) => side % 2 === 0)) windows.unshift(windows[0].map((side) => side / 2));
  return windows;
};

const windowsFor = (size, levels) =>
  levelMaps(size, levels).map((map, level) => {
    const halved = fittingWindows(map).reverse();
    return halved[Math.min([3, 2][level] ?? 0, halved.length - 1)];
  });

const nearestImageSizes = ([height, width], windows) => {
  const sizes = Array.from({ length: 16 }, (_, count) => windows[0].map((side) => 4 * side * 2 ** count));
  const works = (size) => levelMaps(size, windows.length).every((map, level) => halvings(map, windows[level]) !== null);
  const distance = (size) => Math.abs(size[0] - height) + Math.abs(size[1] - width);
  return sizes.filter(works).sort((one, other) => distance(one) - distance(other)).slice(0, 2);
};

const pair = (entry) => (Array.isArray(entry) ? entry : [entry, entry]);

const isSize = (pair) => pair.length === 2 && pair.every((side) => Number.isInteger(side) && side > 0 && side <= 2048);

/** Windows as they are written in Python, as pairs; null if they are none. */
const readWindows = (text) => {
  try {
    const windows = JSON.parse(`[${text.replaceAll("(", "[").replaceAll(")", "]")}]`).map(pair);
    return windows.length && windows.every(isSize) ? windows : null;
  } catch {
    return null;
  }
};

const written = (windows) => windows.map(([h, w]) => (h === w ? `${h}` : `(${h}, ${w})`)).join(", ");

const counted = (number) => (number === 1 ? "1 window" : `${number} windows`);

/** Why windows do not fit a map. */
const reason = (map, window) => {
  const counts = map.map((side, i) => Math.floor(side / window[i]));
  for (const [i, name] of ["rows", "columns"].entries()) {
    const rest = map[i] % window[i];
    if (!counts[i]) return `${map[i]} ${name} are less than a window of ${window[i]}`;
    if (rest) return `${map[i]} ${name} are ${counted(counts[i])} of ${window[i]}, and ${rest} left over`;
  }
  for (const [i, name] of ["high", "wide"].entries())
    if (!Number.isInteger(Math.log2(counts[i]))) return `it is ${counted(counts[i])} ${name}, which is not a power of two`;
  return `it is ${counted(counts[0])} high and ${counts[1]} wide, not the same`;
};

start("image_sizes", (figure, data) => {
  const [height, width, field] = figure.querySelectorAll("input");
  const imageSize = () => [Number(height.value), Number(width.value)];

  /** A level's map, cut into its windows. */
  const drawMap = (parent, map, window) => {
    const unit = 100 / Math.max(...map);
    const [high, wide] = map.map((side) => side * unit);
    const svg = add(parent, "svg", { viewBox: "-1 -1 102 102", "aria-hidden": true });
    add(svg, "rect", { width: wide, height: high, class: "map" });
    const lines = [];
    for (let y = window[0]; y < map[0]; y += window[0]) lines.push(`M0 ${y * unit}h${wide}`);
    for (let x = window[1]; x < map[1]; x += window[1]) lines.push(`M${x * unit} 0v${high}`);
    add(svg, "path", { d: lines.join(""), "stroke-width": Math.min(1, (Math.min(...window) * unit) / 6) });
  };

  const draw = () => {
    const list = figure.querySelector("ol");
    list.replaceChildren();
    const size = imageSize();
    if (!isSize(size)) return say(figure, "Height and width are whole numbers from 1 to 2048.");
    const windows = readWindows(field.value);
    if (!windows)
      return say(figure, "Write the windows as in Python, one for each level: 7, 7, 14, 7, or (8, 10), (8, 10), (16, 20), (8, 10).");
    const maps = levelMaps(size, windows.length);
    const counts = maps.map((map, level) => halvings(map, windows[level]));
    maps.forEach((map, level) => {
      const item = list.appendChild(document.createElement("li"));
      const [window, count] = [windows[level], counts[level]];
      item.className = count === null ? "" : "fits";
      drawMap(item, map, window);
      const text = item.appendChild(document.createElement("p"));
      const result =
        count === null
          ? `Does not fit: ${reason(map, window)}. What fits: ${written(fittingWindows(map))}.`
          : `Fits: ${2 ** count}×${2 ** count} windows, K = ${count}.`;
      text.textContent = `Level ${level}: a map of ${map.join("×")} in windows of ${window.join("×")}. ${result}`;
    });
    const image = size.join("×");
    const failing = counts.indexOf(null);
    if (failing < 0) return say(figure, `${image} works. The levels halve their maps ${counts.join(", ")} times for the global query.`);
    const nearest = nearestImageSizes(size, windows).map((other) => other.join("×"));
    say(
      figure,
      `${image} does not work: level ${failing} does not fit. Nearest image sizes that work with these windows: ` +
        `${nearest.join(", ") || "none"}. Windows that work with this size: ${written(windowsFor(size, windows.length))}.`
    );
  };

  const button = (text, windows) => {
    const element = document.createElement("button");
    Object.assign(element, { type: "button", textContent: text });
    element.addEventListener("click", () => {
      if (isSize(imageSize())) field.value = written(windows());
      draw();
    });
    figure.querySelector("[role='group']").append(element, " ");
  };
  for (const [name, windows] of Object.entries(data.windows)) button(name, () => windows.map(pair));
  button("this image", () => windowsFor(imageSize(), 4));
  for (const input of [height, width, field]) input.addEventListener("input", draw);
  field.value = written(data.windows.xxtiny.map(pair));
  draw();
});
