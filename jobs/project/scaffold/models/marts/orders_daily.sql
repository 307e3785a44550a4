select
    order_date,
    status,
    count(*) as orders,
    count(distinct customer_id) as customers,
    sum(amount) as amount
from {{ ref('stg_shop__orders') }}
group by order_date, status
