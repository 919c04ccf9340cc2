//! What the first page of the official Rust SDK does, and then keys, tokens, federated search, tasks and dumps, against any
//! server. Gives one line per step, without clocks and counters, so that two servers can be compared.

use std::fmt::Debug;
use std::path::Path;
use std::time::Duration;

use meilisearch_sdk::client::{Client, SwapIndexes};
use meilisearch_sdk::documents::{DocumentDeletionQuery, DocumentQuery, DocumentsQuery};
use meilisearch_sdk::errors::Error;
use meilisearch_sdk::key::{Action, KeyBuilder};
use meilisearch_sdk::search::{
    FacetSearchQuery, FederationOptions, MultiSearchResponse, SearchQuery, SearchResults, Selectors,
};
use meilisearch_sdk::settings::Settings;
use meilisearch_sdk::task_info::TaskInfo;
use meilisearch_sdk::tasks::{Task, TaskType, TasksDeleteQuery, TasksSearchQuery};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

type Movie = Map<String, Value>;

#[derive(Serialize, Deserialize, Debug)]
struct Film {
    id: usize,
    title: String,
    genres: Vec<String>,
}

/// The steps so far, a line each.
struct Steps<'a> {
    client: &'a Client,
    lines: Vec<String>,
}

impl Steps<'_> {
    fn show(&mut self, step: &str, value: impl Debug) {
        self.lines.push(format!("{step}: {value:?}"));
    }

    /// Waits for a task and shows what became of it.
    async fn done(&mut self, step: &str, task: TaskInfo) -> Result<(), Error> {
        let (every, limit) = (Duration::from_millis(20), Duration::from_secs(120));
        let task = task.wait_for_completion(self.client, Some(every), Some(limit)).await?;
        self.show(step, shown(task));
        Ok(())
    }

    fn refused<T>(&mut self, step: &str, answer: Result<T, Error>) {
        self.show(step, answer.err());
    }
}

/// What is the same of a task on any server.
fn shown(task: Task) -> String {
    match task {
        Task::Succeeded { content } => match content.update_type {
            TaskType::DumpCreation { details } => {
                format!("dump {}", details.is_some_and(|details| details.dump_uid.is_some()))
            }
            other => format!("{:?} {other:?}", content.index_uid),
        },
        Task::Failed { content } => format!("{:?} {:?}", content.task.index_uid, content.error),
        unfinished => format!("unfinished: {unfinished:?}"),
    }
}

/// Facets are maps without order: as JSON they have one.
fn found<T: Serialize>(mut results: SearchResults<T>) -> Value {
    results.processing_time_ms = 0;
    let mut answer = json!(results);
    answer.sort_all_objects();
    answer
}

/// Does all of it against the server at `url`.
///
/// # Errors
///
/// The first answer that the SDK does not take, where none was expected.
pub async fn steps(url: &str, key: &str, movies: &Path) -> Result<Vec<String>, Error> {
    let client = Client::new(url, Some(key))?;
    let mut steps = Steps { client: &client, lines: Vec::new() };
    films(&mut steps).await?;
    documents(&mut steps, movies).await?;
    several(&mut steps).await?;
    keys(&mut steps, url).await?;
    tasks(&mut steps).await?;
    Ok(steps.lines)
}

/// The quick start: six films, a typing error, highlighting, a filter.
async fn films(steps: &mut Steps<'_>) -> Result<(), Error> {
    let film = |id, title: &str, genres: &[&str]| Film {
        id,
        title: title.to_owned(),
        genres: genres.iter().map(|genre| (*genre).to_owned()).collect(),
    };
    let films = steps.client.index("films");
    let added = films
        .add_documents(
            &[
                film(1, "Carol", &["Romance", "Drama"]),
                film(2, "Wonder Woman", &["Action", "Adventure"]),
                film(3, "Life of Pi", &["Adventure", "Drama"]),
                film(4, "Mad Max", &["Adventure", "Science Fiction"]),
                film(5, "Moana", &["Fantasy", "Action"]),
                film(6, "Philadelphia", &["Drama"]),
            ],
            Some("id"),
        )
        .await?;
    steps.done("first documents", added).await?;
    steps.show("typing error", films.search().with_query("caorl").execute::<Film>().await?.hits);
    let highlighted =
        films.search().with_query("phil").with_attributes_to_highlight(Selectors::Some(&["*"])).build();
    steps.show("highlighted", found(highlighted.execute::<Film>().await?));
    steps.done("filterable", films.set_filterable_attributes(["id", "genres"]).await?).await?;
    let filtered = films.search().with_query("wonder").with_filter("id > 1 AND genres = Action").build();
    steps.show("filtered", found(filtered.execute::<Film>().await?));
    Ok(())
}

