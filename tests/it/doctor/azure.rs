//! Checks against a fake Azure.

use serde_json::{Value, json as value};

use super::{Doctor, IDS, TOKEN, command, fake_cluster};
use crate::apiserver::{ApiServer, json};
use crate::arm::{FakeArm, FakeCli, Fault, GROUP, SUBSCRIPTION};

/// A fake Azure, a login, and a fake cluster.
struct InAzure {
    cluster: ApiServer,
    azure: FakeArm,
    cli: FakeCli,
}

impl InAzure {
    /// Starts with a plan, and an AKS cluster called blue.
    async fn start() -> Self {
        let (azure, cli) = (FakeArm::start().await, FakeCli::new("az", TOKEN));
        azure.accept(TOKEN);
        let here = Self {
            cluster: fake_cluster(|_| None).await,
            azure,
            cli,
        };
        here.plan("Standard", "True");
        here.put(&aks("blue"), value!({ "properties": {} }));
        here.rules(&[]);
        here
    }

    fn put(&self, path: &str, object: Value) {
        self.azure.with(|state| state.objects.insert(path.into(), object));
    }

    fn plan(&self, tier: &str, sensor: &str) {
        let extensions = value!([{ "name": "ContainerSensor", "isEnabled": sensor }]);
        let plan = value!({ "properties": { "pricingTier": tier, "extensions": extensions } });
        self.put(&format!("{}/pricings/Containers", security()), plan);
    }

    fn rules(&self, types: &[&str]) {
        let rule = |kind: &&str| value!({ "name": "quiet", "properties": { "alertType": kind, "state": "Enabled" } });
        let rules: Vec<Value> = types.iter().map(rule).collect();
        self.put(
            &format!("{}/alertsSuppressionRules", security()),
            value!({ "value": rules }),
        );
    }

    fn ask(&self, arguments: &[&str]) -> Doctor {
        let mut command = command(&self.cluster);
        command
            .args(["--azure-cloud", &self.azure.server.url(), "--azure-ca"])
            .arg(self.azure.authority());
        command.args(arguments).envs(self.cli.variables(&[]));
        let output = command.output().unwrap();
        let (stdout, stderr) = (output.stdout, output.stderr);
        for text in [&stdout, &stderr] {
            assert!(!String::from_utf8_lossy(text).contains(TOKEN));
        }
        Doctor::of(serde_json::from_slice(&stdout).unwrap())
    }
}

fn security() -> String {
    format!("/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Security")
}

fn in_group(rest: &str) -> String {
    format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/{rest}")
}

