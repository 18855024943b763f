use super::*;

const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const WEB_TOKEN: &str = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJzeXN0ZW0ifQ.c2lnbmF0dXJl-_x";
const SECRETS: [&str; 6] = [
    WEB_TOKEN,
    "0123456789abcdef0123456789abcdef",
    "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLE0KEY+",
    "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    "dop_v1_0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "c2VjcmV0LXZhbHVlLTEyMzQ1Njc4OTAtYWJj",
];
/// Texts with a placeholder for a secret.
const AROUND: [&str; 10] = [
    "{}",
    "found {}, and more",
    "  {} ",
    "User \"{}\" cannot list",
    "{\"a\":\"{}\",\"b\":1}",
    "at https://host.example.test/path/{}?x=1",
    "first\n{}\r\nlast",
    "(see: {})",
    "x='{}';",
    "image@sha256:{}",
];
/// Texts without secrets.
const FINE: [&str; 30] = [
    "failed to load client key: failed to decode base64 data: Invalid padding",
    "invalid bearer token, service account token has expired",
    "[invalid bearer token, token lookup failed]",
    "spec.env[0].valueFrom.secretKeyRef.key: Required value",
    "data.token: Invalid value: 5",
    "basic authentication is not supported",
    "couldn't find key nonce in Secret mdc-simulation/mdc-simulation-gate",
    "ssh://git@host.example.test/x and docker-pullable://web:1",
    "",
    "a token of 900 bytes",
    "mdc-simulation-steps-abcdefgh",
    "pod/kube-prometheus-stack-operator-6d4cf56db6-x7k2p cannot be scheduled",
    "pods \"aks-nodepool1-12345678-vmss000000\" not found",
    "job mdc-simulation/0f8fad5b-d9cb-469f-a165-70867728950e (UID 7c9e6679-7425-40de-944b-e07fc1f90ae7)",
    "3 files in /var/run/secrets/kubernetes.io/serviceaccount",
    "/home/user/.git-credentials: 52 bytes",
    "\"/home/user1/.kube/cache/discovery/10.0.0.1_6443/serverresources.json\"",
    "tests.registry.example.test:5000/defender-sim/victim-with-tools:v1.2.3-rc.1",
    "the name lab-dns-0a1b2c3d.hcp.westeurope.azmk8s.io cannot be resolved",
    "0/3 nodes are available: 1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }",
    "exceeded quota: compute, requested: limits.cpu=200m,limits.memory=128Mi, used: limits.cpu=2",
    "app.kubernetes.io/instance=kube-prometheus-stack-1234567890",
    "User \"system:serviceaccount:mdc-simulation:mdc-simulation-attacker\" cannot list resource \"pods\"",
    "violates PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false (container \"c\" must set \
     securityContext.allowPrivilegeEscalation=false)",
    "Get \"https://10.0.0.1:6443/api/v1/namespaces?limit=500\": dial tcp 10.0.0.1:6443: i/o timeout",
    "MountVolume.SetUp failed for volume \"gate\" : secret \"mdc-simulation-gate\" not found",
    "Zugriff verweigert für Jörg, 权限不足",
    "heyJude",
    "at 2026-01-02T03:04:05.678901234Z, v1.33.2+k3s1, go1.24.4",
    "set: AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY",
];

/// Pseudo-random numbers, the same in each run (`SplitMix64`).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) >> 33).unwrap() % bound
    }

    fn of<T: Copy>(&mut self, choice: &[T]) -> T {
        choice[self.below(choice.len())]
    }
}

/// Asserts what must hold for every text.
#[track_caller]
fn has_nothing_unseen(text: &str) {
    for (cleaned, line_break) in [(name(text), false), (line(text), false), (lines(text), true)] {
        let bad = |c: char| (c.is_control() && !(line_break && c == '\n')) || is_shapeless(c);
        assert!(!cleaned.contains(bad), "{text:?} gives {cleaned:?}");
    }
}

/// Asserts in addition that sanitizing a text twice changes nothing.
#[track_caller]
fn is_clean(text: &str) {
    has_nothing_unseen(text);
    assert_eq!(line(&line(text)), line(text), "{text:?}");
    assert_eq!(lines(&lines(text)), lines(text), "{text:?}");
}

