//! Maps [`KafkaSettings`](crate::config::KafkaSettings) to librdkafka, once for all rooms.

use rdkafka::ClientConfig;

use crate::config::KafkaSettings;

/// Builds a client configuration from the user's properties alone; callers add what their role demands.
#[must_use]
pub fn client_config(settings: &KafkaSettings) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("client.id", "tidemill");
    for (key, value) in &settings.properties {
        config.set(key, value.expose_secret());
    }
    config
}
