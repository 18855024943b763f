//! A run on a thousand nodes, which an API server of the test pretends to have.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Method;
use ring::hmac;
use serde_json::{Value, json as value};

use crate::apiserver::{Answer, ApiServer, Recorded, failure, json};

const NODES: usize = 1000;
const PAGE: usize = 500;
/// Memory that the client may use, in kB.
const MEMORY: u64 = 150 << 10;
const SPACE: &str = "/api/v1/namespaces/work";

/// The objects that exist, by path.
#[derive(Default)]
struct World {
    objects: Mutex<BTreeMap<String, Value>>,
    /// Number of requests that are answered as by a busy server.
    refused: Mutex<usize>,
}

fn node(number: usize) -> Value {
    value!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": format!("node{number}"), "labels": {
            "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
        } },
        "status": { "conditions": [{ "type": "Ready", "status": "True" }] },
    })
}

impl World {
    fn answer(&self, request: &Recorded) -> Answer {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let body = || serde_json::from_slice::<Value>(&request.body).unwrap();
        match (&request.method, path) {
            (_, "/version") => json(
                200,
                &value!({ "major": "1", "minor": "34", "gitVersion": "v1.34.4" }),
            ),
            (_, "/api/v1/nodes") => nodes(query),
            (_, SPACE) => json(
                200,
                &value!({
                    "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "work", "uid": "work" },
                }),
            ),
            (&Method::POST, path) if path.contains("selfsubject") => {
                let mut review = body();
                review["status"] = value!({ "allowed": true, "userInfo": { "username": "admin" } });
                json(201, &review)
            }
            (&Method::POST, path) => {
                let object = body();
                let path = format!("{path}/{}", object["metadata"]["name"].as_str().unwrap());
                json(201, &self.store(path, object))
            }
            (&Method::PATCH, path) if request.header("content-type").contains("apply") => {
                self.apply(path, body())
            }
            (&Method::DELETE, path) => match self.objects.lock().unwrap().remove(path) {
                Some(object) => json(200, &object),
                None => failure(404, "NotFound", "not found"),
            },
            (&Method::GET, path) if path.ends_with("/log") => self.log(path.trim_end_matches("/log")),
            (&Method::GET, path) if query.contains("watch=true") => {
                // Nothing changes, and the watch ends after a while.
                std::thread::sleep(Duration::from_secs(1));
                assert!(path.ends_with("/pods"), "{path}");
                json(200, &value!({})).map(|_| http_body_util::Full::default())
            }
            (_, path) => self.read(path),
        }
    }

    /// Applies an object. Some of the requests are too many.
    fn apply(&self, path: &str, object: Value) -> Answer {
        let mut refused = self.refused.lock().unwrap();
        if path.ends_with('7') && *refused < 20 {
            *refused += 1;
            return failure(
                429,
                "TooManyRequests",
                "the server has asked for the client to slow down",
            );
        }
        json(200, &self.store(path.to_owned(), object))
    }

