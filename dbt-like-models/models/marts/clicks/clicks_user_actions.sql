with

final as (
    select
        event_id,
        user_id,
        action,
        occurred_at,
        session_id,
        page,
        properties,
        experiment_id,
        variant,
        extra,
        event_key,
        kafka_topic,
        kafka_partition,
        kafka_offset,
        kafka_timestamp,
        ingested_at
    from {{ ref('stg_clicks__user_actions') }}
)

select * from final