#[test]
fn what_people_need_is_left_alone() {
    for text in FINE {
        assert_eq!(line(text), text);
        assert_eq!(lines(text), text);
        assert_eq!(name(text), text);
    }
    for text in [
        format!("Failed to pull image \"registry.example.test/web@{DIGEST}\": not found"),
        format!("docker-pullable://web:1@{DIGEST}."),
        format!("{DIGEST},{DIGEST}"),
    ] {
        assert_eq!(line(&text), text);
    }
}

#[test]
fn no_secret_comes_out_of_any_surroundings() {
    for secret in SECRETS {
        for around in AROUND {
            let text = around.replace("{}", secret);
            for cleaned in [line(&text), lines(&text)] {
                assert!(cleaned.contains(MASK), "{text:?} gives {cleaned:?}");
                for piece in secret.as_bytes().windows(8) {
                    let piece = std::str::from_utf8(piece).unwrap();
                    assert!(!cleaned.contains(piece), "{text:?} gives {cleaned:?}");
                }
            }
            is_clean(&text);
        }
    }
    let not_quite = format!("web@{DIGEST}0");
    assert_eq!(line(&not_quite), MASK, "no digest has 65 digits");
}

#[test]
fn what_is_called_a_secret_is_masked_whatever_it_looks_like() {
    for (text, expected) in [
        ("Bearer abc.def", "Bearer <redacted>"),
        (
            "authorization header 'bearer  abc'",
            "authorization header 'bearer  <redacted>'",
        ),
        ("Basic dTpw, and so on", "Basic <redacted> and so on"),
        ("Bearer \"abc\"", "Bearer \"<redacted>\""),
        ("data['password']='abc'", "data['password']='<redacted>'"),
        (
            "https://a:b@c,https://d:e@f",
            "https://<redacted>@c,https://<redacted>@f",
        ),
        ("Authorization: Bearer abc", "Authorization: Bearer <redacted>"),
        (
            "-H \"Authorization: token abc\" https://h",
            "-H \"Authorization: <redacted>\" https://h",
        ),
        ("token=abc rest", "token=<redacted> rest"),
        ("access_token: abc", "access_token: <redacted>"),
        ("PASSWORD = abc", "PASSWORD = <redacted>"),
        ("AZURE_CLIENT_SECRET=ab,c; x", "AZURE_CLIENT_SECRET=<redacted> x"),
        ("password=\"a b\" rest", "password=\"<redacted>\" rest"),
        ("password='a \"b' rest", "password='<redacted>' rest"),
        (
            "{\"secret\":\"ab\\\"c\",\"x\":1}",
            "{\"secret\":\"<redacted>\",\"x\":1}",
        ),
        (
            "{\"apiKey\": \"abc\", \"x\": 1}",
            "{\"apiKey\": \"<redacted>\", \"x\": 1}",
        ),
        (
            "{\\\"token\\\":\\\"abc\\\",\\\"x\\\":1}",
            "{\\\"token\\\":\\\"<redacted>\\\",\\\"x\\\":1}",
        ),
        ("token: \"abc", "token: \"<redacted>"),
        ("key := abc", "key := <redacted>"),
        ("token: Bearer abc", "token: Bearer <redacted>"),
        ("https://h/?token=abc&x=1", "https://h/?token=<redacted>"),
        ("clone https://user:abc@host/x", "clone https://<redacted>@host/x"),
        ("password: abc\u{1b}[0m", "password: <redacted>"),
        ("pass\u{200b}word: abc", "password: <redacted>"),
        ("password: swordfish", "password: <redacted>"),
    ] {
        assert_eq!(line(text), expected);
        assert_eq!(lines(text), expected);
        is_clean(text);
    }
    assert_eq!(
        lines("token: \"abc\npassword: abc\nend"),
        "token: \"<redacted>\npassword: <redacted>\nend"
    );
}

#[test]
fn each_way_to_call_it_a_secret_is_known() {
    for label in [
        "token",
        "password",
        "secret",
        "key",
        "Token",
        "client_secret",
        "api-key",
        "SSHKEY",
    ] {
        for quote in ["", "\"", "'", "\\\""] {
            for separator in ["=", ":", " = ", ": ", " : ", ":  "] {
                for end in ["", " rest", "\nrest", "\r\nrest"] {
                    for text in [
                        format!("{label}{separator}{quote}sw0rd!fish{quote}{end}"),
                        format!("at first {quote}{label}{quote}{separator}{quote}sw0rd!fish{quote}{end}"),
                    ] {
                        for cleaned in [line(&text), lines(&text)] {
                            assert!(
                                !cleaned.contains("sw0") && !cleaned.contains("fish"),
                                "{text:?} gives {cleaned:?}"
                            );
                            assert!(cleaned.ends_with(end.trim()), "{text:?} gives {cleaned:?}");
                        }
                        is_clean(&text);
                    }
                }
            }
        }
    }
}

