//! Uploads into an in-process store that holds requests against what the three clouds ask for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::*;

const SECRET: &str = "very-secret-key";

/// One request as it came.
#[derive(Clone, Debug)]
struct Asked {
    method: String,
    path: String,
    query: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

#[derive(Clone, Default)]
struct Store {
    asked: Arc<Mutex<Vec<Asked>>>,
    /// Answers this to the first request.
    first: Arc<Mutex<Option<u16>>>,
}

impl Store {
    async fn serve(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }

    fn last(&self) -> Asked {
        self.asked.lock().unwrap().last().cloned().expect("something was asked")
    }
}

async fn answer(State(store): State<Store>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap().to_vec();
    let headers = parts.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    store.asked.lock().unwrap().push(Asked {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: headers.collect(),
        body,
    });
    let status = store.first.lock().unwrap().take().unwrap_or(200);
    Response::builder().status(status).header("etag", "\"e\"").body(Body::empty()).unwrap()
}

fn s3(endpoint: &str) -> Value {
    json!({"stageInfo": {"locationType": "S3", "location": "stage-bucket/tables/7/", "region": "eu-central-1", "endPoint": endpoint,
        "creds": {"AWS_KEY_ID": "AKID", "AWS_SECRET_KEY": SECRET, "AWS_TOKEN": "session-token"}}})
}

async fn upload(info: &Value, data: &'static [u8]) -> Result<(), SnowflakeError> {
    let http = reqwest::Client::new();
    Place::new(info, "part-00000.parquet", "DB.STAGE.FILES")?.upload(&http, Bytes::from_static(data)).await
}

fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut block = [0_u8; 64];
    block[..key.len()].copy_from_slice(key);
    let inner = Sha256::new().chain_update(block.map(|byte| byte ^ 0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(block.map(|byte| byte ^ 0x5c)).chain_update(inner).finalize().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

/// The signature that S3 computes for a request. Source: AWS Signature Version 4, "Signing a request".
fn signature(asked: &Asked, signed: &str, date: &str) -> String {
    let headers = signed
        .split(';')
        .map(|name| format!("{name}:{}\n", asked.headers.get(name).map_or("", |value| value.trim())))
        .collect::<Vec<_>>()
        .concat();
    let content = &asked.headers["x-amz-content-sha256"];
    let canonical = format!("{}\n{}\n{}\n{headers}\n{signed}\n{content}", asked.method, asked.path, asked.query);
    let scope = format!("{date}/eu-central-1/s3/aws4_request");
    let text = format!(
        "AWS4-HMAC-SHA256\n{}\n{scope}\n{}",
        asked.headers["x-amz-date"],
        hex(&Sha256::digest(canonical.as_bytes()))
    );
    let mut key = hmac(format!("AWS4{SECRET}").as_bytes(), date.as_bytes());
    for part in ["eu-central-1", "s3", "aws4_request"] {
        key = hmac(&key, part.as_bytes());
    }
    hex(&hmac(&key, text.as_bytes()))
}

#[tokio::test]
async fn a_part_for_s3_is_put_signed_with_the_temporary_keys() {
    let store = Store::default();
    upload(&s3(&store.serve().await), b"PAR1").await.unwrap();
    let asked = store.last();
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("PUT", "/stage-bucket/tables/7/part-00000.parquet"));
    assert_eq!(
        (asked.body.as_slice(), asked.headers["x-amz-security-token"].as_str()),
        (b"PAR1".as_slice(), "session-token")
    );
    let header = asked.headers["authorization"].clone();
    let field = |name: &str| {
        header.split(&[' ', ','][..]).find_map(|part| part.strip_prefix(&format!("{name}="))).unwrap().to_owned()
    };
    let scope = field("Credential");
    let date = scope.split('/').nth(1).unwrap();
    assert_eq!(scope, format!("AKID/{date}/eu-central-1/s3/aws4_request"));
    assert_eq!(field("Signature"), signature(&asked, &field("SignedHeaders"), date));
}

#[tokio::test]
async fn keys_that_ran_out_are_a_fault_that_another_put_may_mend() {
    let store = Store::default();
    *store.first.lock().unwrap() = Some(403);
    let info = s3(&store.serve().await);
    let error = upload(&info, b"PAR1").await.unwrap_err();
    assert_eq!(error.kind(), tidemill_project::ErrorKind::Unavailable, "{error}");
    let text = format!("{error} {error:?}");
    assert!(!text.contains(SECRET) && !text.contains("session-token"), "{text}");
    upload(&info, b"PAR1").await.unwrap();
}

#[tokio::test]
async fn a_part_for_azure_goes_under_its_sas_token() {
    let store = Store::default();
    let info = json!({"stageInfo": {"locationType": "AZURE", "location": "container/tables/7/", "storageAccount": "acct",
        "endPoint": store.serve().await, "creds": {"AZURE_SAS_TOKEN": "?sv=2024-01-01&sig=abc%3D"}}});
    upload(&info, b"PAR1").await.unwrap();
    let asked = store.last();
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("PUT", "/container/tables/7/part-00000.parquet"));
    assert!(asked.query.contains("sv=2024-01-01") && asked.query.contains("sig=abc%3D"), "{}", asked.query);
    assert_eq!((asked.headers["x-ms-blob-type"].as_str(), asked.body.as_slice()), ("BlockBlob", b"PAR1".as_slice()));
}

#[tokio::test]
async fn a_part_for_gcs_goes_to_the_presigned_place_or_under_the_token() {
    let store = Store::default();
    let url = store.serve().await;
    let presigned = json!({"stageInfo": {"locationType": "GCS", "location": "b/p/", "presignedUrl": format!("{url}/b/p/f?X-Goog-Signature=s")}});
    upload(&presigned, b"PAR1").await.unwrap();
    assert_eq!((store.last().path.as_str(), store.last().query.as_str()), ("/b/p/f", "X-Goog-Signature=s"));
    let token = json!({"stageInfo": {"locationType": "GCS", "location": "b/p/", "endPoint": url, "creds": {"GCS_ACCESS_TOKEN": "tok"}}});
    upload(&token, b"PAR1").await.unwrap();
    assert_eq!(store.last().path, "/b/p/part-00000.parquet");
    assert_eq!(store.last().headers["authorization"], "Bearer tok");
    *store.first.lock().unwrap() = Some(403);
    let error = upload(&presigned, b"PAR1").await.unwrap_err();
    assert!(!format!("{error} {:?}", std::error::Error::source(&error)).contains("X-Goog-Signature"), "{error}");
}

#[test]
fn a_stage_with_client_side_encryption_is_refused() {
    let info =
        json!({"encryptionMaterial": {"queryStageMasterKey": "a2V5", "queryId": "1", "smkId": 1}, "stageInfo": {}});
    assert!(matches!(Place::new(&info, "f", "DB.STAGE.FILES"), Err(SnowflakeError::Encryption { .. })));
    for material in [json!(null), json!([]), json!([null]), json!({"queryStageMasterKey": null})] {
        assert!(Place::new(&json!({ "encryptionMaterial": material }), "f", "DB.STAGE.FILES").is_ok(), "{material}");
    }
}

#[test]
fn location_parts_bucket_from_prefix() {
    let info = json!({"stageInfo": {"location": "bucket/some/prefix/"}});
    let place = Place::new(&info, "f", "s").unwrap();
    assert_eq!(place.location(), ("bucket", "some/prefix/"));
}