/// Documents, settings, searches and indexes, with real films.
async fn documents(steps: &mut Steps<'_>, movies: &Path) -> Result<(), Error> {
    let client = steps.client;
    steps.show("health", client.health().await?.status);
    steps.show("version", client.get_version().await?.pkg_version);
    let text = std::fs::read_to_string(movies).map_err(|error| Error::Other(Box::new(error)))?;
    let mut all: Vec<Movie> = serde_json::from_str(&text)?;
    for (number, movie) in all.iter_mut().enumerate() {
        movie.insert("id".to_owned(), json!(number + 1));
    }
    let mut index = client.index("movies");
    for task in index.add_documents_in_batches(&all, Some(1_500), Some("id")).await? {
        steps.done("in batches", task).await?;
    }
    let settings = Settings::new()
        .with_filterable_attributes(["Major Genre", "IMDB Rating"])
        .with_sortable_attributes(["IMDB Rating"])
        .with_stop_words(["the"]);
    steps.done("settings", index.set_settings(&settings).await?).await?;
    steps.show("all settings", json!(index.get_settings().await?));
    steps.show("search", found(index.search().with_query("star wars").execute::<Movie>().await?));
    let sorted = SearchQuery::new(&index)
        .with_query("love")
        .with_array_filter(vec!["\"Major Genre\" = Comedy", "\"IMDB Rating\" > 7"])
        .with_sort(&["IMDB Rating:desc"])
        .with_facets(Selectors::Some(&["Major Genre"]))
        .build();
    steps.show("filter and sort", found(sorted.execute::<Movie>().await?));
    let page = index.search().with_page(2).with_hits_per_page(5).build();
    steps.show("page", found(page.execute::<Movie>().await?));
    let facets = FacetSearchQuery::new(&index, "Major Genre").with_facet_query("com").build();
    let hits = facets.execute().await?.facet_hits;
    steps.show("facet search", hits.iter().map(|hit| (&hit.value, hit.count)).collect::<Vec<_>>());
    steps.show("document", index.get_document::<Movie>("17").await?);
    let fields = DocumentQuery::new(&index).with_fields(["id", "Title"]).execute::<Movie>("18").await?;
    steps.show("two fields", fields);
    let listed = DocumentsQuery::new(&index).with_offset(10).with_limit(3).execute::<Movie>().await?;
    steps.show("documents", (listed.results, listed.offset, listed.limit, listed.total));
    let filtered = DocumentsQuery::new(&index)
        .with_filter("\"IMDB Rating\" > 9")
        .with_limit(3)
        .execute::<Movie>()
        .await?;
    steps.show("filtered documents", (filtered.results, filtered.total));
    let renamed = [json!({ "id": 17, "Title": "Renamed" })];
    steps.done("update", index.add_or_update(&renamed, Some("id")).await?).await?;
    steps.show("updated", found(index.search().with_query("renamed").execute::<Movie>().await?));
    steps.done("delete", index.delete_document(17).await?).await?;
    steps.refused("missing", index.get_document::<Movie>("17").await);
    steps.done("delete several", index.delete_documents(&[1, 2, 3]).await?).await?;
    let bad =
        DocumentDeletionQuery::new(&index).with_filter("\"IMDB Rating\" < 3").execute::<Movie>().await?;
    steps.done("delete by filter", bad).await?;
    let stats = index.get_stats().await?;
    let mut fields: Vec<_> = stats.field_distribution.into_iter().collect();
    fields.sort();
    steps.show("stats", (stats.number_of_documents, stats.is_indexing, fields));
    steps.show("primary key", index.get_primary_key().await?);
    let names = |listed: Vec<meilisearch_sdk::indexes::Index>| {
        listed.into_iter().map(|index| index.uid).collect::<Vec<_>>()
    };
    steps.show("indexes", names(client.list_all_indexes().await?.results));
    steps.refused("unknown index", client.index("nowhere").search().with_query("x").execute::<Movie>().await);
    steps.refused("wrong filter", index.search().with_filter("nowhere = 1").execute::<Movie>().await);
    steps.done("create", client.create_index("books", Some("isbn")).await?).await?;
    steps.done("create again", client.create_index("books", None).await?).await?;
    let swap = SwapIndexes { indexes: ("films".to_owned(), "books".to_owned()), rename: None };
    steps.done("swap", client.swap_indexes([&swap]).await?).await?;
    steps.show("swapped", client.index("books").search().with_query("carol").execute::<Film>().await?.hits);
    steps.done("drop", client.delete_index("books").await?).await
}

