//! Fakes of Azure (Resource Manager, Resource Graph and the token endpoint, over HTTPS) and of the Azure CLI.
//!
//! ```ignore
//! let azure = FakeArm::start().await;
//! azure.with(|state| state.alerts = alerts(25));
//! let cli = FakeCli::new("az", "a-token");
//! azure.accept("a-token");
//! let arm = Arm::new(azure.options(&cli.environment())).unwrap();
//! ```
//!
//! It follows the published API references: lists continue at `nextLink` or by `$skipToken`, and errors are
//! `{error: {code, message}}`. A queue holds faults, each for one request. Alerts appear when the clock of the test
//! reaches their time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use defender_sim::azure::ArmOptions;
use defender_sim::net::Environment;
use http::HeaderValue;
use http_body_util::Full;
use hyper::body::Bytes;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::apiserver::{Answer, ApiServer, Recorded, json as answer};

pub const SUBSCRIPTION: &str = "00000000-0000-4000-8000-000000000001";
pub const GROUP: &str = "rg-blue";
/// The host name in the certificate of the server.
pub const HOST: &str = "arm.example.test";

/// The fault of a request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// An error with this status and these headers.
    Status(u16, Vec<(&'static str, String)>),
    /// The correct answer after a delay. Needs a runtime with several threads.
    Slow(Duration),
    /// A truncated answer.
    Broken,
    /// The correct answer with these headers.
    Headers(Vec<(&'static str, String)>),
    /// A page whose next page is at this URL.
    NextAt(String),
}

/// The state of the server.
#[derive(Default)]
pub struct State {
    /// Alerts in the format of the alerts API, with the time at which each appears.
    pub alerts: Vec<(u64, Value)>,
    /// The clock of the test.
    pub now: u64,
    /// Items on a page; 0 for all.
    pub page: usize,
    pub faults: VecDeque<Fault>,
    /// Whether the login lacks permissions: Resource Graph returns nothing, the other APIs refuse.
    pub forbidden: bool,
    /// Objects by path.
    pub objects: BTreeMap<String, Value>,
    /// The rows of the table `resources`.
    pub resources: Vec<Value>,
    /// Prepared pages of alerts.
    prepared: Vec<Bytes>,
    accepted: BTreeSet<String>,
    /// The number of issued tokens.
    pub issued: u32,
}

pub struct FakeArm {
    pub server: ApiServer,
    state: Arc<Mutex<State>>,
    folder: TempDir,
}

impl FakeArm {
    pub async fn start() -> Self {
        let state: Arc<Mutex<State>> = Arc::default();
        let (of_server, address) = (state.clone(), Arc::new(Mutex::new(String::new())));
        let own = address.clone();
        let server = ApiServer::start_tls(&["127.0.0.1", HOST], move |request| {
            let fault = of_server.lock().unwrap().faults.pop_front();
            respond(&of_server, &own.lock().unwrap(), request, fault)
        })
        .await;
        *address.lock().unwrap() = server.url();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), server.certificate()).unwrap();
        Self {
            server,
            state,
            folder,
        }
    }

    pub fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap())
    }

    /// Accepts this token only.
    pub fn accept(&self, token: &str) {
        self.with(|state| state.accepted = BTreeSet::from([token.to_owned()]));
    }

    /// Prepares the pages of a long list, so that serving them takes no time.
    pub fn prepare(&self, alerts: &[Value], of_graph: bool) {
        let url = self.server.url();
        let count = alerts.len().div_ceil(1000);
        let pages = alerts.chunks(1000).enumerate().map(|(number, alerts)| {
            let next = (number + 1 < count).then_some(number + 1);
            let page = if of_graph {
                let rows: Vec<Value> = alerts.iter().map(row).collect();
                let mut page =
                    json!({"totalRecords": 10_000, "count": rows.len(), "data": rows, "facets": []});
                if let Some(next) = next {
                    page["$skipToken"] = json!(format!("skip-{next}"));
                }
                page
            } else {
                let path = format!("/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Security/alerts");
                let link = next.map(|next| format!("{url}{path}?api-version=2022-01-01&$skiptoken={next}"));
                json!({"value": alerts, "nextLink": link})
            };
            Bytes::from(page.to_string())
        });
        let pages = pages.collect();
        self.with(|state| state.prepared = pages);
    }

    pub fn fault(&self, fault: Fault) {
        self.with(|state| state.faults.push_back(fault));
    }

    pub fn options(&self, environment: &Environment) -> ArmOptions {
        ArmOptions {
            cloud: self.server.url().parse().unwrap(),
            certificate_authority: Some(self.authority()),
            environment: environment.clone(),
            ..ArmOptions::default()
        }
    }

    /// Returns the file with its certificate.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }
}

