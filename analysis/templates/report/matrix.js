// Heat maps with a cursor that the pointer, or the arrow keys, move. Row 0 is on top unless `isUpward`.

/** Where the cursor of a matrix stands. */
class Cursor {
  constructor() {
    this.row = this.column = 0;
    this.isShown = false;
  }

  /** Move by an arrow key, Home or End; return whether the key was one. */
  press(key, nRows, nColumns, isUpward) {
    const down = isUpward ? -1 : 1;
    const moves = { ArrowUp: [-down, 0], ArrowDown: [down, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Home: [0, -nColumns], End: [0, nColumns] };
    if (!(key in moves)) return false;
    const [rows, columns] = this.isShown ? moves[key] : [0, 0];
    this.isShown = true;
    this.moveTo(this.row + rows, this.column + columns, nRows, nColumns);
    return true;
  }

  moveTo(row, column, nRows, nColumns) {
    this.row = Math.min(Math.max(row, 0), nRows - 1);
    this.column = Math.min(Math.max(column, 0), nColumns - 1);
  }
}

/** Return the outline of a cell. */
function outline(row, column, colour, width = 2.5) {
  return { type: "rect", x0: column - 0.5, x1: column + 0.5, y0: row - 0.5, y1: row + 0.5, line: { color: colour, width } };
}

function heatmap(z, [zmin, zmax], title, colours, colorscale) {
  return {
    type: "heatmap", z, zmin, zmax, colorscale, hoverinfo: "none", hoverongaps: true,
    colorbar: { title: { text: title, side: "right" }, thickness: 12, outlinewidth: 0, tickcolor: colours.ink },
  };
}
