// Pictures of the server: a small one of the whole, and tiles where that is too coarse.

const TILE = 512;
const WHOLE = 2048;
const MOST_LEVELS = 31;

/** A source for compare.js of a picture that is `width` × `height` pixels. */
export function tiledSource(base, width, height, name) {
  return {
    name,
    mount(element, shownWidth) {
      const times = shownWidth / width; // above 1 for a photograph that a network enlarged
      const whole = new Image();
      whole.className = "whole";
      whole.alt = name;
      whole.draggable = false;
      whole.src = base;
      element.replaceChildren(whole);
      const tiles = new Map();
      const enough = Math.min(1, WHOLE / Math.max(width, height));
      return (seen) => {
        const density = seen.near * times; // device pixels for a pixel of this picture
        const wanted = density <= enough * 1.01 ? [] : tilesIn(seen, density, times);
        show(wanted, tiles, element, times, base);
      };
    },
  };

  function tilesIn(seen, density, times) {
    const level = Math.max(0, Math.min(MOST_LEVELS, Math.floor(Math.log2(1 / density))));
    const side = TILE * 2 ** level;
    const rows = Math.ceil(height / side);
    const columns = Math.ceil(width / side);
    const first = (value) => Math.max(0, Math.floor(value / times / side));
    const last = (value, count) => Math.min(count - 1, Math.floor(value / times / side));
    const found = [];
    for (let row = first(seen.top); row <= last(seen.bottom, rows); row++) {
      for (let column = first(seen.left); column <= last(seen.right, columns); column++) {
        found.push({ level, row, column, side });
      }
    }
    return found;
  }
}

function show(wanted, tiles, element, times, base) {
  const keys = new Set();
  for (const { level, row, column, side } of wanted) {
    const key = `${level}/${row}/${column}`;
    keys.add(key);
    if (tiles.has(key)) continue;
    const tile = new Image();
    tile.alt = "";
    tile.draggable = false;
    tile.style.left = `${column * side * times}px`;
    tile.style.top = `${row * side * times}px`;
    tile.addEventListener("load", () => {
      tile.style.width = `${tile.naturalWidth * 2 ** level * times}px`;
      tile.style.height = `${tile.naturalHeight * 2 ** level * times}px`;
      element.append(tile);
      prune(tiles, element.keys ?? keys);
    });
    tile.src = `${base}/tiles/${key}`;
    tiles.set(key, tile);
  }
  element.keys = keys;
  prune(tiles, keys);
}

/** Remove tiles that are not wanted, once those that are have come. */
function prune(tiles, keys) {
  const missing = [...keys].some((key) => !tiles.get(key)?.isConnected);
  if (missing) return;
  for (const [key, tile] of tiles) {
    if (keys.has(key)) continue;
    tile.remove();
    tiles.delete(key);
  }
}
