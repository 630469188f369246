start("attention", (figure, data) => {
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const levels = data.levels.map((level) => ({ ...level, weights: level.weights.map(bytes) }));
  const state = { level: 0, head: 0, row: data.row, column: data.column };

  const frame = (parent, row, column, side, kind) => {
    const unit = 100 / levels[state.level].map;
    const [x, y, width, height] = [column, row, side, side].map((value) => value * unit);
    return add(parent, "rect", { x, y, width, height, class: kind });
  };

  // The photograph, in front of it a cell for each token, and then outlines.
  const panels = [...figure.querySelectorAll("svg")].map((svg) => {
    svg.setAttribute("viewBox", "-0.6 -0.6 101.2 101.2");
    add(svg, "image", { href: data.photo, width: 100, height: 100 });
    return { svg, cells: add(svg, "g", {}), outlines: add(svg, "g", {}) };
  });

  const draw = () => {
    const { map, window, heads, weights } = levels[state.level];
    const across = map / window;
    const size = window * window;
    const windowOf = (row, column) => Math.floor(row / window) * across + Math.floor(column / window);
    const placeIn = (row, column) => (row % window) * window + (column % window);
    const own = windowOf(state.row, state.column);
    const token = placeIn(state.row, state.column);
    const largest = panels.map(({ cells, outlines }, isGlobal) => {
      let most = { weight: -1 };
      [...cells.children].forEach((cell, i) => {
        const [row, column] = [Math.floor(i / map), i % map];
        const here = windowOf(row, column);
        const index = ((here * heads + state.head) * size + token) * size + placeIn(row, column);
        const weight = isGlobal || here === own ? weights[isGlobal][index] / 255 : 0;
        // Full colour is four times an even share.
        cell.style.fillOpacity = Math.min((weight * size) / 4, 1);
        if (here === own && weight > most.weight) most = { weight, row, column };
      });
      outlines.replaceChildren();
      for (let row = 0; row < map; row += window)
        for (let column = 0; column < map; column += window) frame(outlines, row, column, window, "window");
      frame(outlines, state.row - (state.row % window), state.column - (state.column % window), window, "own");
      frame(outlines, state.row, state.column, 1, "token");
      return `row ${most.row}, column ${most.column}, with ${Math.round(100 * most.weight)} %`;
    });
    say(
      figure,
      `Row ${state.row}, column ${state.column}. In this window it attends most to ${largest[0]} locally, ` +
        `and to ${largest[1]} globally. An even share would be ${(100 / size).toFixed(1)} %.`
    );
  };
  const move = (row, column) => {
    const { map } = levels[state.level];
    const before = `${state.row} ${state.column}`;
    [state.row, state.column] = [within(row, map), within(column, map)];
    if (before !== `${state.row} ${state.column}`) draw();
  };
  const chooseHead = (head) => {
    state.head = head;
    draw();
  };
  const chooseLevel = (number) => {
    const { map, heads } = levels[number];
    const scale = map / levels[state.level].map;
    Object.assign(state, { level: number, head: 0 });
    state.row = Math.floor(state.row * scale);
    state.column = Math.floor(state.column * scale);
    for (const { cells } of panels) {
      cells.replaceChildren();
      for (let i = 0; i < map * map; i++) frame(cells, Math.floor(i / map), i % map, 1, "cell");
    }
    headMenu.replaceChildren(...Array.from({ length: heads }, (_, head) => new Option(head, head)));
    draw();
  };

  menu(figure, "level", levels.map(({ map }, i) => `${i}: ${map}×${map} tokens`), chooseLevel);
  const headMenu = menu(figure, "head", [], chooseHead);
  for (const { svg } of panels) {
    listen(
      svg,
      (x, y) => {
        const { map } = levels[state.level];
        move((y / 100) * map, (x / 100) * map);
      },
      (down, right) => move(state.row + down, state.column + right)
    );
  }
  chooseLevel(0);
});
