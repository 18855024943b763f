//! Permissions: the printed roles are sufficient and minimal.
//!
//! Each missing permission is reported before anything is created.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use defender_sim::manifest::rights::{NamespaceUse, of_run};
use serde_json::{Value, json as value};

use crate::hints::offline;
use crate::range::{
    Finally, Identity, Running, Space, apply, assert_nothing_left, await_that, default_namespace, kubectl,
    left_in, run_inside, shared, sim, sim_as, state, text, try_kubectl,
};

fn printed(arguments: &[&str]) -> String {
    let output = offline(&[&["rights"], arguments].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the role and the binding as JSON.
fn grant(arguments: &[&str]) -> Vec<Value> {
    let list: Value = serde_json::from_str(&printed(&[&["-o", "json"], arguments].concat())).unwrap();
    list["items"].as_array().unwrap().clone()
}

#[test]
fn role_is_printed_without_a_cluster_in_every_form() {
    let documents = |text: &str| -> Vec<Value> {
        let documents = text.split("---\n").skip(1);
        documents
            .map(|document| serde_saphyr::from_str(document).unwrap())
            .collect()
    };
    for arguments in [
        &["recon", "crypto"][..],
        &["-n", "team"],
        &["-n", "team", "--namespace-scoped", "--subject=group:dev"],
    ] {
        let text = printed(arguments);
        assert_eq!(documents(&text), grant(arguments), "YAML is the default: {text}");
        assert_eq!(printed(&[arguments, &["-o", "yaml"]].concat()), text);
        // With the optional rules, it is valid YAML as well.
        let rules = |text: &str| documents(text)[0]["rules"].as_array().unwrap().len();
        let uncommented = text.replace("\n#-", "\n-").replace("\n# ", "\n ");
        let uncommented = uncommented.replace("\n Optional", "\n# Optional");
        assert!(rules(&uncommented) > rules(&text), "{uncommented}");
    }
    let names = printed(&["-n", "team", "--namespace-scoped", "-o", "name"]);
    let group = "rbac.authorization.k8s.io/kubectl-defender-sim-run";
    assert_eq!(names, format!("role.{group}\nrolebinding.{group}\n"));
    let table = printed(&["-o", "table"]);
    assert!(
        table.starts_with("RESOURCE") && table.contains("optional: "),
        "{table}"
    );
}

#[test]
fn subjects_of_binding_are_those_given() {
    let binding = &grant(&["--subject", "user:a", "--subject", "serviceaccount:ci:bot"])[1];
    let group = "rbac.authorization.k8s.io";
    let subjects = value!([
        { "apiGroup": group, "kind": "User", "name": "a" },
        { "kind": "ServiceAccount", "name": "bot", "namespace": "ci" },
    ]);
    assert_eq!(binding["subjects"], subjects);
    let binding = &grant(&[])[1];
    assert_eq!(binding["subjects"][0]["name"], "REPLACE-ME");
}

#[test]
fn each_namespace_of_a_scenario_has_a_role() {
    let roles = |arguments: &[&str]| -> Vec<(String, String)> {
        let scoped = [arguments, &["--namespace-scoped", "-n", "team"]].concat();
        let items = grant(&scoped).into_iter();
        let name = |item: Value| {
            let namespace = item["metadata"]["namespace"].as_str().unwrap().to_owned();
            (item["kind"].as_str().unwrap().to_owned(), namespace)
        };
        items.map(name).collect()
    };
    let pair = |namespace: &str| ["Role", "RoleBinding"].map(|kind| (kind.to_owned(), namespace.to_owned()));
    let other = "asc-alerttest-662jfi039n";
    assert_eq!(roles(&["recon"]), pair("team"));
    assert_eq!(roles(&["canary"]), [pair("team"), pair(other)].concat());
    assert_eq!(roles(&["coredns"]), pair("kube-system"));
    let [role, ..] = &grant(&["coredns", "--namespace-scoped", "-n", "team"])[..] else {
        panic!("no role");
    };
    assert_eq!(role["rules"][0]["resources"], value!(["configmaps"]));
}

#[test]
fn unusable_rights_command_line_is_refused() {
    for (arguments, part) in [
        (&["--namespace-scoped"][..], "--namespace"),
        (&["no-such-scenario"], "no-such-scenario"),
        (
            &["rbac", "--namespace-scoped", "-n", "team"],
            "which are cluster-scoped",
        ),
        (&["--subject", "bob"], "expected user:NAME"),
        (
            &["--subject", "serviceaccount:bot"],
            "serviceaccount:NAMESPACE:NAME",
        ),
    ] {
        let output = offline(&[&["rights"], arguments].concat());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr.contains(part), "{arguments:?}: {stderr}");
    }
}

// --- on the range

/// Returns a user's requests for a namespace from the audit log: verb, resource, status.
fn asked(user: &str, namespace: &str) -> Vec<(String, String, u64)> {
    let log = std::fs::read_to_string(state().join("log/audit.jsonl")).unwrap();
    let events = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let events = events.filter(|event| {
        let name = match &event["impersonatedUser"]["username"] {
            Value::Null => &event["user"]["username"],
            name => name,
        };
        let object = &event["objectRef"];
        // The URL for creating a namespace does not contain its name.
        let place = object["namespace"] == namespace || object["resource"] == "namespaces";
        name == user
            && place
            && event["requestURI"]
                .as_str()
                .is_some_and(|uri| !uri.contains("dryRun"))
    });
    events
        .map(|event| {
            let object = &event["objectRef"];
            let mut resource = text(&object["resource"]);
            for (separator, part) in [("/", &object["subresource"]), (".", &object["apiGroup"])] {
                if let Some(part) = part.as_str() {
                    resource = resource + separator + part;
                }
            }
            let status = event["responseStatus"]["code"].as_u64().unwrap_or_default();
            (text(&event["verb"]), resource, status)
        })
        .collect()
}

/// Asserts that all changes of a run were allowed, and that it used every permission of its role.
#[track_caller]
fn assert_rights_used(identity: Identity, namespace: &str, namespace_use: NamespaceUse) {
    let asked = asked(identity.name(), namespace);
    let reads = ["get", "list", "watch"];
    let refused: Vec<_> = asked
        .iter()
        .filter(|(verb, _, status)| *status == 403 && !reads.contains(&verb.as_str()))
        .collect();
    assert_eq!(refused, [] as [&(String, String, u64); 0]);
    let used: BTreeSet<(String, String)> = asked
        .into_iter()
        .filter(|(_, _, status)| *status != 403)
        .flat_map(|(verb, resource, status)| {
            // Server-side apply that creates an object needs both permissions.
            let creates = (verb == "patch" && status == 201).then(|| ("create".to_owned(), resource.clone()));
            [Some((verb, resource)), creates].into_iter().flatten()
        })
        .collect();
    let unused: Vec<_> = of_run(namespace_use)
        .into_iter()
        .map(|right| (right.verb.to_owned(), right.qualified()))
        .filter(|right| !used.contains(right))
        .collect();
    assert_eq!(unused, [] as [(String, String); 0]);
}

#[test]
#[ignore = "needs the range: make range"]
fn printed_cluster_role_is_enough_to_create_a_namespace() {
    let _shared = shared();
    let space = Space::named("role-cluster");
    let ran = sim(&["all", "-n", &space.0, "-o", "json"]).assert(0);
    ran.assert_proved();
    assert_eq!(ran.json()["cluster"]["user"], "operator");
    assert_eq!(ran.json()["cleanup"]["left"], value!([]));
    assert_eq!(kubectl(&["get", "namespace", &space.0, "--ignore-not-found"]), "");
    assert_rights_used(Identity::Operator, &space.0, NamespaceUse::Create);
    let doctor = sim_as(Identity::Operator, &["doctor", "-n", &space.0, "-o", "json"]);
    assert_eq!(check(&doctor.json(), "rights")["status"], "ok", "{doctor:#?}");
}

#[test]
#[ignore = "needs the range: make range"]
fn printed_role_is_enough_in_an_existing_namespace() {
    let _shared = shared();
    let space = Space::new("role-namespace", &[]);
    let ran = sim(&["all", "-n", &space.0, "-o", "json"]).assert(0);
    ran.assert_proved();
    assert_eq!(ran.json()["cluster"]["user"], "tenant");
    assert_eq!(ran.json()["cleanup"]["left"], value!([]));
    assert_nothing_left(&space.0);
    assert_rights_used(Identity::Tenant, &space.0, NamespaceUse::Keep);
    let doctor = sim_as(Identity::Tenant, &["doctor", "-n", &space.0, "-o", "json"]);
    assert_eq!(check(&doctor.json(), "rights")["status"], "ok", "{doctor:#?}");
    // The rest is not visible with these permissions, and reported as such.
    assert_eq!(check(&doctor.json(), "nodes")["status"], "unknown");
}

fn check(doctor: &Value, id: &str) -> Value {
    let checks = doctor["checks"].as_array().unwrap();
    checks.iter().find(|check| check["id"] == id).unwrap().clone()
}

/// Another machine can remove an interrupted run with the permissions of a run.
#[test]
#[ignore = "needs the range: make range"]
fn printed_roles_are_enough_for_cleanup() {
    let _shared = shared();
    for space in [Space::named("role-cleanup"), Space::new("role-cleanup-kept", &[])] {
        let mut running = Running::start(&["recon", "-n", &space.0]);
        let run = running.run();
        running.await_line("attacking");
        running.signal("KILL");
        running.end();
        assert_ne!(left_in(&space.0), Vec::<String>::new());
        sim(&["cleanup", "-n", &space.0, "--run", &run]).assert(0);
        assert_nothing_left(&space.0);
    }
}

/// Creates, for each permission of the printed role, a user with all others; each has a role, applied at once.
fn users_without_one_right(namespace: &str, flags: &[&str]) -> BTreeMap<String, (String, String)> {
    let arguments = [&["-n", namespace, "--subject", "user:x"], flags].concat();
    let [role, binding] = <[Value; 2]>::try_from(grant(&arguments)).unwrap();
    let mut rules = vec![];
    for rule in role["rules"].as_array().unwrap() {
        for resource in rule["resources"].as_array().unwrap() {
            for verb in rule["verbs"].as_array().unwrap() {
                let mut single = rule.clone();
                (single["resources"], single["verbs"]) = (value!([resource]), value!([verb]));
                rules.push(single);
            }
        }
    }
    let (mut users, mut items) = (BTreeMap::new(), vec![]);
    for (i, removed) in rules.iter().enumerate() {
        let name = format!("{namespace}-lacks-{i}");
        let (mut role, mut binding) = (role.clone(), binding.clone());
        let others = rules.iter().filter(|rule| *rule != removed);
        role["rules"] = others.cloned().collect();
        for object in [&mut role, &mut binding] {
            object["metadata"]["name"] = name.as_str().into();
            object["metadata"]["labels"] = value!({ "test": namespace });
        }
        binding["roleRef"]["name"] = name.as_str().into();
        binding["subjects"][0]["name"] = name.as_str().into();
        items.extend([role, binding]);
        let resource = text(&removed["resources"][0]);
        let group = text(&removed["apiGroups"][0]);
        let resource = if group.is_empty() {
            resource
        } else {
            format!("{resource}.{group}")
        };
        users.insert(name, (text(&removed["verbs"][0]), resource));
    }
    apply(&value!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string());
    users
}

fn assert_each_right_is_needed(space: &Space, flags: &[&str], namespace_use: NamespaceUse) {
    let n = space.0.as_str();
    let _clean = Finally(|| {
        let labelled = ["-l", &format!("test={n}"), "--ignore-not-found", "--wait=false"];
        try_kubectl(&[&["delete", "clusterroles,clusterrolebindings"], &labelled[..]].concat());
    });
    let users = users_without_one_right(n, flags);
    assert_eq!(users.len(), of_run(namespace_use).len());
    let last = users.keys().last().unwrap();
    let resource = format!("namespaces/{n}");
    await_that("the roles count", Duration::from_secs(20), || {
        let question = ["auth", "can-i", "get", "pods/log", "-n", n, "--as", last];
        try_kubectl(&question).stdout == "yes\n"
            || try_kubectl(&["auth", "can-i", "get", &resource, "-n", n, "--as", last]).stdout == "yes\n"
    });
    let users: Vec<_> = users.into_iter().collect();
    for some in users.chunks(4) {
        let runs = some.iter().map(|(user, _)| {
            let running = Running::start_bare(&["webshell", "-n", n, "--as", user, "-o", "json"]);
            (user, running)
        });
        let runs: Vec<_> = runs.collect();
        for ((_, running), (user, (verb, resource))) in runs.into_iter().zip(some) {
            let ran = running.end().assert(3);
            let problem = &ran.json()["problem"];
            assert_eq!(
                problem["message"],
                format!("missing rights for a run in namespace {n}: {resource} ({verb})"),
                "{user}"
            );
            let check = format!("kubectl auth can-i {verb} {resource} -n {n} --as {user}");
            assert!(text(&problem["hint"]).ends_with(&check), "{problem:#}");
            let reads = ["get", "list", "watch"];
            let changed: Vec<_> = asked(user, n)
                .into_iter()
                .filter(|(asked, resource, _)| {
                    !reads.contains(&asked.as_str()) && !resource.starts_with("selfsubject")
                })
                .collect();
            assert_eq!(changed, [], "{user} without {verb} {resource}");
        }
    }
    let (user, (verb, resource)) = &users[0];
    let doctor = sim(&["doctor", "webshell", "-n", n, "--as", user, "-o", "json"]);
    let rights = check(&doctor.json(), "rights");
    assert_eq!(rights["status"], "failed");
    assert!(
        text(&rights["seen"]).ends_with(&format!(": {resource} ({verb})")),
        "{rights:#}"
    );
}

#[test]
#[ignore = "needs the range: make range"]
fn each_missing_right_of_the_cluster_role_is_refused_before_anything_is_created() {
    let _shared = shared();
    let space = Space::named("lacks");
    assert_each_right_is_needed(&space, &[], NamespaceUse::Create);
    assert_eq!(kubectl(&["get", "namespace", &space.0, "--ignore-not-found"]), "");
}

#[test]
#[ignore = "needs the range: make range"]
fn each_missing_right_of_the_role_is_refused_before_anything_is_created() {
    let _shared = shared();
    let space = Space::new("lacks-kept", &[]);
    assert_each_right_is_needed(&space, &["--namespace-scoped"], NamespaceUse::Keep);
    assert_nothing_left(&space.0);
}

/// Runs the commands of the hint as an administrator.
#[track_caller]
fn assert_hint_grants(arguments: &[&str]) {
    let ran = sim(arguments).assert(3);
    let hint = text(&ran.json()["problem"]["hint"]);
    let commands = hint.strip_prefix("an administrator grants them: ").unwrap();
    let (grant, check) = commands.split_once("; check: ").unwrap();
    run_inside(&["sh", "-c", grant]).assert(0);
    await_that("the rights count", Duration::from_secs(20), || {
        run_inside(&["sh", "-c", check]).stdout == "yes\n"
    });
    sim(arguments).assert(0);
}

#[test]
#[ignore = "needs the range: make range"]
fn hint_of_the_refusal_grants_what_is_missing() {
    let _shared = shared();
    let space = Space::new("granted", &[]);
    assert_hint_grants(&["webshell", "-n", &space.0, "--as", "newcomer one", "-o", "json"]);
    assert_nothing_left(&space.0);
    let _default = default_namespace();
    assert_hint_grants(&["webshell", "--as", "newcomer two", "-o", "json"]);
    assert_nothing_left("mdc-simulation");
}
