// What a key can allow, in words for people, and which of it a usual key has.

/** `[name, title, meaning, usual]`. */
export const SCOPES = [
  ["transcribe", "Transcribe", "transcribe and translate files and live speech, detect languages", true],
  ["jobs:read", "See jobs", "jobs, batches and uploads, with their results", true],
  ["jobs:write", "Make jobs", "make, cancel and erase jobs, batches and uploads", true],
  ["webhooks", "Webhooks", "see and change webhook endpoints, with their secrets", true],
  ["models:read", "See models", "list the models", true],
  ["usage:read", "See usage", "what the tenant has used", true],
  ["metrics", "See the server", "metrics, quality and alarms of the whole server", false],
  ["admin", "Run the server", "models, keys and tenants, golden sets, capacity", false],
];

/** The scopes that stand for one way of use, to be chosen with one press. */
export const SETS = [
  ["An application", SCOPES.filter(([, , , usual]) => usual).map(([name]) => name)],
  ["A person with this page", SCOPES.filter(([name]) => name !== "admin").map(([name]) => name)],
  ["An operator", SCOPES.map(([name]) => name)],
  ["Prometheus", ["metrics"]],
];