fn aks(name: &str) -> String {
    in_group(&format!("Microsoft.ContainerService/managedClusters/{name}"))
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one subscription whose settings change")]
async fn settings_of_defender_in_azure_are_reported() {
    let here = InAzure::start().await;
    // Nothing connects the cluster to Azure.
    let result = here.ask(&[]);
    result.assert(
        "azure-cluster",
        "notApplicable",
        "no sign that this cluster is connected to Azure",
    );
    for id in &IDS[15..] {
        result.assert(id, "notApplicable", "see azure-cluster");
    }
    assert!(here.azure.server.requests().is_empty() && here.cli.calls().is_empty());

    let blue = aks("blue");
    let named = ["--resource-id", blue.as_str()];
    let result = here.ask(&named);
    let found = format!(
        "AKS cluster blue in resource group {GROUP} of subscription {SUBSCRIPTION} (the given resource ID); login: the Azure CLI"
    );
    result.assert("azure-cluster", "ok", &found);
    result.assert(
        "azure-plan",
        "ok",
        &format!("on in subscription {SUBSCRIPTION}; with ContainerSensor"),
    );
    result.assert("azure-profile", "ok", "which is installed in another way");
    result.assert("azure-exclusions", "ok", "none");
    result.assert(
        "azure-alerts",
        "ok",
        &format!("/resourceGroups/{GROUP} can be read"),
    );
    result.assert("azure-rules", "ok", "none in force");
    assert_eq!(result.0["cluster"]["resourceId"], blue.as_str());
    let reads = here.azure.server.requests();
    let of_blue = reads
        .iter()
        .filter(|request| request.path.starts_with(&blue))
        .count();
    assert_eq!(
        (of_blue, here.cli.calls().len()),
        (1, 1),
        "shared state is read once"
    );

    // Settings that suppress alerts.
    here.plan("Free", "False");
    here.rules(&["*"]);
    here.put(
        &blue,
        value!({
            "tags": { "ms_defender_container_exclude_sensors": "true" },
            "properties": { "securityProfile": { "defender": { "securityMonitoring": { "enabled": true } } } },
        }),
    );
    let result = here.ask(&named);
    result.assert(
        "azure-plan",
        "failed",
        &format!("off in subscription {SUBSCRIPTION}: no alert can be raised"),
    );
    result.assert(
        "azure-profile",
        "warning",
        "enables the sensor, but the add-on is not installed",
    );
    result.assert(
        "azure-exclusions",
        "warning",
        "tagged ms_defender_container_exclude_sensors",
    );
    result.assert("azure-rules", "warning", "dismiss expected alerts: quiet (*)");
    assert_eq!(result.0["exitCode"], 3);
    here.rules(&["K8S.NODE_Invented"]);
    here.ask(&named)
        .assert("azure-rules", "unknown", "quiet (K8S.NODE_Invented)");

    // Missing permissions are named.
    here.azure.with(|state| state.forbidden = true);
    let result = here.ask(&named);
    result.assert("azure-cluster", "ok", "blue");
    result.assert("azure-alerts", "warning", "Microsoft.Security/alerts/read");
    result.assert("azure-plan", "unknown", "Microsoft.Security/pricings/read");
    result.assert(
        "azure-rules",
        "unknown",
        "Microsoft.Security/alertsSuppressionRules/read",
    );
    for id in ["azure-profile", "azure-exclusions"] {
        result.assert(id, "unknown", "Microsoft.ContainerService/managedClusters/read");
    }
    here.azure.with(|state| state.forbidden = false);

    // A missing login is reported once.
    here.cli
        .answers("", "ERROR: Please run 'az login' to setup account.", 1);
    let result = here.ask(&named);
    result.assert("azure-cluster", "unknown", "Please run 'az login'");
    for id in &IDS[15..] {
        result.assert(id, "unknown", "see azure-cluster");
    }
    here.ask(&["--resource-id", "blue"]).assert(
        "azure-cluster",
        "failed",
        "\"blue\" is not the resource ID of a cluster",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn cluster_that_is_not_aks_or_not_found_is_reported() {
    let here = InAzure::start().await;
    let result = here.ask(&["--subscription", SUBSCRIPTION]);
    result.assert("azure-cluster", "unknown", "not found: the data of Azure Arc");
    result.assert("azure-plan", "ok", "on in subscription");
    result.assert(
        "azure-alerts",
        "ok",
        &format!("the alerts of /subscriptions/{SUBSCRIPTION} can be read"),
    );
    for id in ["azure-profile", "azure-exclusions"] {
        result.assert(id, "unknown", "see azure-cluster");
    }

    let arc = in_group("Microsoft.Kubernetes/connectedClusters/green");
    here.put(&arc, value!({ "tags": { "team": "true" } }));
    let result = here.ask(&["--resource-id", &arc]);
    result.assert("azure-cluster", "ok", "Arc-connected cluster green");
    result.assert("azure-profile", "notApplicable", "not an AKS cluster");
    result.assert("azure-exclusions", "ok", "none");
    here.plan("Free", "False");
    let result = here.ask(&["--resource-id", &arc]);
    result.assert("azure-plan", "unknown", "may be that of a connector");

    let connector = in_group("Microsoft.Security/securityConnectors/aws");
    let offering =
        value!({ "properties": { "offerings": [{ "offeringType": "DefenderForContainersAws" }] } });
    here.put(&connector, offering);
    let result = here.ask(&["--resource-id", &format!("{connector}/securityentitydata/red")]);
    result.assert("azure-cluster", "ok", "cluster red of a connector");
    result.assert("azure-plan", "ok", "on in connector aws");
    result.assert("azure-profile", "notApplicable", "not an AKS cluster");
    result.assert("azure-exclusions", "unknown", "in another cloud");
    result.assert(
        "azure-alerts",
        "ok",
        &format!("the alerts of /subscriptions/{SUBSCRIPTION} can"),
    );

    // The label of the nodes names the resource group.
    let label = value!({ "kubernetes.azure.com/cluster": "MC_x" });
    let cluster = fake_cluster(move |request| {
        request.path.starts_with("/api/v1/nodes").then(|| {
            let node = value!({ "metadata": { "name": "one", "labels": label } });
            json(200, &value!({ "metadata": {}, "items": [node] }))
        })
    })
    .await;
    let here = InAzure { cluster, ..here };
    here.azure
        .with(|state| state.resources = vec![value!({ "id": aks("blue") })]);
    here.ask(&[]).assert(
        "azure-cluster",
        "ok",
        "(Resource Graph by the resource group of the nodes MC_x: found)",
    );
    here.azure.with(|state| state.resources.clear());
    here.ask(&[]).assert(
        "azure-cluster",
        "unknown",
        "no AKS cluster that the login can read",
    );
    here.azure.fault(Fault::Broken);
    let result = here.ask(&[]);
    result.assert("azure-cluster", "unknown", "failed to find the cluster in Azure");
    result.assert("azure-plan", "unknown", "see azure-cluster");
}
