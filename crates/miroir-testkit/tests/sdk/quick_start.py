"""What the first pages of the official Python SDK do, and then keys, tokens, federated search, tasks and dumps,
against any server: python quick_start.py URL KEY MOVIES.

Prints one line of JSON per step, without clocks and counters, so that two servers can be compared.
"""

import json
import sys
from datetime import datetime, timezone

import meilisearch
from meilisearch.errors import MeilisearchApiError

url, key, movies_file = sys.argv[1:]
client = meilisearch.Client(url, key)
INCIDENTAL = {
    "processingTimeMs", "taskUid", "task_uid", "batchUid", "enqueuedAt", "enqueued_at", "startedAt", "started_at",
    "finishedAt", "finished_at", "duration", "created_at", "updated_at", "rawDocumentDbSize", "raw_document_db_size",
    "avgDocumentSize", "avg_document_size", "commitDate", "commitSha",
}
# With a fraction of a second: the SDK reads no other moment of a key.
NEVER = datetime(2999, 1, 1, microsecond=500_000, tzinfo=timezone.utc)


def comparable(value):
    """The value as JSON, keys sorted by the caller: models and documents are objects with fields."""
    if isinstance(value, (str, int, float)) or value is None:
        return value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, (list, tuple)):
        return [comparable(part) for part in value]
    fields = value if isinstance(value, dict) else vars(value)
    fields = fields.get("_Document__doc", fields)
    # The uid of a task or batch is a number, that of an index a name.
    return {
        name: comparable(part) for name, part in fields.items()
        if name not in INCIDENTAL and not (name == "uid" and isinstance(part, int))
    }


def show(step, value):
    print(json.dumps({"step": step, "value": comparable(value)}, sort_keys=True))


def done(task):
    return client.wait_for_task(task.task_uid, timeout_in_ms=120_000, interval_in_ms=20)


def failure(call, *arguments, **options):
    try:
        return {"unexpected": call(*arguments, **options)}
    except MeilisearchApiError as error:
        return {"status": error.status_code, "code": error.code, "type": error.type, "link": error.link, "said": str(error)}


# The quick start: six films, a typing error, highlighting, a filter, facets.
films = client.index("films")
show("first documents", done(films.add_documents([
    {"id": 1, "title": "Carol", "genres": ["Romance", "Drama"]},
    {"id": 2, "title": "Wonder Woman", "genres": ["Action", "Adventure"]},
    {"id": 3, "title": "Life of Pi", "genres": ["Adventure", "Drama"]},
    {"id": 4, "title": "Mad Max: Fury Road", "genres": ["Adventure", "Science Fiction"]},
    {"id": 5, "title": "Moana", "genres": ["Fantasy", "Action"]},
    {"id": 6, "title": "Philadelphia", "genres": ["Drama"]},
])))
show("typing error", films.search("caorl"))
show("highlighted", films.search("phil", {"attributesToHighlight": ["*"]}))
show("filterable", done(films.update_filterable_attributes(["id", "genres"])))
show("filtered", films.search("wonder", {"filter": ["id > 1 AND genres = Action"]}))
show("facets", films.search("", {"facets": ["genres"]}))

# More of it, with real films.
show("health", client.health())
show("version", client.get_version())
with open(movies_file, encoding="utf8") as file:
    movies = [{"id": number, **movie} for number, movie in enumerate(json.load(file), 1)]
