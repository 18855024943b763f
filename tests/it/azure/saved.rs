//! Saved alerts in every format.

use std::path::Path;

use defender_sim::azure::{Answer, AzureError, Saved, Source};
use defender_sim::verify::FiredAlert;
use serde_json::{Value, json};

use super::since;
use crate::arm::{alert, exported};

fn write(folder: &Path, content: &str) -> Source {
    let path = folder.join("alerts.json");
    std::fs::write(&path, content).unwrap();
    Source::Saved(Saved::File(path))
}

/// Reads the alerts in a file.
async fn read(source: &Source) -> Result<(Vec<FiredAlert>, Answer), AzureError> {
    let mut alerts = vec![];
    let answer = source.alerts(since(), |alert| alerts.push(alert)).await?;
    Ok((alerts, answer))
}

fn parsed(alerts: &[Value]) -> Vec<FiredAlert> {
    alerts
        .iter()
        .map(|alert| FiredAlert::parse(alert).unwrap())
        .collect()
}

/// Formats alerts as a table of Log Analytics or Resource Graph.
fn tabular(alerts: &[Value]) -> Value {
    let names: Vec<&String> = alerts[0].as_object().unwrap().keys().collect();
    let columns: Vec<Value> = names
        .iter()
        .map(|name| json!({"name": name, "type": "string"}))
        .collect();
    let row = |alert: &Value| names.iter().map(|name| alert[*name].clone()).collect::<Value>();
    json!({"name": "PrimaryResult", "columns": columns, "rows": alerts.iter().map(row).collect::<Value>()})
}

#[tokio::test]
async fn files_are_parsed_in_every_form() {
    let folder = tempfile::tempdir().unwrap();
    let both = [alert(0), alert(1)];
    let lines = format!("{}\n{}\n", both[0], both[1]);
    let export = [exported(&both[0]), exported(&both[1])];
    let other = json!({"type": "Microsoft.Security/assessments", "properties": {"displayName": "x"}});
    for (content, expected) in [
        (json!({"value": both, "nextLink": ""}).to_string(), &both[..]),
        (
            json!({"count": 2, "data": both, "skip_token": null, "resultTruncated": "false"}).to_string(),
            &both,
        ),
        (json!({"Data": both, "SkipToken": null}).to_string(), &both),
        (json!({"value": both, "Count": 2}).to_string(), &both),
        (json!({"records": export}).to_string(), &export),
        (json!({"tables": [tabular(&export)]}).to_string(), &export),
        (json!({"count": 2, "data": tabular(&both)}).to_string(), &both),
        (json!(both).to_string(), &both),
        (format!("\u{feff}{}", json!(both)), &both),
        (json!(export).to_string(), &export),
        (lines.clone(), &both),
        (format!("{}\r\n{}", export[0], export[1]), &export),
        (both[0].to_string(), &both[..1]),
        (format!("{}\n{}", json!([both[0]]), json!([both[1]])), &both),
        // Other objects among alerts are skipped, in any order and any format.
        (json!([other, both[0], both[1]]).to_string(), &both),
        (format!("{other}\n{}\n{other}\n{}", both[0], both[1]), &both),
        // One page after the other, including the last.
        (
            format!(
                "{}\n{}",
                json!({"value": [both[0]], "nextLink": "x"}),
                json!({"value": [both[1]]})
            ),
            &both,
        ),
    ] {
        let source = write(folder.path(), &content);
        let (alerts, answer) = read(&source).await.unwrap();
        assert!(answer.whole, "{content:.80}");
        assert_eq!(alerts, parsed(expected), "{content:.80}");
        // The same in the encodings of Windows PowerShell.
        let Source::Saved(Saved::File(path)) = &source else {
            unreachable!()
        };
        let text = format!("\u{feff}{}", content.trim_start_matches('\u{feff}'));
        for encode in [u16::to_le_bytes, u16::to_be_bytes as fn(u16) -> [u8; 2]] {
            let bytes: Vec<u8> = text.encode_utf16().flat_map(encode).collect();
            std::fs::write(path, bytes).unwrap();
            assert_eq!(read(&source).await.unwrap().0, alerts, "{content:.80}");
        }
    }
    for page in [
        json!({"value": both, "nextLink": "x"}),
        json!({"data": both, "$skipToken": "x"}),
        json!({"data": both, "skip_token": "x"}),
        json!({"data": both, "resultTruncated": "true"}),
        json!({"value": [], "nextLink": "x"}),
    ] {
        let (_, answer) = read(&write(folder.path(), &page.to_string())).await.unwrap();
        assert!(!answer.whole, "{page:.80}");
    }
    for (content, others) in [
        (json!([]), 0),
        (json!({"value": null}), 0),
        (json!({}), 0),
        (json!({"count": 1, "data": {"columns": [], "rows": []}}), 1),
        (
            json!({"tables": [{"name": "PrimaryResult", "columns": [], "rows": []}]}),
            0,
        ),
        (json!([{"id": "a row", "name": "secret"}]), 1),
        (json!([other, other]), 2),
    ] {
        let (alerts, answer) = read(&write(folder.path(), &content.to_string())).await.unwrap();
        assert_eq!((alerts, answer.others), (vec![], others), "{content}");
    }
}

#[tokio::test]
async fn malformed_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let lines = format!("{}\n{}\n", alert(0), alert(1));
    for (content, part) in [
        (String::new(), "ends too early"),
        ("secret".to_owned(), "not JSON"),
        ("\"secret\"".to_owned(), "neither an object nor an array"),
        (lines[..lines.len() - 9].to_owned(), "ends too early"),
        (
            json!({"error": {"code": "secret"}}).to_string(),
            "a failed request",
        ),
        (format!("{lines}{}", json!({"error": {}})), "a failed request"),
    ] {
        let error = read(&write(folder.path(), &content)).await.unwrap_err();
        let reported = format!("{error} {error:?}");
        assert!(
            reported.contains(part) && reported.contains("alerts.json"),
            "{part} in {reported}"
        );
        assert!(!reported.contains("secret"), "{reported}");
    }
    let path = folder.path().join("torn");
    for torn in [&b"\xff\xfe["[..], b"\xff\xfe\x00\xd8", b"\xfe\xff\xdc\x00"] {
        std::fs::write(&path, torn).unwrap();
        let error = read(&Source::Saved(Saved::File(path.clone()))).await.unwrap_err();
        assert!(error.to_string().contains("UTF-16"), "{error}");
    }
    let large = folder.path().join("large");
    std::fs::File::create(&large)
        .unwrap()
        .set_len((256 << 20) + 1)
        .unwrap();
    for (path, part) in [
        (large, "larger than 256 MiB"),
        (folder.path().to_owned(), "directory"),
        (folder.path().join("absent"), "No such file"),
    ] {
        let error = read(&Source::Saved(Saved::File(path))).await.unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
}
