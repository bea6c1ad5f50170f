// Two images, shown pixel by pixel: every pixel of an image covers the same whole number of the screen's.

export const FULL = Object.freeze({ centre: 0.5, width: 1 });

const DRAG_PX = 5; // a shorter movement is a click

// Decode a PNG without any change of its values.
export async function decode(blob) {
  const exact = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
  return createImageBitmap(blob, exact);
}

// Draw an image through a grey window, whose centre and width are shares of the range from black to white.
export function draw(canvas, image, window) {
  canvas.width = image.width;
  canvas.height = image.height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  if (window.centre === FULL.centre && window.width === FULL.width) return;
  const pixels = context.getImageData(0, 0, image.width, image.height);
  const low = window.centre - window.width / 2;
  const shown = Uint8ClampedArray.from({ length: 256 }, (_, level) => (255 * (level / 255 - low)) / window.width);
  for (let place = 0; place < pixels.data.length; place += 1) {
    if (place % 4 !== 3) pixels.data[place] = shown[pixels.data[place]];
  }
  context.putImageData(pixels, 0, 0);
}

// Make both canvases as large as fits beside each other.
export function fit(canvases, image, room) {
  const ratio = globalThis.devicePixelRatio || 1;
  const times = Math.min((room.width * ratio) / image.width, (room.height * ratio) / image.height);
  const scale = Math.max(1, Math.floor(times));
  for (const canvas of canvases) {
    canvas.style.width = `${(scale * image.width) / ratio}px`;
    canvas.style.height = `${(scale * image.height) / ratio}px`;
  }
}

// Call `click` for a click or tap on a canvas, and `drag(dx, dy)` for a movement, in CSS pixels.
export function listen(canvas, { click, drag }) {
  let from = null;
  let dragged = false;
  canvas.addEventListener("pointerdown", (event) => {
    if (!event.isPrimary || event.button !== 0) return;
    from = { x: event.clientX, y: event.clientY };
    dragged = false;
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (from === null || !event.isPrimary) return;
    const [dx, dy] = [event.clientX - from.x, event.clientY - from.y];
    if (!dragged && Math.hypot(dx, dy) < DRAG_PX) return;
    dragged = true;
    from = { x: event.clientX, y: event.clientY };
    drag(dx, dy);
  });
  canvas.addEventListener("pointerup", () => {
    if (from !== null && !dragged) click();
    from = null;
  });
  canvas.addEventListener("pointercancel", () => { from = null; });
}
