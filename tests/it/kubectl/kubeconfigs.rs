//! Kubeconfigs, and flags that override them.

use super::Case;
use super::server::Servers;

/// Returns a kubeconfig that ends with the list of users.
fn base(case: &Case) -> String {
    format!(
        "current-context: c\ncontexts:\n- name: c\n  context: {{cluster: c, user: u}}\nclusters:\n- name: c\n  cluster: {}\n\
         users:\n- name: u\n  user: {{token: abc}}\n",
        case.https()
    )
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kubectl: make range"]
async fn absent_and_null_fields_are_read_as_by_kubectl() {
    let servers = Servers::start().await;
    let case = Case::new(&servers);
    let base = base(&case);
    let with = |text: &str| format!("{base}{text}");
    let cases = [
        ("plain", base.clone()),
        (
            "null fields",
            with("preferences: null\nextensions: null\nkind: Config\napiVersion: v1\n"),
        ),
        ("null user", with("- name: other\n  user: null\n")),
        ("null entry", with("- null\n")),
        ("user without name", with("- user: {token: x}\n")),
        ("user without content", with("- name: other\n")),
        (
            "null provider",
            with("- {name: o, user: {auth-provider: null, exec: null, token: null}}\n"),
        ),
        (
            "provider without name",
            with("- {name: o, user: {auth-provider: {config: {a: null}}}}\n"),
        ),
        (
            "null variables",
            with("- {name: o, user: {exec: {command: x, env: null, args: null}}}\n"),
        ),
        (
            "null in lists",
            with("- {name: o, user: {as-groups: null, as-user-extra: null}}\n"),
        ),
        (
            "unknown mode elsewhere",
            with("- {name: o, user: {exec: {interactiveMode: ''}}}\n"),
        ),
        (
            "extension without content",
            base.replace("cluster: {server", "cluster: {extensions: [{name: x}], server"),
        ),
        (
            "context without name",
            base.replace("contexts:\n", "contexts:\n- context: {cluster: c}\n"),
        ),
        (
            "context without cluster",
            base.replace("contexts:\n", "contexts:\n- {name: d, context: {user: u}}\n"),
        ),
        (
            "context without content",
            base.replace("contexts:\n", "contexts:\n- {name: d}\n"),
        ),
    ];
    for (name, content) in cases {
        case.write("config", &content);
        case.compare(name, &[]);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kubectl: make range"]
async fn odd_entries_are_read_as_by_kubectl() {
    let servers = Servers::start().await;
    let case = Case::new(&servers);
    let base = base(&case);
    let with = |text: &str| format!("{base}{text}");
    let cases = [
        ("unknown fields", with("  more: 1\nfield: [a]\n")),
        (
            "two users of one name",
            with("- {name: u, user: {token: second}}\n"),
        ),
        (
            "two clusters of one name",
            base.replace("clusters:\n", "clusters:\n- {name: c, cluster: {}}\n"),
        ),
        (
            "two contexts of one name",
            base.replace("contexts:\n", "contexts:\n- {name: c}\n"),
        ),
        ("two others of one name", with("- {name: o}\n- {name: o}\n")),
        (
            "repeated key",
            base.replace("token: abc", "token: abc, token: def"),
        ),
        (
            "repeated list",
            with("users:\n- {name: u, user: {token: second}}\n"),
        ),
        (
            "second document",
            format!("{base}---\nusers: [{{name: u, user: {{token: second}}}}]\n"),
        ),
        ("document mark at the end", with("---\n")),
        ("document mark first", format!("---\n{base}")),
        ("number as token", base.replace("abc", "123")),
        (
            "text as bool",
            base.replace("{server", "{insecure-skip-tls-verify: 'no', server"),
        ),
        (
            "yes as bool",
            base.replace("{server", "{disable-compression: yes, server"),
        ),
        ("list as user", base.replace("{token: abc}", "[abc]")),
        ("another kind", with("kind: Pod\napiVersion: v1\n")),
        ("another version", with("kind: Config\napiVersion: v2\n")),
        ("text", "text".to_owned()),
        ("list", "[a]".to_owned()),
        ("anchor", base.replace("{token: abc}", "&x {token: abc}")),
        ("merge key", base.replace("{token: abc}", "{<<: {token: abc}}")),
    ];
    for (name, content) in cases {
        case.write("config", &content);
        case.compare(name, &[]);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kubectl: make range"]
async fn encodings_are_read_as_by_kubectl() {
    let servers = Servers::start().await;
    let case = Case::new(&servers);
    let base = base(&case);
    let units: Vec<u16> = base.encode_utf16().collect();
    let little: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
    let big: Vec<u8> = units.iter().flat_map(|unit| unit.to_be_bytes()).collect();
    for (name, content) in [
        ("UTF-16LE", [&[0xff, 0xfe], &little[..]].concat()),
        ("UTF-16BE", [&[0xfe, 0xff], &big[..]].concat()),
        ("torn UTF-16LE", [&[0xff, 0xfe], &little[..], b"\0"].concat()),
        ("torn UTF-16BE", [&[0xfe, 0xff], &big[..], b"\0"].concat()),
        (
            "UTF-8 with a mark",
            [&[0xef, 0xbb, 0xbf], base.as_bytes()].concat(),
        ),
        ("not UTF-8", [base.as_bytes(), b"a: \xff\n"].concat()),
    ] {
        case.write("config", content);
        case.compare(name, &[]);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kubectl: make range"]
async fn empty_flags_count_as_unset_as_in_kubectl() {
    let servers = Servers::start().await;
    let case = Case::new(&servers);
    case.config(&case.https(), "{token: abc}");
    for flag in [
        "--context",
        "--cluster",
        "--user",
        "--server",
        "--tls-server-name",
        "--certificate-authority",
        "--client-certificate",
        "--client-key",
        "--token",
        "--as",
        "--as-uid",
        "--namespace",
    ] {
        let outcome = case.compare(flag, &[flag, ""]);
        assert!(outcome.connected, "{flag}");
        let joined = format!("{flag}=");
        assert!(case.compare(flag, &[&joined]).connected, "{flag}");
    }
    for timeout in ["0", "0s", "5", "5s"] {
        let flag = format!("--request-timeout={timeout}");
        assert!(case.compare(&flag, &[&flag]).connected, "{flag}");
    }
}
