with

final as (
    select
        event_id,
        transaction_id,
        user_id,
        kind,
        status,
        amount,
        currency,
        occurred_at,
        extra,
        event_key,
        kafka_topic,
        kafka_partition,
        kafka_offset,
        kafka_timestamp,
        ingested_at
    from {{ ref('stg_clicks__transactions') }}
)

select * from final
