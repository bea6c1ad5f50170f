// The display check: a test pattern, and a bar to measure the screen with.

const CARD_MM = 53.98; // the short side of a bank card, ISO/IEC 7810 ID-1
const STEPS = 11;

const grey = (share) => {
  const level = Math.round(255 * share);
  return `rgb(${level}, ${level}, ${level})`;
};

// Draw grey steps from black to white, and faint squares in black (0 and 5 %) and in white (100 and 95 %).
export function drawPattern(canvas) {
  canvas.width = 660;
  canvas.height = 330;
  const context = canvas.getContext("2d");
  const rectangle = (share, x, y, width, height) => {
    context.fillStyle = grey(share);
    context.fillRect(x, y, width, height);
  };
  rectangle(0.5, 0, 0, 660, 330);
  for (let step = 0; step < STEPS; step += 1) rectangle(step / (STEPS - 1), step * 60, 0, 60, 90);
  for (const [x, outer, inner] of [[60, 0, 0.05], [390, 1, 0.95]]) {
    rectangle(outer, x, 110, 210, 200);
    rectangle(inner, x + 65, 170, 80, 80);
  }
}

// Let the slider set the bar's length; return a function that tells CSS pixels for each millimetre.
export function ruler(bar, slider) {
  const resize = () => { bar.style.width = `${slider.value * CARD_MM}px`; };
  slider.value = 96 / 25.4;
  slider.addEventListener("input", resize);
  resize();
  return () => Number(slider.value);
}
