// What survives a reload: the list of files in localStorage, and in IndexedDB the files whose upload has not finished.

const PREFIX = "tympan.file.";
const [DATABASE, TABLE] = ["tympan", "files"];
const MOST_ITEMS = 300;
const MOST_BYTES = 4e9;

/** Returns the remembered items, oldest first. What is beyond the newest few hundred is forgotten. */
export function remembered() {
  const found = [];
  for (const name of Object.keys(localStorage).filter((each) => each.startsWith(PREFIX))) {
    try {
      found.push(JSON.parse(localStorage.getItem(name)));
    } catch {
      localStorage.removeItem(name);
    }
  }
  found.sort((one, other) => one.at - other.at);
  for (const item of found.splice(0, Math.max(0, found.length - MOST_ITEMS))) forget(item.id);
  return found;
}

/** Returns an item as another tab may have left it, or null. */
export function recall(id) {
  return JSON.parse(localStorage.getItem(PREFIX + id));
}

/** Keeps an item. A browser that has no room forgets it with its tab, and everything else goes on. */
export function remember(item) {
  try {
    localStorage.setItem(PREFIX + item.id, JSON.stringify(item));
  } catch { /* No room. */ }
}

/** Forgets an item and its file. */
export function forget(id) {
  localStorage.removeItem(PREFIX + id);
  return dropFile(id);
}

/** Calls `seen(id)` when another tab has changed or forgotten an item. Returns what ends that. */
export function listen(seen) {
  const heard = ({ key }) => { if (key?.startsWith(PREFIX)) seen(key.slice(PREFIX.length)); };
  window.addEventListener("storage", heard);
  return () => window.removeEventListener("storage", heard);
}

/** Keeps a file until its upload has finished; returns whether there was room. `keptBytes` are in use already. */
export async function keepFile(id, file, keptBytes) {
  if (keptBytes + file.size > MOST_BYTES) return false;
  try {
    const { quota = Infinity, usage = 0 } = (await navigator.storage?.estimate?.()) ?? {};
    if (file.size > (quota - usage) / 2) return false;
    await act("readwrite", (table) => table.put(file, id));
    return true;
  } catch {
    return false;
  }
}

/** Returns a kept file, or undefined. */
export async function findFile(id) {
  try {
    return await act("readonly", (table) => table.get(id));
  } catch {
    return undefined;
  }
}

/** Removes a kept file, if there is one. */
export async function dropFile(id) {
  await act("readwrite", (table) => table.delete(id)).catch(() => {});
}

/** Removes the kept files of all items but these. */
export async function sweepFiles(ids) {
  const kept = await act("readonly", (table) => table.getAllKeys()).catch(() => []);
  for (const id of kept) if (!ids.has(id)) await dropFile(id);
}

async function act(mode, work) {
  const database = await promised(Object.assign(indexedDB.open(DATABASE, 1), {
    onupgradeneeded: ({ target }) => target.result.createObjectStore(TABLE),
  }));
  try {
    return await promised(work(database.transaction(TABLE, mode).objectStore(TABLE)));
  } finally {
    database.close();
  }
}

function promised(asked) {
  return new Promise((resolve, reject) => {
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(asked.error);
    asked.onblocked = () => reject(new Error("The browser's store is in use."));
  });
}
