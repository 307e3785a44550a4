with

final as (
    select user_id
    from {{ ref('zentry_follow_counts') }}
    where is_celebrity
)

select * from final
