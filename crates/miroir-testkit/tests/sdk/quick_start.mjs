// What the first pages of the official SDK's documentation do, against any server: node quick_start.mjs URL KEY.
// Prints one line of JSON per step, without clocks and counters, so that two servers can be compared.
import { readFileSync } from "node:fs";
import { Meilisearch } from "meilisearch";

const [url, key, moviesFile] = process.argv.slice(2);
const client = new Meilisearch({ host: url, apiKey: key });
const incidental = new Set([
  "processingTimeMs", "taskUid", "uid", "batchUid", "enqueuedAt", "startedAt", "finishedAt", "duration",
  "createdAt", "updatedAt", "databaseSize", "usedDatabaseSize", "rawDocumentDbSize", "avgDocumentSize",
  "lastUpdate", "commitDate", "commitSha",
]);

// Keys sorted: an object has no order.
function comparable(value) {
  if (Array.isArray(value)) return value.map(comparable);
  if (value === null || typeof value !== "object") return value;
  const fields = Object.entries(value).filter(([name]) => !incidental.has(name));
  return Object.fromEntries(fields.sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, part]) => [name, comparable(part)]));
}

function show(step, value) {
  console.log(JSON.stringify({ step, value: comparable(value) }));
}

async function failure(promise) {
  try {
    return { unexpected: await promise };
  } catch (error) {
    return { name: error.name, cause: error.cause };
  }
}

const wait = { timeout: 120_000, interval: 20 };
const movies = JSON.parse(readFileSync(moviesFile, "utf8")).map((movie, number) => ({ id: number + 1, ...movie }));
const index = client.index("movies");

show("health", await client.health());
show("version", await client.getVersion());
show("add", await index.addDocuments(movies).waitTask(wait));
show("search", await index.search("star wars"));
show("settings", await index.updateFilterableAttributes(["Major Genre", "IMDB Rating"]).waitTask(wait));
show("sortable", await index.updateSortableAttributes(["IMDB Rating"]).waitTask(wait));
show("filter", await index.search("love", {
  filter: ['"Major Genre" = Comedy', '"IMDB Rating" > 7'], sort: ["IMDB Rating:desc"], facets: ["Major Genre"],
  attributesToHighlight: ["*"],
}));
show("get", await index.searchGet("war", { limit: 3, attributesToRetrieve: ["Title"] }));
show("placeholder", await index.search("", { page: 2, hitsPerPage: 5 }));
show("document", await index.getDocument(17));
show("documents", await index.getDocuments({ limit: 3, offset: 10, fields: ["id", "Title"] }));
show("filtered documents", await index.getDocuments({ filter: '"IMDB Rating" > 9', limit: 3 }));
show("update", await index.updateDocuments([{ id: 17, Title: "Renamed" }]).waitTask(wait));
show("updated", await index.search("renamed"));
show("delete", await index.deleteDocument(17).waitTask(wait));
show("missing", await failure(index.getDocument(17)));
show("delete several", await index.deleteDocuments([1, 2, 3]).waitTask(wait));
show("delete by filter", await index.deleteDocuments({ filter: '"IMDB Rating" < 3' }).waitTask(wait));
show("stats", await index.getStats());
show("all settings", await index.getSettings());
show("indexes", await client.getIndexes());
show("index", await index.fetchInfo());
show("unknown index", await failure(client.index("nowhere").search("x")));
show("wrong filter", await failure(index.search("x", { filter: "nowhere = 1" })));
show("create", await client.createIndex("books", { primaryKey: "isbn" }).waitTask(wait));
show("create again", await client.createIndex("books").waitTask(wait));
show("drop", await client.deleteIndex("books").waitTask(wait));
show("tasks", (await client.tasks.getTasks({ limit: 4 })).results.map(({ type, status, error }) => ({ type, status, error })));
