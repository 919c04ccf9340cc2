//! One supervised Meilisearch process: started, restarted when it dies, stopped with us.
//!
//! No node may outlive `miroir dev`, not even when that is killed with SIGKILL. Where there is `setpriv`, the
//! kernel sees to it: the node is sent SIGTERM when the thread that started it ends, which is why nodes are
//! started from the main thread. Where there is none, the process id left in the data directory lets the next
//! start end the node.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use miroir_server::Secret;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use super::binary;
use crate::failure::Failure;

/// How long a node may take to be healthy: it may have a large database to open.
/// Memory for indexing of each node. Left to itself, each would take two thirds of the machine's.
const INDEXING_MEMORY: &str = "1GiB";
const HEALTHY_LIMIT: Duration = Duration::from_secs(120);
/// How long a node may take to stop before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// First and longest wait before a restart; it doubles in between.
const RESTART_WAITS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// A node that ran this long was fine: its next restart waits the shortest time again.
const FINE_AFTER: Duration = Duration::from_secs(60);
/// Deaths before the first healthy answer after which starting is given up.
const HOPELESS_AFTER: u32 = 3;

/// A Meilisearch process with a directory and a port of its own.
#[derive(Debug)]
pub(super) struct DevNode {
    /// Its name in the cluster.
    pub id: String,
    port: u16,
    directory: PathBuf,
    meilisearch: PathBuf,
    key: Secret,
    /// 0 while it does not run.
    process_id: AtomicU32,
    deaths: AtomicU32,
    was_healthy: AtomicBool,
}

impl DevNode {
    pub fn new(id: String, port: u16, directory: PathBuf, meilisearch: &Path, key: Secret) -> Self {
        Self {
            id,
            port,
            directory,
            meilisearch: meilisearch.to_owned(),
            key,
            process_id: AtomicU32::new(0),
            deaths: AtomicU32::new(0),
            was_healthy: AtomicBool::new(false),
        }
    }

    /// Where it answers.
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where it writes what it has to say.
    pub fn log_path(&self) -> PathBuf {
        self.directory.join("node.log")
    }

    /// The process, while there is one.
    pub fn process_id(&self) -> Option<u32> {
        Some(self.process_id.load(Ordering::Relaxed)).filter(|id| *id != 0)
    }

    /// Waits until it answers for the first time.
    pub async fn wait_until_healthy(&self) -> Result<(), Failure> {
        let url = format!("{}/health", self.address());
        let hopeless = async {
            while self.deaths.load(Ordering::Relaxed) < HOPELESS_AFTER {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::select! {
            healthy = wait_for_http(&url, HEALTHY_LIMIT) => {
                if healthy {
                    self.was_healthy.store(true, Ordering::Relaxed);
                    return Ok(());
                }
                Err(Failure::new(format!(
                    "node {} did not answer at {} within {} s; its log, {}, ends with:\n{}",
                    self.id, self.address(), HEALTHY_LIMIT.as_secs(), self.log_path().display(), self.log_end()
                )))
            }
            () = hopeless => Err(Failure::new(format!(
                "node {} stops as soon as it is started; its log, {}, ends with:\n{}",
                self.id, self.log_path().display(), self.log_end()
            ))),
        }
    }

    /// Keeps it running until `stop`, then stops it; kills it when `hurry`.
    pub async fn supervise(&self, stop: &CancellationToken, hurry: &CancellationToken) {
        let mut wait = RESTART_WAITS.0;
        while !stop.is_cancelled() {
            let started = Instant::now();
            let said = match self.start() {
                Ok(mut child) => {
                    let ended = tokio::select! {
                        ended = child.wait() => Some(ended),
                        () = stop.cancelled() => None,
                    };
                    let Some(ended) = ended else {
                        stop_child(&mut child, hurry).await;
                        self.forget_process();
                        return;
                    };
                    self.forget_process();
                    ended.map_or_else(|error| error.to_string(), |status| status.to_string())
                }
                Err(error) => format!("it cannot be started: {error}"),
            };
            self.deaths.fetch_add(1, Ordering::Relaxed);
            if started.elapsed() >= FINE_AFTER {
                wait = RESTART_WAITS.0;
            }
            // Before the first healthy answer, whoever waits for that reports what is wrong.
            if self.was_healthy.load(Ordering::Relaxed) {
                eprintln!("node {} died ({said}); restarting it in {:.1} s", self.id, wait.as_secs_f64());
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => return,
            }
            wait = (wait * 2).min(RESTART_WAITS.1);
        }
    }

    fn start(&self) -> std::io::Result<Child> {
        let log = File::options().create(true).append(true).open(self.log_path())?;
        let mut command = match binary::on_path("setpriv") {
            Some(setpriv) => {
                let mut command = std::process::Command::new(setpriv);
                command.args(["--pdeathsig", "TERM", "--"]).arg(&self.meilisearch);
                command
            }
            None => std::process::Command::new(&self.meilisearch),
        };
        // A node is what this command makes it, not what the user's own Meilisearch is set to be.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("MEILI_") {
                command.env_remove(name);
            }
        }
        command
            .arg("--db-path")
            .arg(self.database())
            .args(["--dump-dir", "dumps", "--snapshot-dir", "snapshots", "--no-analytics"])
            .args(["--max-indexing-memory", INDEXING_MEMORY])
            .arg("--http-addr")
            .arg(format!("127.0.0.1:{}", self.port))
            // Not an argument, which everybody on the machine could read.
            .env("MEILI_MASTER_KEY", self.key.reveal())
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // A Ctrl-C must not reach the nodes before Miroir has finished what is in flight.
            .process_group(0);
        let child = Command::from(command).kill_on_drop(true).spawn()?;
        if let Some(id) = child.id() {
            self.process_id.store(id, Ordering::Relaxed);
            std::fs::write(process_file(&self.directory), id.to_string())?;
        }
        Ok(child)
    }

