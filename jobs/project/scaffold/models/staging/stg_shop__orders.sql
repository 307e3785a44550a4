select
    order_id,
    customer_id,
    status,
    amount,
    event_at as ordered_at,
    event_date as order_date
from {{ source('shop', 'orders') }}
