{# What Kafka and `ingest` know of a record beside its payload: the columns that tables of events end with in the warehouse
   (`extra` are the fields that the contract does not know; the rest is null for records of files, but for the last). #}
{% macro record_columns() -%}
    _extra as extra,
    _topic as kafka_topic,
    _partition as kafka_partition,
    _offset as kafka_offset,
    _timestamp as kafka_timestamp,
    _ingested_at as ingested_at
{%- endmacro %}

{# Lateness of a record as exact seconds, `lateness_us` in macros/time.sql. #}
{% macro lateness_s() -%}
    {{ micros_to_seconds(lateness_us('event_at', '_timestamp')) }}
{%- endmacro %}