/// Several searches, as lists of their own and as one.
async fn several(steps: &mut Steps<'_>) -> Result<(), Error> {
    let (movies, actors) = (steps.client.index("movies"), steps.client.index("actors"));
    let people = [json!({ "id": 1, "name": "Star Wars fan" }), json!({ "id": 2, "name": "Nobody" })];
    steps.done("actors", actors.add_documents(&people, None).await?).await?;
    let films = SearchQuery::new(&movies).with_query("star wars").with_limit(3).build();
    let stars = SearchQuery::new(&actors).with_query("star").build();
    let answer: MultiSearchResponse<Movie> =
        steps.client.multi_search().with_search_query(films).with_search_query(stars).execute().await?;
    for results in answer.results {
        steps.show("multi-search", found(results));
    }
    let films = SearchQuery::new(&movies).with_query("star wars").build();
    let stars = SearchQuery::new(&actors).with_query("star").build();
    let mut both = steps.client.multi_search();
    both.with_search_query(films).with_search_query_and_weight(stars, 2.0);
    let answer = both
        .with_federation(FederationOptions { limit: Some(5), ..Default::default() })
        .execute::<Movie>()
        .await?;
    steps.show(
        "federated search",
        (json!(answer.hits), answer.limit, answer.offset, answer.estimated_total_hits),
    );
    Ok(())
}

/// A key and a tenant token, and what they open.
async fn keys(steps: &mut Steps<'_>, url: &str) -> Result<(), Error> {
    let client = steps.client;
    let uid = "12345678-aaaa-4bbb-8ccc-000000000003";
    let never =
        OffsetDateTime::from_unix_timestamp(32_472_144_000).map_err(|error| Error::Other(Box::new(error)))?;
    let mut builder = KeyBuilder::new();
    builder
        .with_uid(uid)
        .with_name("search of movies")
        .with_action(Action::Search)
        .with_index("movies")
        .with_expires_at(never);
    let mut key = client.create_key(&builder).await?;
    steps.show("key", (&key.name, &key.description, &key.actions, &key.indexes, key.expires_at, &key.uid));
    steps.show("same key", client.get_key(uid).await?.key == key.key);
    steps.show("renamed key", key.with_name("renamed").update(client).await?.name);
    let listed = client.get_keys().await?.results;
    let listed: Vec<_> = listed.into_iter().map(|key| (key.name, key.actions, key.indexes)).collect();
    steps.show("keys", listed);

    let reader = Client::new(url, Some(&key.key))?;
    let aliens = reader.index("movies").search().with_query("alien").with_limit(2).execute::<Movie>().await?;
    steps.show("search with a key", found(aliens));
    steps.refused(
        "another index",
        reader.index("actors").search().with_query("star").execute::<Movie>().await,
    );
    steps.refused("no documents", reader.index("movies").get_documents::<Movie>().await);

    let rules = json!({ "movies": { "filter": "\"Major Genre\" = Comedy" } });
    let token = client.generate_tenant_token(uid.to_owned(), rules, Some(&key.key), Some(never))?;
    let tenant = Client::new(url, Some(token))?;
    let movies = tenant.index("movies");
    steps.show(
        "search of a tenant",
        found(movies.search().with_query("love").with_limit(3).execute::<Movie>().await?),
    );
    let drama =
        movies.search().with_query("love").with_filter("\"Major Genre\" = Drama").execute::<Movie>().await?;
    steps.show("filter of a tenant", found(drama));
    steps.refused("another index of a tenant", tenant.index("actors").search().execute::<Movie>().await);
    client.delete_key(uid).await?;
    steps.refused("key taken away", reader.index("movies").search().execute::<Movie>().await);
    steps.refused("token taken away", movies.search().execute::<Movie>().await);
    Ok(())
}

/// Tasks, and a dump.
async fn tasks(steps: &mut Steps<'_>) -> Result<(), Error> {
    let client = steps.client;
    let last = TasksSearchQuery::new(client).with_limit(4).execute().await?.results;
    steps.show("tasks", last.into_iter().map(shown).collect::<Vec<_>>());
    let failed = TasksSearchQuery::new(client).with_statuses(["failed"]).execute().await?.results;
    steps.show("failed tasks", failed.into_iter().map(shown).collect::<Vec<_>>());
    let mut cleared = client.index("actors").delete_all_documents().await?;
    steps.done("waited for", cleared.clone()).await?;
    steps.show("one task", shown(client.get_task(&cleared).await?));
    cleared.task_uid = 1_000_000;
    steps.refused(
        "no such task",
        client.get_task(&cleared).await.map_err(|error| match error {
            Error::Meilisearch(mut error) => {
                error.error_message.clear();
                error.into()
            }
            other => other,
        }),
    );
    let removed = TasksDeleteQuery::new(client).with_index_uids(["books"]).execute().await?;
    steps.done("deleted tasks", removed).await?;
    let batches = client.get_batches().await?.results;
    let last = batches.first().ok_or(Error::InvalidRequest)?;
    steps.show("same batch", client.get_batch(last.uid).await?.finished_at == last.finished_at);
    steps.done("dump", client.create_dump().await?).await
}