    fn store(&self, path: String, mut object: Value) -> Value {
        object["metadata"]["uid"] = path.as_str().into();
        object["metadata"]["resourceVersion"] = "1".into();
        if object["kind"] == "Pod" {
            let terms =
                &object["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
            let name = terms["nodeSelectorTerms"][0]["matchFields"][0]["values"][0].clone();
            object["spec"]["nodeName"] = if name.is_null() { "node1".into() } else { name };
            object["status"] =
                value!({ "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] });
        }
        self.objects.lock().unwrap().insert(path, object.clone());
        object
    }

    fn read(&self, path: &str) -> Answer {
        let objects = self.objects.lock().unwrap();
        if let Some(object) = objects.get(path) {
            return json(200, object);
        }
        if let Some(number) = path.strip_prefix("/api/v1/nodes/node") {
            return json(200, &node(number.parse().unwrap()));
        }
        let kinds = [
            "pods",
            "services",
            "secrets",
            "configmaps",
            "serviceaccounts",
            "jobs",
            "networkpolicies",
        ];
        let is_one = kinds.iter().any(|kind| path.contains(&format!("/{kind}/")));
        if !is_one {
            let below = format!("{path}/");
            let items = objects.iter().filter(|(path, _)| path.starts_with(&below));
            let items: Vec<&Value> = items.map(|(_, object)| object).collect();
            return json(
                200,
                &value!({ "metadata": { "resourceVersion": "1" }, "items": items }),
            );
        }
        failure(404, "NotFound", "not found")
    }

    /// Returns the log of an attacker whose victims proved every step.
    fn log(&self, attacker: &str) -> Answer {
        let objects = self.objects.lock().unwrap();
        let secret = |part: &str| {
            let mut secrets = objects.iter().filter(|(path, _)| path.contains("/secrets/"));
            let (_, secret) = secrets.find(|(path, _)| path.contains(part)).unwrap();
            secret["stringData"].clone()
        };
        let run: Value = serde_json::from_str(secret("-gate-")["run.json"].as_str().unwrap()).unwrap();
        let shared = hmac::Key::new(hmac::HMAC_SHA256, run["secret"].as_str().unwrap().as_bytes());
        let key = secret("-key-");
        // The last word of the line of a header.
        let token = |file: &str, header: &str| {
            let text = key[file].as_str().unwrap();
            let line = text.lines().find(|line| line.contains(header)).unwrap();
            let words: Vec<&str> = line.trim_end_matches('"').split(' ').collect();
            (
                words[words.len() - 2].to_owned(),
                words[words.len() - 1].to_owned(),
            )
        };
        let volumes = objects[attacker]["spec"]["volumes"].as_array().unwrap().iter();
        let items = volumes.flat_map(|volume| volume["secret"]["items"].as_array().into_iter().flatten());
        let files: Vec<&str> = items.map(|item| item["key"].as_str().unwrap()).collect();
        let (victims, steps): (Vec<&str>, Vec<&str>) =
            files.into_iter().partition(|file| file.starts_with("victim"));
        let mut log = String::new();
        for victim in victims {
            let (_, of_victim) = token(victim, "X-Simulation-Victim");
            let mut say = |text: &str| log.extend(["defender-sim/2 ", victim, " ", text, "\n"]);
            say("gate before 403 0");
            for step in &steps {
                let (id, of_step) = token(step, "X-Simulation-Step");
                let report = "0 12000 it was done";
                let signature =
                    hmac::sign(&shared, format!("{id} {of_step} {of_victim} {report}").as_bytes());
                let hex = signature
                    .as_ref()
                    .iter()
                    .fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
                say(&format!("begin {id}"));
                say(&format!("report {} {id} {report}", &hex[..32]));
                say("http 200");
                say(&format!("end {id} 0"));
            }
            say("gate after 403 0");
            say("done");
        }
        http::Response::new(http_body_util::Full::from(log))
    }
}

/// Returns a page of the nodes.
fn nodes(query: &str) -> Answer {
    let parameter = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.parse::<usize>().unwrap())
    };
    let limit = parameter("limit").expect("nodes are listed page by page");
    assert!(limit <= PAGE, "{query}");
    let first = parameter("continue").unwrap_or(1);
    let last = (first + limit - 1).min(NODES);
    let items: Vec<Value> = (first..=last).map(node).collect();
    let next = if last < NODES {
        (last + 1).to_string()
    } else {
        String::new()
    };
    json(
        200,
        &value!({ "metadata": { "resourceVersion": "1", "continue": next }, "items": items }),
    )
}

/// Returns the most memory that a process has used so far, in kB, as long as it runs.
fn peak(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn thousand_victims_are_attacked_within_bounds() {
    let world = Arc::new(World::default());
    let answers = world.clone();
    let server = ApiServer::start(move |request| answers.answer(request)).await;
    let home = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_kubectl-defender_sim"))
        .args([
            "recon",
            "--yes",
            "-n",
            "work",
            "--cover=node",
            "-o",
            "json",
            "--server",
            &server.url(),
        ])
        .env_clear()
        .env("XDG_STATE_HOME", home.path())
        .env("HOME", "/nonexistent")
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(home.path().join("stdout")).unwrap())
        .stderr(std::fs::File::create(home.path().join("stderr")).unwrap())
        .spawn()
        .unwrap();
    let mut most = 0;
    let status = loop {
        most = most.max(peak(child.id()).unwrap_or_default());
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let read = |name: &str| std::fs::read_to_string(home.path().join(name)).unwrap();
    assert_eq!(status.code(), Some(0), "{}", read("stderr"));
    let result: Value = serde_json::from_str(&read("stdout")).unwrap();
    let victims = result["victims"].as_array().unwrap();
    assert_eq!(victims.len(), NODES);
    let steps = result["scenarios"][0]["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 3 * NODES);
    assert!(steps.iter().all(|step| step["outcome"] == "proved"));
    // Pods of victims and attackers, and the other objects of a run.
    assert_eq!(
        result["cleanup"]["removed"].as_array().unwrap().len(),
        NODES + 10 + 8
    );
    assert_eq!(*world.refused.lock().unwrap(), 20);
    assert!(world.objects.lock().unwrap().is_empty());
    let requests = server.requests().len();
    assert!(most < MEMORY, "{most} kB after {requests} requests");
}
