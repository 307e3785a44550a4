//! HTTP to Kafka: the activity system's front door.
