with

entry_events as (
    select distinct sleep_entry_id as id
    from {{ ref('stg_zentry__sleep_entry_events') }}
    where event <> 'sleep_entry_deleted'
),

exported_entries as (
    select distinct sleep_entry_id as id
    from {{ ref('stg_zentry_snapshot__sleep_entries') }}
),

follow_events as (
    select distinct follow_id as id
    from {{ ref('stg_zentry__follow_events') }}
    where event = 'follow_created' and follow_id is not null
),

exported_follows as (
    select distinct follow_id as id
    from {{ ref('stg_zentry_snapshot__follows') }}
),

final as (
    select
        'sleep_entries' as table_name,
        coalesce(entry_events.id, exported_entries.id) as id,
        case
            when exported_entries.id is null then 'events'
            else 'snapshot'
        end as present_in
    from entry_events
    full join exported_entries on entry_events.id = exported_entries.id
    where entry_events.id is null or exported_entries.id is null

    union all

    select
        'follows' as table_name,
        coalesce(follow_events.id, exported_follows.id) as id,
        case
            when exported_follows.id is null then 'events'
            else 'snapshot'
        end as present_in
    from follow_events
    full join exported_follows on follow_events.id = exported_follows.id
    where follow_events.id is null or exported_follows.id is null
)

select * from final
