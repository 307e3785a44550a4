//! What becomes of a body: the records, and what the answer says of them.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn each_reading_becomes_a_record_with_its_numbers_as_they_came() {
    let world = World::start(open_door()).await;
    let body = r#"{"messageId":17,"sessionId":"s1","deviceId":"d1","payload":[
        {"name":"accelerometer","time":1741521605000000000,"accuracy":3,"values":{"x":3.0,"y":4.0,"z":0.0}},
        {"name":"accelerometer","time":1741521605000000001,"x":1e0,"y":0.10000000000000000001,"z":-0},
        {"name":"light","time":1741521605000000002,"values":{"lux":7}},
        {"name":"magnetometer","time":1741521605000000003,"values":{"x":1,"bias":0.5,"y":2,"z":3}}]}"#;
    assert_eq!(world.answer(body).await, (200, json!({"accepted": 4, "rejected": []})));
    let values: Vec<String> = world
        .records()
        .into_iter()
        .map(|(key, value)| {
            assert_eq!(key, "d1");
            value
        })
        .collect();
    insta::assert_snapshot!(values.join("\n"), @r#"
    {"message_id":17,"session_id":"s1","device_id":"d1","sensor":"accelerometer","time":1741521605000000000,"x":3.0,"y":4.0,"z":0.0,"values":null}
    {"message_id":17,"session_id":"s1","device_id":"d1","sensor":"accelerometer","time":1741521605000000001,"x":1e0,"y":0.10000000000000000001,"z":-0,"values":null}
    {"message_id":17,"session_id":"s1","device_id":"d1","sensor":"light","time":1741521605000000002,"x":null,"y":null,"z":null,"values":{"lux":7}}
    {"message_id":17,"session_id":"s1","device_id":"d1","sensor":"magnetometer","time":1741521605000000003,"x":1,"y":2,"z":3,"values":{"bias":0.5}}
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn ga7_broken_readings_are_sent_and_listed_as_rejected() {
    let world = World::start(open_door()).await;
    let time = 1_741_521_605_000_000_000_i64;
    let body = json!({"sessionId": "s1", "deviceId": "d1", "payload": [
        {"name": "accelerometer", "time": time, "values": {"x": 1, "y": 2}},
        {"name": "accelerometer", "time": time, "values": {"x": "fast", "y": 2, "z": 3}},
        {"time": time, "values": {"x": 1, "y": 2, "z": 3}},
        {"name": "accelerometer", "values": {"x": 1, "y": 2, "z": 3}},
        {"name": "accelerometer", "time": "yesterday", "values": {"x": 1, "y": 2, "z": 3}},
        {"name": "accelerometer", "time": 1_741_521_605, "values": {"x": 1, "y": 2, "z": 3}},
        "no object",
        {"name": "totalacceleration", "time": time, "values": {"x": 1, "y": 2}},
        {"name": "Accelerometer", "time": time, "values": {}}]});
    let (status, answer) = world.answer(body.to_string()).await;
    assert_eq!((status, &answer["accepted"]), (200, &json!(2)));
    let rejected: Vec<String> = answer["rejected"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| format!("{} {}", entry["index"], entry["error"].as_str().unwrap()))
        .collect();
    insta::assert_snapshot!(rejected.join("\n"), @r"
    0 missing_field: `z` is required
    1 wrong_type: `x` is a text
    2 missing_field: `sensor` is required
    3 missing_field: `time` is required
    4 bad_event_time: `time` is no time
    5 event_time_out_of_range: `time` is too old, or ahead of the clock
    6 missing_field: `sensor` is required
    ");
    let records = world.records();
    assert_eq!(records.len(), 9, "quarantine keeps what was refused");
    assert!(records.iter().any(|(_, value)| value.contains(r#""values":"no object""#)), "{records:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_payload_is_the_apps_connection_test() {
    let world = World::start(open_door()).await;
    let answer = world.answer(r#"{"messageId":1,"sessionId":"s","deviceId":"d","payload":[]}"#).await;
    assert_eq!(answer, (200, json!({"accepted": 0, "rejected": []})));
    assert_eq!(world.records(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gzip_body_is_the_same_body() {
    let world = World::start(open_door()).await;
    let packed = gzip(example().to_string().as_bytes());
    let answer = read(world.post(packed).header("content-encoding", "gzip")).await;
    assert_eq!(answer, (200, json!({"accepted": 2, "rejected": []})));
    assert_eq!(world.records().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_envelope_is_refused_by_the_field_that_is_wrong() {
    let world = World::start(open_door()).await;
    let mut said = Vec::new();
    for body in [
        "not json",
        "[]",
        "\u{0}",
        r#"{"deviceId":"d","payload":[]}"#,
        r#"{"sessionId":"s","payload":[]}"#,
        r#"{"sessionId":"s","deviceId":"d"}"#,
        r#"{"sessionId":"","deviceId":"d","payload":[]}"#,
        r#"{"sessionId":"s","deviceId":7,"payload":[]}"#,
        r#"{"sessionId":"s","deviceId":"d","payload":{}}"#,
        r#"{"sessionId":"s","deviceId":null,"payload":[]}"#,
    ] {
        let (status, answer) = world.answer(body).await;
        let error = &answer["error"];
        let reason = error["reason"].as_str().unwrap().split(": ").next().unwrap().to_owned();
        said.push(format!("{status} {} {reason}", error["field"].as_str().unwrap_or("-")));
    }
    insta::assert_snapshot!(said.join("\n"), @r"
    400 - the body is not a JSON object of the app
    400 - the body is not a JSON object of the app
    400 - the body is not a JSON object of the app
    400 sessionId `sessionId` is required
    400 deviceId `deviceId` is required
    400 payload `payload` is required
    400 sessionId `sessionId` is empty
    400 deviceId `deviceId` must be a text
    400 payload `payload` must be a list
    400 deviceId `deviceId` is required
    ");
    assert_eq!(world.records(), []);
}
