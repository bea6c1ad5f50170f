// Where the page's data comes from: the server, or, in an export, the scripts that lie beside the page.

const written = globalThis.dosimeterExport; // set by data/run.js of an export
let held = { name: null, loading: null }; // the image that was asked for last

// Answer `path` as the server does; what an export lacks is null.
export const ask = written ? read : request;

async function request(path, question = {}) {
  let reply;
  try {
    reply = await fetch(`/api/explorer/${path}?${new URLSearchParams(question)}`);
  } catch {
    throw new Error("The server cannot be reached. Is it still running?");
  }
  if (reply.ok) return path.startsWith("image/") ? reply.blob() : path.startsWith("values/") ? reply.arrayBuffer() : reply.json();
  const said = await reply.json().catch(() => ({}));
  throw new Error(said.error || "The server refused. Reload the page.");
}

async function read(path, question = {}) {
  const [what, kind] = path.split("/");
  if (what === "run") return written.run;
  if (what === "cases") return written.cases[question.curve];
  if (what === "values") return null;
  const { pictures, points } = await load(`${question.curve}-${question.case}`);
  const point = points.find((each) => each.storage === question.storage && each.epsilon === question.epsilon);
  if (!point) throw new Error(`Epsilon ${question.epsilon} stored as ${question.storage} is not in this export.`);
  if (what === "answer") return point.answer;
  const content = pictures[kind === "difference" ? point.difference[question.times] : point[kind]];
  return new Blob([Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0))], { type: "image/png" });
}

// A page from a file may not fetch, but it may run a script beside it, which leaves an image in `written.images`.
function load(name) {
  if (held.name === name) return held.loading;
  const loading = new Promise((resolve, reject) => {
    const lost = (how) => {
      held = { name: null, loading: null };
      reject(new Error(`data/${name}.js ${how}. Copy the whole folder of the export.`));
    };
    const script = document.createElement("script");
    script.src = `data/${name}.js`;
    script.onload = () => {
      script.remove();
      const image = written.images[name];
      delete written.images[name];
      if (image) resolve(image);
      else lost("is damaged");
    };
    script.onerror = () => {
      script.remove();
      lost("is missing beside this page");
    };
    document.head.append(script);
  });
  held = { name, loading };
  return loading;
}
