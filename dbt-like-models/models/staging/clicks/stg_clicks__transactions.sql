with

source as (
    select * from {{ source('clicks', 'transactions') }}
),

final as (
    select
        _key as event_key,
        event_id,
        transaction_id,
        user_id,
        kind,
        status,
        amount,
        currency,
        event_at as occurred_at,
        {{ lateness_s() }} as lateness_s,
        {{ record_columns() }}
    from source
)

select * from final
