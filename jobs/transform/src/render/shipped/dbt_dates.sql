{# dbt's cross-database macros about time. `datepart` is a word: day, month, … #}

{% macro date_trunc(datepart, date) -%}
    date_trunc('{{ datepart | lower }}', {{ date }})
{%- endmacro %}

{% macro dateadd(datepart, interval, from_date_or_timestamp) -%}
    dateadd('{{ datepart | lower }}', {{ interval }}, {{ from_date_or_timestamp }})
{%- endmacro %}

{# Borders between two times, as dbt counts: from 23:59 to 00:01 is one day. #}
{% macro datediff(first_date, second_date, datepart) -%}
    datediff('{{ datepart | lower }}', {{ first_date }}, {{ second_date }})
{%- endmacro %}

{% macro last_day(date, datepart) -%}
    cast(dateadd('day', -1, dateadd('{{ datepart | lower }}', 1, date_trunc('{{ datepart | lower }}', {{ date }}))) as date)
{%- endmacro %}

{% macro date(year, month, day) -%}
    make_date({{ year }}, {{ month }}, {{ day }})
{%- endmacro %}

{% macro current_timestamp() -%}
    now()
{%- endmacro %}

{% macro current_timestamp_in_utc() -%}
    now()
{%- endmacro %}

{% macro current_timestamp_backcompat() -%}
    now()
{%- endmacro %}

{% macro current_timestamp_in_utc_backcompat() -%}
    now()
{%- endmacro %}

{% macro snapshot_get_time() -%}
    now()
{%- endmacro %}

{% macro convert_timezone(column, target_tz, source_tz='UTC') -%}
    local_ts({{ column }}, {{ target_tz }})
{%- endmacro %}