fn error(code: u16, name: &str, message: &str) -> Answer {
    answer(code, &json!({"error": {"code": name, "message": message}}))
}

fn respond(state: &Mutex<State>, url: &str, request: &Recorded, fault: Option<Fault>) -> Answer {
    let mut headers = vec![];
    let mut next_at = None;
    match fault {
        Some(Fault::Status(code, headers)) => {
            return with_headers(error(code, "Trouble", "as the test wants it"), headers);
        }
        // The other tasks of the runtime, and its timers, continue.
        Some(Fault::Slow(time)) => tokio::task::block_in_place(|| std::thread::sleep(time)),
        Some(Fault::Broken) => {
            let mut whole = respond(state, url, request, None);
            *whole.body_mut() = Full::from(Bytes::from_static(b"{\"value\": [{\"id\": "));
            return whole;
        }
        Some(Fault::Headers(more)) => headers = more,
        Some(Fault::NextAt(link)) => next_at = Some(link),
        None => {}
    }
    let mut state = state.lock().unwrap();
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    if path.ends_with("/oauth2/v2.0/token") {
        state.issued += 1;
        let token = format!("issued-{}", state.issued);
        state.accepted.insert(token.clone());
        let body = json!({"token_type": "Bearer", "expires_in": 3600, "access_token": token});
        return answer(200, &body);
    }
    let token = request.header("authorization");
    if !token
        .strip_prefix("Bearer ")
        .is_some_and(|token| state.accepted.contains(token))
    {
        return error(401, "ExpiredAuthenticationToken", "the access token has expired");
    }
    let of_graph = path == "/providers/Microsoft.ResourceGraph/resources";
    if state.forbidden && !of_graph {
        let message = "The client 'someone' does not have authorization to perform the action.";
        return error(403, "AuthorizationFailed", message);
    }
    if !state.prepared.is_empty() {
        let token = String::from_utf8_lossy(&request.body);
        let number = |text: &str, before: &str| {
            let (_, rest) = text.split_once(before)?;
            let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
            digits.parse::<usize>().ok()
        };
        let number = number(query, "$skiptoken=").or_else(|| number(&token, "skip-"));
        let page = state.prepared[number.unwrap_or(0)].clone();
        return http::Response::new(Full::from(page));
    }
    let whole = if of_graph {
        graph(&state, request)
    } else if path.ends_with("/providers/Microsoft.Security/alerts") {
        let scope = path
            .trim_end_matches("/providers/Microsoft.Security/alerts")
            .to_lowercase();
        let alerts = state.alerts.iter().filter(|(appears, alert)| {
            let id = alert["id"].as_str().unwrap().to_lowercase();
            *appears <= state.now && id.starts_with(&format!("{scope}/"))
        });
        let alerts: Vec<&Value> = alerts.map(|(_, alert)| alert).collect();
        let from: usize = query
            .split_once("$skiptoken=")
            .map_or(0, |(_, rest)| rest.parse().unwrap());
        let (page, next) = cut(&alerts, from, state.page);
        let mut body = json!({"value": page});
        if let Some(next) = next {
            body["nextLink"] = json!(format!("{url}{path}?api-version=2022-01-01&$skiptoken={next}"));
        }
        if let Some(link) = next_at {
            body["nextLink"] = json!(link);
        }
        answer(200, &body)
    } else {
        match state.objects.get(path) {
            Some(object) => answer(200, object),
            None => error(404, "ResourceNotFound", "there is no such resource"),
        }
    };
    with_headers(whole, headers)
}

