// What the first pages of the official SDK's documentation do, and then keys, tokens, federated search, tasks and dumps,
// against any server: node quick_start.mjs URL KEY MOVIES.
// Prints one line of JSON per step, without clocks and counters, so that two servers can be compared.
import { readFileSync } from "node:fs";
import { Meilisearch } from "meilisearch";
import { generateTenantToken } from "meilisearch/token";

const [url, key, moviesFile] = process.argv.slice(2);
const client = new Meilisearch({ host: url, apiKey: key });
// Node.js 18 has it under another name; the SDK signs tokens with it.
globalThis.crypto ??= (await import("node:crypto")).webcrypto;
const incidental = new Set([
  "processingTimeMs", "taskUid", "batchUid", "enqueuedAt", "startedAt", "finishedAt", "duration",
  "createdAt", "updatedAt", "databaseSize", "usedDatabaseSize", "rawDocumentDbSize", "avgDocumentSize",
  "lastUpdate", "commitDate", "commitSha",
]);

// Keys sorted: an object has no order.
function comparable(value) {
  if (Array.isArray(value)) return value.map(comparable);
  if (value === null || typeof value !== "object") return value;
  // The uid of a task or batch is a number, that of an index a name.
  const isIncidental = ([name, part]) => incidental.has(name) || (name === "uid" && typeof part === "number");
  const fields = Object.entries(value).filter((field) => !isIncidental(field));
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

// The quick start: six films, a typing error, highlighting, a filter, facets.
const films = client.index("films");
show("first documents", await films.addDocuments([
  { id: 1, title: "Carol", genres: ["Romance", "Drama"] },
  { id: 2, title: "Wonder Woman", genres: ["Action", "Adventure"] },
  { id: 3, title: "Life of Pi", genres: ["Adventure", "Drama"] },
  { id: 4, title: "Mad Max: Fury Road", genres: ["Adventure", "Science Fiction"] },
  { id: 5, title: "Moana", genres: ["Fantasy", "Action"] },
  { id: 6, title: "Philadelphia", genres: ["Drama"] },
]).waitTask(wait));
show("typing error", await films.search("philoudelphia"));
show("highlighted", await films.search("wonder", { attributesToHighlight: ["*"] }));
show("filterable", await films.updateFilterableAttributes(["id", "genres"]).waitTask(wait));
show("filtered", await films.search("wonder", { filter: ["id > 1 AND genres = Action"] }));
show("facets", await films.search("", { filter: ["genres = fantasy"], facets: ["genres"] }));

// More of it, with real films.
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

// Several searches, as lists of their own and as one.
await client.index("actors").addDocuments([
  { id: 1, name: "Star Wars fan", born: 1970 }, { id: 2, name: "Nobody", born: 1980 },
]).waitTask(wait);
const queries = [{ indexUid: "movies", q: "star wars", limit: 3 }, { indexUid: "actors", q: "star" }];
show("multi-search", await client.multiSearch({ queries }));
show("federated search", await client.multiSearch({
  federation: { limit: 5 },
  queries: [{ indexUid: "movies", q: "star wars" }, { indexUid: "actors", q: "star", federationOptions: { weight: 2 } }],
}));
show("facet search", await index.searchForFacetValues({ facetName: "Major Genre", facetQuery: "com" }));

// A key, and what it opens.
const uid = "12345678-aaaa-4bbb-8ccc-000000000001";
const made = await client.createKey({
  uid, name: "search of movies", description: "", actions: ["search"], indexes: ["movies"], expiresAt: "2999-01-01T00:00:00Z",
});
const { key: secret, ...shown } = made;
show("key", { ...shown, uid });
show("same key", (await client.getKey(uid)).key === secret);
show("renamed key", (await client.updateKey(uid, { name: "renamed" })).name);
show("keys", (await client.getKeys()).results.map(({ name, actions, indexes }) => ({ name, actions, indexes })));
const reader = new Meilisearch({ host: url, apiKey: secret });
show("search with a key", await reader.index("movies").search("alien", { limit: 2 }));
show("another index", await failure(reader.index("actors").search("star")));
show("no documents", await failure(reader.index("movies").getDocuments()));

// A tenant token, and what it opens.
const searchRules = { movies: { filter: '"Major Genre" = Comedy' } };
const token = await generateTenantToken({ apiKey: secret, apiKeyUid: uid, searchRules, expiresAt: new Date("2999-01-01") });
const tenant = new Meilisearch({ host: url, apiKey: token });
show("search of a tenant", await tenant.index("movies").search("love", { limit: 3 }));
show("filter of a tenant", await tenant.index("movies").search("love", { filter: '"Major Genre" = Drama' }));
show("another index of a tenant", await failure(tenant.index("actors").search("star")));
await client.deleteKey(uid);
show("key taken away", await failure(reader.index("movies").search("alien")));
show("token taken away", await failure(tenant.index("movies").search("alien")));

// Tasks, and a dump.
const tasks = async (filter) =>
  (await client.tasks.getTasks(filter)).results.map(({ type, status, error }) => ({ type, status, error }));
show("tasks", await tasks({ limit: 4 }));
show("failed tasks", await tasks({ statuses: ["failed"] }));
show("tasks of an index", await tasks({ indexUids: ["books"], types: ["indexCreation", "indexDeletion"] }));
const cleared = client.index("actors").deleteAllDocuments();
const { taskUid } = await cleared;
show("waited for", await client.tasks.waitForTask(taskUid, wait));
show("one task", await client.tasks.getTask(taskUid));
show("deleted tasks", (await client.tasks.deleteTasks({ indexUids: ["books"] }).waitTask(wait)).details);
show("batches", (await client.batches.getBatches({ limit: 1 })).results.map(({ stats }) => stats.types));
const { details: { dumpUid }, ...dump } = await client.createDump().waitTask(wait);
show("dump", { ...dump, named: typeof dumpUid });
