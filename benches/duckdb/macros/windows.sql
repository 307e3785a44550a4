{# Rows of a raw table. #}
{% macro raw(table) -%}
    read_parquet('{{ var(table) }}/*.parquet', hive_partitioning = false)
{%- endmacro %}

{# Start of the window of so many seconds that holds an instant; arithmetic, which is the quickest way that DuckDB has. #}
{% macro tumble(expression, seconds) -%}
    make_timestamp(epoch_us({{ expression }}) - epoch_us({{ expression }}) % {{ seconds * 1000000 }})
{%- endmacro %}

{# Whether an event was sent later than the grace allows. #}
{% macro is_late() -%}
    epoch_us(_timestamp) - epoch_us(event_at) > {{ var('grace_s') * 1000000 }}
{%- endmacro %}

{# The first instant that an incremental run computes again, from the newest hour of a model. #}
{% macro since(relation, column) -%}
    (
        select
            coalesce(
                date_trunc('hour', max({{ column }})) - interval '{{ var("lookback_hours") }} hours', timestamp '1970-01-01'
            )
        from {{ relation }}
    )
{%- endmacro %}

{# The same as an instant with zone, to compare with columns of the raw tables so that row groups are left out. #}
{% macro since_instant(relation, column) -%}
    (select make_timestamptz(epoch_us({{ since(relation, column) }})))
{%- endmacro %}
