"""Records of runs for tests/html/test, and the reports that the tool writes from them."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
START = "2026-11-29T16:29:"
# Markup for every context: text, attribute, comment, style, script and URL.
HOSTILE = (
    "pwned-%d <b pwned onclick=pwned()>x</b> \"'><img src=http://192.0.2.1/x onerror=pwned()> --> ]]> "
    "</style></title></script><script>pwned()</script> <svg onload=pwned()> &lt;i&gt; {{7*7}} javascript:pwned() "
)
# A link to the portal is printed only if it is a plain HTTPS address.
LINKS = (
    "javascript:pwned()",
    "data:text/html,<script>pwned()</script>",
    "https://portal.example/\"><img src=x onerror=pwned()>",
    "https://me:secret@portal.example/",
    "//portal.example/x",
)


def run(tool, *arguments, **variables):
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **variables}
    ran = subprocess.run([tool, *arguments], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if ran.returncode:
        sys.exit(f"{arguments}: {ran.stderr}")
    return ran.stdout


def report(tool, record, path):
    """Writes the report of a record as `report RUN` does, and returns its path."""
    with tempfile.TemporaryDirectory() as state:
        folder = pathlib.Path(state, "defender-sim/runs")
        folder.mkdir(parents=True)
        (folder / f"{record['run']}.json").write_text(json.dumps(record), encoding="utf-8")
        run(tool, "report", record["run"], "--report", f"html={path}", XDG_STATE_HOME=state)
    return path


def records(tool):
    """Returns the records by name: usual runs from the catalogue, and hostile ones from the published schema."""
    pool = [(f"aks-np{number // 4}-vmss{number:06}", ("system", "user", "gpu")[number // 4]) for number in range(10)]
    silent = usual(tool, ["recon", "crypto", "rbac"], pool)
    for step in silent["scenarios"][0]["steps"] + silent["scenarios"][1]["steps"]:
        if step["victim"].endswith(("8", "9")):
            step.update(outcome="failed", reason="exit status 7", evidence="curl: (7) failed to connect to 10.0.0.1")
    for alert in silent["verification"]["alerts"][::2]:
        alert.update(verdict="notRaised", raised=None)
    silent["verification"]["failure"] = "4 of 9 expected alerts were raised"
    silent.update(exit="alertMissing", exitCode=5)
    early = usual(tool, ["recon", "secrets"], [("node-1", None)])
    reason = "not run: pod/mdc-simulation-victim did not become ready"
    for scenario in early["scenarios"]:
        for step in scenario["steps"]:
            step.update(outcome="skipped", started=None, durationMs=None, exitStatus=None, reason=reason, evidence=None)
    problem = {
        "message": "timed out after 300 s waiting for pods: mdc-simulation-victim: ImagePullBackOff",
        "hint": "kubectl defender-sim images list",
        "details": ["0/3 nodes are available: 3 Insufficient memory."],
    }
    early.update(verification=None, problem=problem, exit="notStarted", exitCode=3)
    requests = usual(tool, ["rbac", "service-account"], [])
    requests["verification"] = None
    return {
        "all-proved": usual(tool, ["recon", "crypto", "lateral-mov"], [("aks-pool1-vmss000000", "pool1")]),
        "silent-pool": silent,
        "failed-early": early,
        "requests": requests,
        **{f"hostile-{number}": Hostile(number).record() for number in range(2)},
    }


def v19(ids):
    """Returns IDs of MITRE ATT&CK as of v19; a scenario has both if an older version differs."""
    return [id if isinstance(id, str) else id["v19"] for id in ids]


def usual(tool, scenarios, nodes):
    """Returns a run of built-in scenarios with every step proved and every alert raised."""
    catalogue = {alert["id"]: alert for alert in json.loads(run(tool, "alerts", "-o", "json"))}
    pods = [f"mdc-simulation-victim-{number}" for number in range(len(nodes))]
    results, expected, second = [], {}, 10
    for name in scenarios:
        scenario = json.loads(run(tool, "describe", name, "-o", "json"))
        steps = []
        for step in scenario["steps"]:
            for pod in [None] if step.get("request") else pods:
                second = min(second + 1, 59)
                steps.append({
                    "id": step["id"], "title": step["title"], "techniques": v19(step["techniques"]), "victim": pod,
                    "started": f"{START}{second}Z", "outcome": "proved", "reason": None, "exitStatus": 0,
                    "durationMs": 43.5, "evidence": "256 addresses scanned, 1 with port 443 open",
                })
        known = [catalogue[alert["id"]] for alert in scenario["alerts"]]
        expected.update((alert["id"], alert["name"]) for alert in known)
        alerts = [
            {key: alert.get(key) for key in ("id", "name", "severity", "needs")} | {"optional": False}
            for alert in known
        ]
        results.append({
            "id": name, "title": scenario["title"], "tactics": v19(scenario["tactics"]), "steps": steps,
            "alerts": alerts,
        })
    raised = {
        "id": "/alerts/1", "severity": "Medium", "status": "Active", "generated": "2026-11-29T16:41:00Z",
        "secondsToDetect": 740.0,
        "link": "https://portal.azure.com/#view/Microsoft_Azure_Security/AlertBlade/alertId/1",
    }
    verdicts = [
        {"id": id, "name": name, "scenarios": scenarios[:1], "optional": False, "verdict": "raised", "reason": None,
         "late": False, "raised": {**raised, "name": name}}
        for id, name in sorted(expected.items())
    ]
    group = "/subscriptions/00000000-0000-4000-8000-000000000001/resourceGroups/rg-kubernetes"
    return {
        "schema": "defender-sim/run/v2", "version": "0.1.0", "run": "q33wg4p3", "namespace": "mdc-simulation",
        "cluster": {
            "context": "prod-westeurope", "server": "https://blue-a1b2c3d4.hcp.westeurope.azmk8s.io:443",
            "version": "v1.34.4", "user": "jane@contoso.example",
            "resourceId": f"{group}/providers/Microsoft.ContainerService/managedClusters/blue",
        },
        "victims": [
            {"pod": pod, "node": node, "nodeLabels": {"agentpool": pool} if pool else {}, "ended": None}
            for pod, (node, pool) in zip(pods, nodes)
        ],
        "started": f"{START}02Z", "ended": "2026-11-29T16:31:02Z", "scenarios": results,
        "problem": None, "keptUntil": None,
        "cleanup": {"removed": [f"pod/{pod}" for pod in pods], "left": [], "verified": True, "problems": []},
        "facts": {
            "cloud": "AKS", "plan": {"known": "yes"}, "sensor": {"known": "yes"},
            "conditions": {"audit-log": {"known": "yes"}},
        },
        "verification": {
            "source": "the alerts API", "read": "2026-11-29T17:31:02Z", "from": "2026-11-29T16:27:02Z",
            "until": "2026-11-29T16:33:02Z", "alerts": verdicts, "additional": [], "failure": None,
        },
        "verificationProblem": None, "exit": "ok", "exitCode": 0,
    }


class Hostile:
    """A record with every field of the schema, so also with those that are added later, and hostile text in each."""

    def __init__(self, seed):
        self.schema = json.loads((ROOT / "docs/schema/run.json").read_text(encoding="utf-8"))
        self.count, self.seed = 0, seed

    def record(self):
        record = self.value(self.schema, "")
        # Its name is that of the file, and its exit code one that exists.
        record.update(run="q33wg4p3", exit="notProved", exitCode=4)
        return record

    def value(self, schema, name):
        if "$ref" in schema:
            return self.value(self.schema["$defs"][schema["$ref"].rsplit("/", 1)[1]], name)
        if "const" in schema:
            return schema["const"]
        if "anyOf" in schema or "oneOf" in schema:
            options = [option for option in schema.get("anyOf") or schema["oneOf"] if option.get("type") != "null"]
            self.count += 1
            return self.value(options[(self.count + self.seed) % len(options)], name)
        kinds = schema.get("type")
        kind = next(kind for kind in ([kinds] if isinstance(kinds, str) else kinds) if kind != "null")
        return getattr(self, kind)(schema, name)

    def object(self, schema, _name):
        fields = {name: self.value(field, name) for name, field in schema.get("properties", {}).items()}
        if isinstance(values := schema.get("additionalProperties"), dict):
            # A map from names of conditions or of labels.
            keys = ["audit-log", "drift-policy"] if "$ref" in values else ["agentpool", self.string({}, "")]
            fields.update((key, self.value(values, key)) for key in keys)
        return fields

    def array(self, schema, name):
        return [self.value(schema["items"], name) for _ in range(4 if name in ("steps", "alerts") else 2)]

    def string(self, schema, name):
        self.count += 1
        if schema.get("format") == "date-time":
            return f"{START}{self.count % 60:02}Z"
        if name == "link":
            return LINKS[(self.count + self.seed) % len(LINKS)]
        return HOSTILE % self.count

    def number(self, _schema, _name):
        return 12.5

    def integer(self, schema, _name):
        return schema.get("maximum", 3) and 3

    def boolean(self, _schema, _name):
        self.count += 1
        return (self.count + self.seed) % 2 == 0


def literals(record):
    """Returns texts that a report of a record has to contain as they are."""
    texts = [record["cluster"]["server"], record["namespace"], record["cluster"]["context"]]
    texts += [step["id"] for scenario in record["scenarios"] for step in scenario["steps"]]
    for problem in (record["problem"], record["verificationProblem"]):
        texts += [problem["message"], problem["hint"], *problem["details"]] if problem else []
    if record["cleanup"]:
        texts += record["cleanup"]["left"] + record["cleanup"]["problems"]
    return [text.strip() for text in texts if text]
