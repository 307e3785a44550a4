//! Clouds without a cloud: which requests a store sends for the options that a project gives. What answers here is a
//! listener that takes anything; the servers themselves are met in `tests/` (S3) or not at all (GCS, Azure).

use object_store::path::Path;
use object_store::{ObjectStore as _, PutMode, PutOptions};
use tidemill_project::config::LakeSettings;
use tidemill_project::{Diagnostic as _, ErrorKind, Secret};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use url::Url;

use crate::store::Store;

fn settings(url: &str, options: &[(&str, &str)]) -> LakeSettings {
    let options = options.iter().map(|(key, value)| ((*key).to_owned(), Secret::new(*value))).collect();
    LakeSettings { url: Url::parse(url).unwrap(), options }
}

/// Puts an object that must not be there yet, and returns the head of the request in lower case.
async fn head_of_a_conditional_put(listener: TcpListener, settings: &LakeSettings) -> String {
    let answer = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = Vec::new();
        while !bytes.windows(4).any(|end| end == b"\r\n\r\n") {
            let mut buffer = [0; 4096];
            let len = stream.read(&mut buffer).await.unwrap();
            assert!(len > 0, "the request has a head");
            bytes.extend_from_slice(&buffer[..len]);
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nETag: \"1\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        String::from_utf8_lossy(&bytes).to_ascii_lowercase()
    });
    let store = Store::connect(settings).unwrap();
    let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    store.root().put_opts(&Path::from("a/_delta_log/0.json"), "{}".into(), options).await.unwrap();
    answer.await.unwrap()
}

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    (listener, endpoint)
}

#[tokio::test]
async fn s3_puts_only_where_nothing_is() {
    let (listener, endpoint) = listener().await;
    let options = [
        ("aws_endpoint", endpoint.as_str()),
        ("aws_allow_http", "true"),
        ("aws_region", "eu-central-1"),
        ("aws_access_key_id", "AKIAEXAMPLE"),
        ("aws_secret_access_key", "hunter2"),
    ];
    let head = head_of_a_conditional_put(listener, &settings("s3://bucket/lake/", &options)).await;
    assert!(head.starts_with("put /bucket/a/_delta_log/0.json "), "{head}");
    assert!(head.contains("\r\nif-none-match: *\r\n"), "{head}");
    assert!(head.contains("credential=akiaexample/") && head.contains("/eu-central-1/s3/"), "{head}");
    assert!(!head.contains("hunter2"));
}

#[tokio::test]
async fn gcs_puts_only_where_nothing_is() {
    let (listener, endpoint) = listener().await;
    let account = format!(
        r#"{{"gcs_base_url":"{endpoint}","disable_oauth":true,"client_email":"","private_key":"","private_key_id":""}}"#
    );
    let options = [("google_service_account_key", account.as_str()), ("allow_http", "true")];
    let head = head_of_a_conditional_put(listener, &settings("gs://bucket/lake/", &options)).await;
    assert!(head.starts_with("put /bucket/a%2f%5fdelta%5flog%2f0%2ejson "), "{head}");
    assert!(head.contains("\r\nx-goog-if-generation-match: 0\r\n"), "{head}");
}

#[tokio::test]
async fn azure_puts_only_where_nothing_is() {
    let (listener, endpoint) = listener().await;
    let options = [
        ("azure_storage_account_name", "acme"),
        ("azure_storage_account_key", "aHVudGVyMg=="),
        ("azure_endpoint", endpoint.as_str()),
        ("allow_http", "true"),
    ];
    let head = head_of_a_conditional_put(listener, &settings("az://container/lake/", &options)).await;
    assert!(head.starts_with("put /container/a/_delta_log/0.json "), "{head}");
    assert!(head.contains("\r\nif-none-match: *\r\n"), "{head}");
    assert!(head.contains("\r\nauthorization: sharedkey acme:"), "{head}");
    assert!(!head.contains("ahvudgvymg"), "the key signs and is not sent");
}

/// Each store knows its own options, and an unknown one is a fault of the configuration that shows no value.
#[test]
fn an_option_that_the_store_does_not_know_is_refused() {
    for (url, option) in [
        ("s3://bucket/", "aws_secret_acces_key"),
        ("gs://bucket/", "google_servce_account"),
        ("az://container/", "azure_storage_account_nmae"),
    ] {
        let error = Store::connect(&settings(url, &[(option, "hunter2")])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{url}");
        let mut text = format!("{error} {error:?}");
        let mut cause = std::error::Error::source(&error);
        while let Some(source) = cause {
            text.push_str(&source.to_string());
            cause = source.source();
        }
        assert!(text.contains(option) && !text.contains("hunter2"), "{text}");
    }
}

/// Address, options, and how the store prints itself.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);

#[test]
fn every_scheme_has_its_store() {
    let azure = [("azure_storage_account_name", "acme"), ("azure_skip_signature", "true")];
    let cases: [Case<'_>; 6] = [
        ("memory:///lake/", &[], "InMemory"),
        ("s3://bucket/lake/", &[("aws_region", "x")], "AmazonS3(bucket)"),
        ("gs://bucket/lake/", &[("google_skip_signature", "true")], "GoogleCloudStorage(bucket)"),
        ("az://container/lake/", &azure, "MicrosoftAzure { account: acme, container: container }"),
        (
            "abfss://container@acme.dfs.core.windows.net/lake/",
            &azure,
            "MicrosoftAzure { account: acme, container: container }",
        ),
        ("adl://container/lake/", &azure, "MicrosoftAzure { account: acme, container: container }"),
    ];
    for (url, options, expected) in cases {
        let store = Store::connect(&settings(url, options)).unwrap_or_else(|error| panic!("{url}: {error:?}"));
        assert_eq!(store.root().to_string(), expected, "{url}");
        assert_eq!(store.base().as_ref(), "lake", "{url}");
    }
    let none = settings("ftp://host/lake/", &[]);
    assert_eq!(Store::connect(&none).unwrap_err().kind(), ErrorKind::Configuration);
}