#[test]
fn a_secret_cannot_be_held_apart_by_what_is_not_seen() {
    for unseen in [
        "\u{0}", "\u{7}", "\u{1b}", "\u{7f}", "\u{9b}", "\u{ad}", "\u{200b}", "\u{202e}", "\u{2066}",
        "\u{feff}",
    ] {
        for secret in SECRETS {
            for at in 1..secret.len() {
                let text = format!("{}{unseen}{}", &secret[..at], &secret[at..]);
                assert_eq!(lines(&text), MASK, "{text:?}");
                assert_eq!(line(&text), MASK, "{text:?}");
            }
        }
    }
}

#[test]
fn random_secrets_are_masked() {
    let mut dice = Dice(1);
    let hexadecimal: Vec<char> = "0123456789abcdef".chars().collect();
    let base64: Vec<char> = ('a'..='z')
        .chain('A'..='Z')
        .chain('0'..='9')
        .chain(['-', '_'])
        .collect();
    for alphabet in [&hexadecimal, &base64] {
        for _ in 0..2_000 {
            let length = 40 + dice.below(60);
            let mut secret: String = (0..length).map(|_| dice.of(alphabet)).collect();
            // A random secret may, once in a million, have no digit or no letter.
            secret.push_str("0a");
            let text = dice.of(&AROUND).replace("{}", &secret);
            let cleaned = line(&text);
            // 64 hexadecimal digits after `sha256:` are a digest.
            if secret.len() != 64 {
                assert!(!cleaned.contains(&secret[..8]), "{text:?} gives {cleaned:?}");
            }
        }
    }
}

#[test]
fn whatever_comes_in_comes_out_clean() {
    let mut dice = Dice(2);
    let scraps = [
        " ",
        " ",
        "\n",
        "\r",
        "\r\n",
        "\t",
        "\u{1b}[31m",
        "\u{7}",
        "\u{202e}",
        "\u{2028}",
        "\u{85}",
        "\u{a0}",
        "\"",
        "'",
        "\\",
        "\\\"",
        "=",
        ":",
        ": ",
        " = ",
        ",",
        "@",
        "://",
        "/",
        "{",
        "}",
        "a",
        "word",
        "Ä",
        "token",
        "password",
        "Secret",
        "api_key",
        "Bearer",
        "Bearer ",
        "basic ",
        "authorization: ",
        "failed",
        MASK,
        "<",
        ">",
        "eyJ",
        "sha256:",
        DIGEST,
        WEB_TOKEN,
        SECRETS[1],
    ];
    for _ in 0..4_000 {
        let text: String = (0..=dice.below(12)).map(|_| dice.of(&scraps)).collect();
        has_nothing_unseen(&text);
        for secret in ["eyJhbGci", &SECRETS[1][..16]] {
            assert!(!lines(&text.replace(DIGEST, "")).contains(secret), "{text:?}");
        }
    }
}

#[test]
fn lines_and_spaces_are_kept_as_they_are() {
    assert_eq!(lines(" a\u{1b}[2J\u{9b}b\r\n\tc\u{202e}d\u{7} "), "a[2Jb\n cd");
    assert_eq!(lines("a\rb\u{2028}  c"), "a\nb\n  c");
    assert_eq!(line(" a\u{1b}[2Jb\r\n\tc "), "a[2Jb  c");
}

#[test]
fn nothing_like_a_token_and_no_control_character_is_shown() {
    assert_eq!(
        lines("a eyJhbGciOiJSUzI1NiIs.x-y_z b eyJ c"),
        "a <redacted> b eyJ c"
    );
    let text = "found eyJhbGciOiJSUzI1NiJ9.e30.x \u{1b}[31m0123456789abcdef0123456789abcdef, 3 files in /var/run/secrets/kubernetes.io";
    assert_eq!(
        line(text),
        "found <redacted> [<redacted>, 3 files in /var/run/secrets/kubernetes.io"
    );
}