fn cut<'a>(items: &[&'a Value], from: usize, page: usize) -> (Vec<&'a Value>, Option<usize>) {
    let to = if page == 0 {
        items.len()
    } else {
        (from + page).min(items.len())
    };
    (items[from..to].to_vec(), (to < items.len()).then_some(to))
}

fn graph(state: &State, request: &Recorded) -> Answer {
    let asked: Value = serde_json::from_slice(&request.body).unwrap();
    let query = asked["query"].as_str().unwrap();
    let rows: Vec<Value> = if state.forbidden {
        vec![]
    } else if query.starts_with("securityresources") {
        let seen = state.alerts.iter().filter(|(appears, _)| *appears <= state.now);
        seen.map(|(_, alert)| row(alert)).collect()
    } else {
        state.resources.clone()
    };
    let rows: Vec<&Value> = rows.iter().collect();
    let top = usize::try_from(asked["options"]["$top"].as_u64().unwrap()).unwrap();
    let page = if state.page == 0 { top } else { state.page.min(top) };
    let token = asked["options"]["$skipToken"].as_str();
    let from = token.map_or(0, |token| token.strip_prefix("skip-").unwrap().parse().unwrap());
    let (page, next) = cut(&rows, from, page);
    let mut body = json!({
        "totalRecords": rows.len(), "count": page.len(), "facets": [], "data": page,
        "resultTruncated": next.is_some().to_string(),
    });
    if let Some(next) = next {
        body["$skipToken"] = json!(format!("skip-{next}"));
    }
    answer(200, &body)
}

