// Files as people hand them over: chosen, dropped or pasted, alone or in folders.

const MOST_FILES = 2000;
const MEDIA = new Set(("3g2 3gp aac ac3 aif aiff alac amr ape au avi caf dss flac flv m4a m4b m4v mka mkv mov mp2 mp3 mp4 " +
  "mpeg mpg mpga mts oga ogg ogv opus spx tta ts w64 wav weba webm wma wmv wv").split(" "));

/** Returns `{files: [{name, file}], skipped}` of a file input; of a folder, only what looks like audio or video. */
export function chosen(input) {
  const all = [...input.files].map((file) => ({ name: file.webkitRelativePath || file.name, file }));
  return input.webkitdirectory ? sorted(all) : { files: all.slice(0, MOST_FILES), skipped: Math.max(0, all.length - MOST_FILES) };
}

/** Returns the same of what was dropped. Folders are read with all that is in them. */
export async function dropped(transfer) {
  // What a drop holds can be asked for only now, before anything is waited for.
  const entries = [...transfer.items].filter((item) => item.kind === "file").map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
  const [plain, inFolders] = [[], []];
  for (const entry of entries.filter(Boolean)) {
    if (entry instanceof File) plain.push({ name: entry.name, file: entry });
    else if (entry.isFile) plain.push({ name: entry.name, file: await fileOf(entry) });
    else await walk(entry, inFolders);
  }
  const found = sorted(inFolders);
  const files = [...plain, ...found.files].filter(({ file }) => file);
  return { files: files.slice(0, MOST_FILES), skipped: found.skipped + Math.max(0, files.length - MOST_FILES) };
}

/** Returns the same of what was pasted. */
export function pasted(transfer) {
  const files = [...transfer.files].map((file) => ({ name: file.name, file }));
  return { files: files.slice(0, MOST_FILES), skipped: Math.max(0, files.length - MOST_FILES) };
}

/** Returns the web addresses in a text. */
export function addresses(text) {
  return text.split(/\s+/).filter((word) => /^https?:\/\/[^/]/i.test(word)).slice(0, MOST_FILES);
}

function sorted(all) {
  const media = all.filter(({ name, file }) => file && isMedia(name, file))
    .sort((one, other) => one.name.localeCompare(other.name, undefined, { numeric: true }));
  return { files: media.slice(0, MOST_FILES), skipped: all.length - Math.min(media.length, MOST_FILES) };
}

function isMedia(name, file) {
  const [base] = name.split("/").slice(-1);
  if (base.startsWith(".")) return false;
  return /^(audio|video)\//.test(file.type) || MEDIA.has(base.split(".").pop().toLowerCase());
}

async function walk(folder, found) {
  const reader = folder.createReader();
  while (found.length < MOST_FILES) {
    const some = await new Promise((resolve, reject) => { reader.readEntries(resolve, reject); }).catch(() => []);
    if (!some.length) return;
    for (const entry of some) {
      if (entry.isDirectory) await walk(entry, found);
      else found.push({ name: entry.fullPath.replace(/^\//, ""), file: await fileOf(entry) });
    }
  }
}

function fileOf(entry) {
  return new Promise((resolve) => { entry.file(resolve, () => resolve(null)); });
}
