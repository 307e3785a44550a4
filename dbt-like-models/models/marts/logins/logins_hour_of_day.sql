with

logins as (
    select event_at, readable_timestamp, hour_of_day
    from {{ ref('logins_enriched') }}
),

final as (
    select
        cast(substr(readable_timestamp, 1, 10) as date) as local_date,
        hour_of_day,
        count(*) as logins
    from logins
    group by local_date, hour_of_day
)

select * from final