    fn database(&self) -> PathBuf {
        self.directory.join("data.ms")
    }

    fn forget_process(&self) {
        self.process_id.store(0, Ordering::Relaxed);
        // If this fails, the next start finds the process gone, which is as good.
        std::fs::remove_file(process_file(&self.directory)).ok();
    }

    fn log_end(&self) -> String {
        let text = std::fs::read(self.log_path()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(8)..].iter().map(|line| format!("  {line}\n")).collect()
    }
}

/// Waits until a GET is answered with success; `false` when it was not within the limit.
pub(super) async fn wait_for_http(url: &str, limit: Duration) -> bool {
    let client = reqwest::Client::new();
    let attempts = async {
        loop {
            let answer = client.get(url).timeout(Duration::from_secs(2)).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(limit, attempts).await.is_ok()
}

async fn stop_child(child: &mut Child, hurry: &CancellationToken) {
    if let Some(process) = child.id().and_then(|id| i32::try_from(id).ok()) {
        kill(Pid::from_raw(process), Signal::SIGTERM).ok();
    }
    tokio::select! {
        _ = child.wait() => return,
        () = tokio::time::sleep(STOP_LIMIT) => {}
        () = hurry.cancelled() => {}
    }
    if let Err(error) = child.kill().await {
        eprintln!("a node could not be killed: {error}");
    }
}

/// Ends the node that a directory's last user left running, if it did.
pub(super) async fn end_leftover(directory: &Path) {
    let file = process_file(directory);
    let recorded = std::fs::read_to_string(&file).ok().and_then(|text| text.trim().parse::<i32>().ok());
    let Some(process) = recorded else { return };
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let given = Instant::now();
        while is_node_of(process, directory) && given.elapsed() < STOP_LIMIT {
            if kill(Pid::from_raw(process), signal).is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    std::fs::remove_file(file).ok();
}

/// Whether a process is the node of a directory: process ids are used again by others.
fn is_node_of(process: i32, directory: &Path) -> bool {
    let database = directory.join("data.ms");
    let arguments = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    arguments.split(|byte| *byte == 0).any(|argument| argument == database.as_os_str().as_encoded_bytes())
}

fn process_file(directory: &Path) -> PathBuf {
    directory.join("process")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_leftover_node_is_ended_and_a_stranger_is_not() {
        let directory = tempfile::tempdir().unwrap();
        // `sh -c SCRIPT NAME ARGUMENT`: the arguments of a node, without being one.
        let start = |argument: &Path| {
            std::process::Command::new("sh").args(["-c", "sleep 60; :", "sh"]).arg(argument).spawn().unwrap()
        };
        let mut leftover = start(&directory.path().join("data.ms"));
        let mut stranger = start(Path::new("/elsewhere/data.ms"));

        std::fs::write(process_file(directory.path()), stranger.id().to_string()).unwrap();
        end_leftover(directory.path()).await;
        assert!(stranger.try_wait().unwrap().is_none());

        std::fs::write(process_file(directory.path()), leftover.id().to_string()).unwrap();
        // The kernel lets us go on before the new process has its arguments.
        let process = i32::try_from(leftover.id()).unwrap();
        while !is_node_of(process, directory.path()) {
            tokio::task::yield_now().await;
        }
        let ended = tokio::task::spawn_blocking(move || leftover.wait());
        end_leftover(directory.path()).await;
        assert!(!ended.await.unwrap().unwrap().success());
        assert!(!process_file(directory.path()).exists());
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }
}
