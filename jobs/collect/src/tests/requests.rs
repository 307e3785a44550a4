//! Who is let in, how much, how often, and what happens when the broker or the process goes.

use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use tidemill_project::config::{OAuthSettings, TlsFiles};

use super::*;

fn guarded() -> CollectSettings {
    let family = ApiKey { devices: vec!["d1".into(), "lab-*".into()], ..api_key("family", "key-of-family") };
    let expired = ApiKey { expires_at: Some(NOW_US), ..api_key("old", "key-that-expired") };
    let mut rotating = api_key("rotating", "old-key");
    rotating.sha256.extend(api_key("", "new-key").sha256);
    CollectSettings { anonymous: false, keys: vec![family, expired, rotating], ..open_door() }
}

fn body_of(device: &str) -> String {
    let mut body = example();
    body["deviceId"] = json!(device);
    body.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_open_the_door_for_their_devices_only() {
    let world = World::start(guarded()).await;
    let status = async |key: Option<(&str, &str)>, device: &str| {
        let mut request = world.post(body_of(device));
        if let Some((name, value)) = key {
            request = request.header(name, value);
        }
        read(request).await.0
    };
    assert_eq!(status(None, "d1").await, 401);
    assert_eq!(status(Some(("x-api-key", "guess")), "d1").await, 401);
    assert_eq!(status(Some(("authorization", "Basic a2V5")), "d1").await, 401);
    assert_eq!(status(Some(("x-api-key", "key-that-expired")), "d1").await, 401);
    assert_eq!(status(Some(("x-api-key", "key-of-family")), "d2").await, 403);
    assert_eq!(world.records(), [], "nothing of a refused request is sent");
    assert_eq!(status(Some(("x-api-key", "key-of-family")), "d1").await, 200);
    assert_eq!(status(Some(("authorization", "Bearer key-of-family")), "lab-7").await, 200);
    assert_eq!(status(Some(("x-api-key", "old-key")), "any").await, 200);
    assert_eq!(status(Some(("x-api-key", "new-key")), "any").await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_401_says_how_to_log_in_and_names_no_key() {
    let world = World::start(guarded()).await;
    let response = world.post(body_of("d1")).header("x-api-key", "s3cret").send().await.unwrap();
    assert_eq!(response.headers()["www-authenticate"], "Bearer realm=\"tidemill\"");
    let text = response.text().await.unwrap();
    assert!(!text.contains("s3cret") && text.contains("not known"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bearer_tokens_are_checked_by_signature_issuer_audience_and_time() {
    let settings = CollectSettings {
        anonymous: false,
        oauth: Some(OAuthSettings {
            issuer: "https://login.test".into(),
            audience: "tidemill".into(),
            jwks: Secret::new(include_str!("tls/jwks.json")),
            device_claim: Some("devices".into()),
            rate: None,
        }),
        ..open_door()
    };
    let world = World::start(settings).await;
    let now = NOW_US / 1_000_000;
    let token = |change: &dyn Fn(&mut Value)| {
        let mut claims =
            json!({"iss": "https://login.test", "aud": "tidemill", "sub": "u1", "exp": now + 60, "devices": ["d1"]});
        change(&mut claims);
        let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256);
        header.kid = Some("test".into());
        let key = jsonwebtoken::EncodingKey::from_ec_pem(include_bytes!("tls/test.key")).unwrap();
        jsonwebtoken::encode(&header, &claims, &key).unwrap()
    };
    let status = async |token: String, device: &str| read(world.post(body_of(device)).bearer_auth(token)).await.0;
    assert_eq!(status(token(&|_| {}), "d1").await, 200);
    assert_eq!(status(token(&|_| {}), "d2").await, 403);
    assert_eq!(status(token(&|claims| claims["exp"] = json!(now)), "d1").await, 401);
    assert_eq!(status(token(&|claims| claims["nbf"] = json!(now + 5)), "d1").await, 401);
    assert_eq!(status(token(&|claims| claims["iss"] = json!("https://evil.test")), "d1").await, 401);
    assert_eq!(status(token(&|claims| claims["aud"] = json!("another")), "d1").await, 401);
    let mut forged = token(&|_| {});
    let signature = forged.rfind('.').unwrap() + 3;
    let other = if &forged[signature..=signature] == "A" { "B" } else { "A" };
    forged.replace_range(signature..=signature, other);
    assert_eq!(status(forged, "d1").await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_over_the_limit_are_refused_however_they_come() {
    let world = World::start(open_door()).await;
    let large = vec![b' '; (64 << 10) + 1];
    assert_eq!(world.answer(large.clone()).await.0, 413, "announced length");
    let stream = futures::stream::iter(
        large.chunks(1000).map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec())).collect::<Vec<_>>(),
    );
    assert_eq!(world.answer(reqwest::Body::wrap_stream(stream)).await.0, 413, "unknown length");
    let bomb = gzip(&vec![b' '; 10 << 20]);
    assert_eq!(read(world.post(bomb).header("content-encoding", "gzip")).await.0, 413, "after decompression");
    assert_eq!(read(world.post(gzip(b"{}")[..10].to_vec()).header("content-encoding", "gzip")).await.0, 400);
    assert_eq!(read(world.post("{}").header("content-encoding", "br")).await.0, 415);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_beyond_its_rate_is_told_when_to_come_again() {
    let key = ApiKey { rate: Some(1), burst: Some(4), ..api_key("slow", "k") };
    let world = World::start(CollectSettings { anonymous: false, keys: vec![key], ..open_door() }).await;
    let send = async || {
        let response = world.post(body_of("d1")).header("x-api-key", "k").send().await.unwrap();
        let wait = response.headers().get("retry-after").map(|value| value.to_str().unwrap().parse::<u64>().unwrap());
        (response.status().as_u16(), wait)
    };
    assert_eq!(send().await, (200, None));
    assert_eq!(send().await, (200, None));
    let (status, wait) = send().await;
    assert_eq!(status, 429);
    assert!(wait.is_some_and(|seconds| (1..=2).contains(&seconds)), "{wait:?}");
    assert_eq!(world.records().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_is_429_and_a_silent_broker_503() {
    let settings = CollectSettings { max_queued_records: 2, ack_timeout: Duration::from_secs(2), ..open_door() };
    let world = World::start(settings).await;
    assert_eq!(world.answer(body_of("d1")).await.0, 200);
    // Requests go out and no answer comes back within the time that a record has.
    world.cluster.broker_round_trip_time(1, Duration::from_mins(1)).unwrap();
    let first = tokio::spawn(read(world.post(body_of("d1"))));
    while !world.metrics.render().contains("tidemill_collect_queued_records 2\n") {
        tokio::task::yield_now().await;
    }
    let full = world.post(body_of("d1")).send().await.unwrap();
    assert_eq!((full.status().as_u16(), full.headers().contains_key("retry-after")), (429, true));
    let (status, answer) = first.await.unwrap();
    assert_eq!(status, 503, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_refuses_once_is_asked_again() {
    let world = World::start(open_door()).await;
    world.cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS]);
    assert_eq!(world.answer(body_of("d1")).await.0, 200);
    assert_eq!(world.records().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_answers_open_requests_and_ends() {
    let world = World::start(open_door()).await;
    world.cluster.broker_round_trip_time(1, Duration::from_millis(300)).unwrap();
    let open = tokio::spawn(read(world.post(body_of("d1"))));
    while !world.metrics.render().contains("tidemill_collect_queued_records 2\n") {
        tokio::task::yield_now().await;
    }
    world.cancel.cancel();
    assert_eq!(open.await.unwrap().0, 200);
    world.served.await.unwrap().unwrap();
    assert!(world.http.get(format!("http://{}/healthz", world.address)).send().await.is_err(), "the door is closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_readiness_and_metrics_are_served() {
    let world = World::start(open_door()).await;
    let get = async |path: &str| {
        let response = world.http.get(world.url(path)).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    assert_eq!(get("/healthz").await, (200, "ok\n".to_owned()));
    assert_eq!(get("/readyz").await, (200, "ready\n".to_owned()));
    world.answer(body_of("d1")).await;
    world.answer("broken").await;
    let (status, page) = get("/metrics").await;
    assert_eq!(status, 200);
    for line in [
        "tidemill_collect_requests_total{route=\"/sensor-logger\",status=\"200\"} 1",
        "tidemill_collect_requests_total{route=\"/sensor-logger\",status=\"400\"} 1",
        "tidemill_collect_records_total{outcome=\"accepted\"} 2",
        "tidemill_collect_queued_records 0",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} is missing in\n{page}");
    }
    world.clock.set_us(NOW_US);
}

#[tokio::test(flavor = "multi_thread")]
async fn https_is_spoken_with_the_certificate_of_the_settings() {
    let file = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tests/tls").join(name);
    let tls = Some(TlsFiles { certificate: file("test.crt"), key: file("test.key") });
    let world = World::start(CollectSettings { tls, ..open_door() }).await;
    let url = format!("https://localhost:{}{ROUTE}", world.address.port());
    let answer = read(world.http.post(url).body(body_of("d1"))).await;
    assert_eq!(answer, (200, json!({"accepted": 2, "rejected": []})));
    assert!(world.http.post(world.url(ROUTE)).body("{}").send().await.is_err(), "plain text is not answered");
}