index = client.index("movies")
show("in batches", [done(task) for task in index.add_documents_in_batches(movies, batch_size=1_500)])
show("settings", done(index.update_settings({
    "filterableAttributes": ["Major Genre", "IMDB Rating"], "sortableAttributes": ["IMDB Rating"],
    "synonyms": {"space": ["alien"]}, "typoTolerance": {"minWordSizeForTypos": {"oneTypo": 4}},
})))
show("all settings", index.get_settings())
show("typo tolerance", index.get_typo_tolerance())
show("search", index.search("star wars"))
show("filter and sort", index.search("love", {
    "filter": ['"Major Genre" = Comedy', '"IMDB Rating" > 7'], "sort": ["IMDB Rating:desc"], "facets": ["Major Genre"],
}))
show("page", index.search("", {"page": 2, "hitsPerPage": 5}))
show("facet search", index.facet_search("Major Genre", "com"))
show("document", index.get_document(17))
show("documents", index.get_documents({"limit": 3, "offset": 10, "fields": ["id", "Title"]}))
show("filtered documents", index.get_documents({"filter": '"IMDB Rating" > 9', "limit": 3}))
show("update", done(index.update_documents([{"id": 17, "Title": "Renamed"}])))
show("updated", index.search("renamed"))
show("lines", done(index.add_documents_ndjson(b'{"id": 17, "Title": "Again"}\n{"id": 18, "Title": "Once more"}\n')))
show("delete", done(index.delete_document(17)))
show("missing", failure(index.get_document, 17))
show("delete several", done(index.delete_documents([1, 2, 3])))
show("delete by filter", done(index.delete_documents(filter='"IMDB Rating" < 3')))
show("stats", index.get_stats())
show("primary key", client.get_index("movies").primary_key)
show("indexes", [found.uid for found in client.get_indexes()["results"]])
show("unknown index", failure(client.index("nowhere").search, "x"))
show("wrong filter", failure(index.search, "x", {"filter": "nowhere = 1"}))
show("create", done(client.create_index("books", {"primaryKey": "isbn"})))
show("create again", done(client.create_index("books")))
show("swap", done(client.swap_indexes([{"indexes": ["films", "books"]}])))
show("swapped", client.index("books").search("carol"))
show("drop", done(client.delete_index("books")))

# Several searches, as lists of their own and as one.
done(client.index("actors").add_documents([
    {"id": 1, "name": "Star Wars fan", "born": 1970}, {"id": 2, "name": "Nobody", "born": 1980},
]))
show("multi-search", client.multi_search([
    {"indexUid": "movies", "q": "star wars", "limit": 3}, {"indexUid": "actors", "q": "star"},
]))
show("federated search", client.multi_search(
    [{"indexUid": "movies", "q": "star wars"}, {"indexUid": "actors", "q": "star", "federationOptions": {"weight": 2}}],
    {"limit": 5},
))

# A key, and what it opens.
uid = "12345678-aaaa-4bbb-8ccc-000000000002"
made = client.create_key({
    "uid": uid, "name": "search of movies", "description": "", "actions": ["search"], "indexes": ["movies"],
    "expiresAt": NEVER.isoformat(),
})
show("key", {name: part for name, part in vars(made).items() if name != "key"})
show("same key", client.get_key(uid).key == made.key)
show("renamed key", client.update_key(uid, {"name": "renamed"}).name)
show("keys", [[one.name, one.actions, one.indexes] for one in client.get_keys().results])
reader = meilisearch.Client(url, made.key)
show("search with a key", reader.index("movies").search("alien", {"limit": 2}))
show("another index", failure(reader.index("actors").search, "star"))
show("no documents", failure(reader.index("movies").get_documents))

# A tenant token, and what it opens.
token = client.generate_tenant_token(uid, {"movies": {"filter": '"Major Genre" = Comedy'}}, expires_at=NEVER, api_key=made.key)
tenant = meilisearch.Client(url, token)
show("search of a tenant", tenant.index("movies").search("love", {"limit": 3}))
show("filter of a tenant", tenant.index("movies").search("love", {"filter": '"Major Genre" = Drama'}))
show("another index of a tenant", failure(tenant.index("actors").search, "star"))
show("key deleted", client.delete_key(uid))
show("key taken away", failure(reader.index("movies").search, "alien"))
show("token taken away", failure(tenant.index("movies").search, "alien"))

# Tasks, and a dump.
show("tasks", client.get_tasks({"limit": 4}).results)
show("failed tasks", client.get_tasks({"statuses": ["failed"]}).results)
show("tasks of an index", index.get_tasks({"types": ["documentDeletion"]}).results)
cleared = client.index("actors").delete_all_documents()
show("waited for", done(cleared))
show("one task", client.get_task(cleared.task_uid))
show("no such task", failure(client.get_task, 1_000_000)["code"])
show("deleted tasks", done(client.delete_tasks({"indexUids": ["books"]})).details["matchedTasks"])
show("batches", [batch.stats["types"] for batch in client.get_batches({"limit": 1}).results])
dump = done(client.create_dump())
show("dump", [dump.status, dump.type, dump.error, type(dump.details["dumpUid"]).__name__])
