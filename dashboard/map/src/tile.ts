// One tile body, as the server sends it: a 16-byte header, then x, y, row and value columns.

const VERSION = 1;
const HEADER = 16;

export interface Tile {
  readonly count: number;
  /** Rows that lie in this tile in all; `count` of them were sent. */
  readonly total: number;
  readonly x: Float32Array;
  readonly y: Float32Array;
  readonly row: Uint32Array;
  readonly value: Float32Array;
}

export function parse(body: ArrayBuffer): Tile {
  if (body.byteLength < HEADER) {
    throw new Error(`a tile has at least ${HEADER} bytes, got ${body.byteLength}`);
  }
  const [version, count, total] = new Uint32Array(body, 0, 4) as unknown as [number, number, number];
  if (version !== VERSION) throw new Error(`tile version ${VERSION} is known, got ${version}`);
  if (body.byteLength !== HEADER + 16 * count) {
    throw new Error(`a tile of ${count} points has ${HEADER + 16 * count} bytes, got ${body.byteLength}`);
  }
  const at = (column: number): number => HEADER + 4 * count * column;
  return {
    count,
    total,
    x: new Float32Array(body, at(0), count),
    y: new Float32Array(body, at(1), count),
    row: new Uint32Array(body, at(2), count),
    value: new Float32Array(body, at(3), count),
  };
}