fn with_headers(mut answer: Answer, headers: Vec<(&'static str, String)>) -> Answer {
    for (name, value) in headers {
        answer
            .headers_mut()
            .insert(name, HeaderValue::from_str(&value).unwrap());
    }
    answer
}

/// Returns the row of an alert in Resource Graph, where the names of properties start with capital letters.
fn row(alert: &Value) -> Value {
    let properties: Map<String, Value> = alert["properties"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| (capital(name), value.clone()))
        .collect();
    json!({
        "id": alert["id"], "name": alert["name"], "type": "microsoft.security/locations/alerts",
        "properties": properties,
    })
}

fn capital(name: &str) -> String {
    format!("{}{}", name[..1].to_ascii_uppercase(), &name[1..])
}

/// Returns an alert in the format of continuous export: flat, with capital letters.
pub fn exported(alert: &Value) -> Value {
    let mut flat = row(alert)["properties"].clone();
    flat["TimeGenerated"] = flat["TimeGeneratedUtc"].take();
    flat["Status"] = json!("New");
    flat
}

/// Returns an alert about a pod in the format of the alerts API.
pub fn alert(number: usize) -> Value {
    let id = format!("25{number:017}_11111111-2222-4333-8444-{number:012}");
    let cluster = format!(
        "/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.ContainerService/managedClusters/blue"
    );
    json!({
        "id": format!(
            "/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.Security/locations/westeurope/alerts/{id}"
        ),
        "name": id,
        "type": "Microsoft.Security/Locations/alerts",
        "properties": {
            "version": "2022-01-01.0",
            "alertType": "K8S.NODE_Invented",
            "systemAlertId": id,
            "productComponentName": "Containers",
            "alertDisplayName": format!("An invented alert, number {number}"),
            "description": "What was seen in the container is described here in two or three sentences. ".repeat(4),
            "severity": "Medium",
            "intent": "Persistence, CredentialAccess",
            "startTimeUtc": "2026-11-20T10:00:00.1234567Z",
            "endTimeUtc": "2026-11-20T10:00:30Z",
            "timeGeneratedUtc": "2026-11-20T10:39:00Z",
            "processingEndTimeUtc": "2026-11-20T10:39:01Z",
            "vendorName": "Microsoft",
            "status": "Active",
            "isIncident": false,
            "compromisedEntity": "blue",
            "remediationSteps": ["Look at the container.", "Look at who may start it.", "Remove it."],
            "resourceIdentifiers": [
                {"type": "AzureResource", "azureResourceId": cluster, "azureResourceTenantId": "t"},
                {"type": "AAD", "aadTenantId": "t"},
            ],
            "entities": [
                {"$id": "we_1", "type": "azure-resource", "resourceId": cluster, "resourceName": "blue"},
                {"$id": "we_2", "type": "K8s-cluster", "cloudResource": {"$ref": "we_1"}},
                {"$id": "we_3", "type": "K8s-namespace", "name": "shop", "cluster": {"$ref": "we_2"}},
                {"$id": "we_4", "type": "K8s-pod", "name": format!("web-{number}"), "namespace": {"$ref": "we_3"}},
                {"$id": "we_5", "type": "container-image", "imageId": "registry.example.test/web:1"},
                {"$id": "we_6", "type": "container", "name": "web", "image": {"$ref": "we_5"}, "pod": {"$ref": "we_4"}},
                {"$id": "we_7", "type": "never-seen-before", "thing": [1, null, {"deep": true}]},
                {"$ref": "we_7"},
            ],
            "extendedProperties": {
                "namespace": "shop", "object kind": "Pod", "object name": format!("web-{number}"),
                "resourceType": "Kubernetes Service", "a property of tomorrow": "of no meaning yet",
            },
            "alertUri": format!("https://portal.example.test/alerts/{id}"),
        },
    })
}

/// Returns alerts that exist from the beginning.
pub fn alerts(count: usize) -> Vec<(u64, Value)> {
    (0..count).map(|number| (0, alert(number))).collect()
}

/// A fake of the Azure CLI or the Azure Developer CLI.
pub struct FakeCli {
    folder: TempDir,
    program: &'static str,
}

impl FakeCli {
    /// Creates a CLI that returns `token`, valid for an hour.
    pub fn new(program: &'static str, token: &str) -> Self {
        let cli = Self {
            folder: tempfile::tempdir().unwrap(),
            program,
        };
        let folder = cli.folder.path();
        let at = folder.display();
        let script = format!(
            "#!/bin/sh\necho \"$*\" >> '{at}/calls'\ncat '{at}/answer'\ncat '{at}/complaint' >&2\nexit $(cat '{at}/status')\n"
        );
        let path = folder.join(program);
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        cli.gives(token, 3600);
        cli
    }

    /// Returns this token from now on, with its remaining seconds.
    pub fn gives(&self, token: &str, seconds: i64) {
        let ends = jiff::Timestamp::now().as_second() + seconds;
        let answer = if self.program == "az" {
            json!({"accessToken": token, "expires_on": ends, "tokenType": "Bearer", "tenant": "t"})
        } else {
            let ends = jiff::Timestamp::from_second(ends).unwrap();
            json!({"token": token, "expiresOn": ends.to_string()})
        };
        self.answers(&answer.to_string(), "", 0);
    }

    /// Prints to stdout and stderr and exits with `code` from now on.
    pub fn answers(&self, out: &str, complaint: &str, code: u8) {
        fs::write(self.folder.path().join("answer"), out).unwrap();
        fs::write(self.folder.path().join("complaint"), complaint).unwrap();
        fs::write(self.folder.path().join("status"), code.to_string()).unwrap();
    }

    /// Returns the arguments of all calls.
    pub fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.folder.path().join("calls")).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }

    /// Returns the directory of the program.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Returns an environment with no other login.
    pub fn environment(&self) -> Environment {
        self.variables(&[]).into_iter().collect()
    }

    /// Returns the variables of the environment and further ones.
    pub fn variables(&self, more: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        let path = format!("{}:/usr/bin:/bin", self.folder.path().display());
        let mut all = vec![(OsString::from("PATH"), OsString::from(path))];
        all.extend(more.iter().map(|(name, value)| ((*name).into(), (*value).into())));
        all
    }
}
